#!/usr/bin/env bash
# Versions: onnxruntime 1.31.1, onnx 1.23.2, sympy 1.14.0 (Python 3.11).
# Guess: `SymbolicShapeInference.infer_shapes` reads a model in memory, and where it does not understand an operator it
#   returns what it knows, or raises.
# Seen: it raises, and before that saves the whole model, weights apart, in the current folder of the process, under
#   names that nobody asked for. A service that calls it on models of others fills its folder with copies of them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  onnxruntime==1.31.1 onnx==1.23.2 sympy==1.14.0 numpy==2.4.6
mkdir "$folder/current"
cd "$folder/current"
ORT_DISABLE_TELEMETRY=1 "$folder/env/bin/python" - <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

weights = numpy_helper.from_array(np.ones((256, 256), np.float32), "weights")
graph = helper.make_graph(
    [
        helper.make_node("MatMul", ["x", "weights"], ["y"]),
        helper.make_node("Custom", ["y"], ["z"], domain="example"),
    ],
    "graph",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 256])],
    [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    [weights],
)
opsets = [helper.make_opsetid("", 17), helper.make_opsetid("example", 1)]
raised = ""
try:
    SymbolicShapeInference.infer_shapes(helper.make_model(graph, opset_imports=opsets))
except Exception as exc:
    raised = f"{type(exc).__name__}: {exc}"
sizes = [path.stat().st_size for path in Path().iterdir()]
print(f"raised {raised or 'nothing'}")
print(f"files left in the current folder: {len(sizes)}, {sum(sizes):,} bytes")
sys.exit(0 if raised and sum(sizes) > 256 * 256 * 4 else 1)
PYTHON
