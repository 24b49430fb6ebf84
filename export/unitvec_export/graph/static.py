"""A table of static embeddings as a body: each token has one vector, whatever is beside it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

_IR_VERSION = 9  # of onnx 1.15 and later, which all onnxruntimes since 1.17 read


def static_body(table: npt.NDArray[np.float32], *, opset: int) -> onnx.ModelProto:
    """A graph from input_ids and attention_mask (B, S) to token vectors (B, S, H) float32.

    Args:
        table: (vocabulary, H).
        opset: Version of ONNX's operator set.
    """
    value, axes = helper.make_tensor_value_info, ["batch", "sequence"]
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["token_embeddings"], name="tokens")],
        "unitvec",
        [value(name, TensorProto.INT64, axes) for name in ("input_ids", "attention_mask")],
        [value("token_embeddings", TensorProto.FLOAT, [*axes, table.shape[1]])],
        [numpy_helper.from_array(table, "table")],
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = _IR_VERSION
    return model
