"""The view of a graph that it is rewritten by."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto, helper

from unitvec_export.graph.wiring import Wiring


def test_a_graph_that_shapes_cannot_be_told_of_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shape inference of onnxruntime writes such a graph down in the current folder."""
    monkeypatch.chdir(tmp_path)
    graph = helper.make_graph(
        [helper.make_node("Foreign", ["x"], ["y"], domain="foreign")],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("foreign", 1)]
    wiring = Wiring(helper.make_model(graph, opset_imports=opsets))
    assert wiring.dims("x") == ("B", 4)
    assert not list(tmp_path.iterdir())
