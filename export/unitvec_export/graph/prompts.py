"""Graphs that leave prompts out of pooling: they are told by the ids which tokens are a prompt's.

A token that pooling leaves out comes as -1 - id. So each text carries what becomes of its prompt,
and nothing on its way to the graph has to know: two texts are the same if their ids are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from unitvec_export.graph.wiring import subgraphs
from unitvec_export.pipeline.tail import ATTENDED, POOLED

_IDS, _TOKEN_IDS = "input_ids", "unitvec/token_ids"
_MINUS_ONE = np.array(-1, np.int64)


def take_marked_ids(model: onnx.ModelProto) -> None:
    """Lets a graph take ids that may be marked, and adds the mask (B, S) int64 `POOLED`."""
    graph = model.graph
    for node in graph.node:
        _read_unmarked(node)
    nodes = [
        _node("Sub", ["unitvec/minus_one", _IDS], "unitvec/unmarked"),
        # Of an id and -1 - id one is negative, and the other is the id.
        _node("Max", [_IDS, "unitvec/unmarked"], _TOKEN_IDS),
        _node("Less", ["unitvec/minus_one", _IDS], "unitvec/is_pooled"),
        _node("Cast", ["unitvec/is_pooled"], "unitvec/is_pooled_int", to=TensorProto.INT64),
        _node("Mul", [ATTENDED, "unitvec/is_pooled_int"], POOLED),
    ]
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
    graph.initializer.append(numpy_helper.from_array(_MINUS_ONE, "unitvec/minus_one"))


def _read_unmarked(node: onnx.NodeProto) -> None:
    for index, name in enumerate(node.input):
        if name == _IDS:
            node.input[index] = _TOKEN_IDS
    for graph in subgraphs(node):
        for inner in graph.node:
            _read_unmarked(inner)


def _node(op: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], name=f"{output}_node", **attributes)
