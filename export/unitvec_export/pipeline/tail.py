"""The steps of a pipeline, appended to a graph."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

from unitvec_export.pipeline.dense import Dense, project
from unitvec_export.pipeline.nodes import Nodes
from unitvec_export.pipeline.norms import Cut, LayerNorm, Normalize, cut, layer_norm, normalize
from unitvec_export.pipeline.pooling import Pooling, TokenVectors, pool

Step = Pooling | Dense | LayerNorm | Normalize | Cut
"""What a module computes."""

OUTPUT = "embeddings"
ATTENDED = "attention_mask"
"""Name of the mask (B, S) int64 of a text's tokens."""
POOLED = "unitvec/pooled_tokens"
"""Name of that of the tokens that count, in graphs that leave prompts out of pooling."""


def append(model: onnx.ModelProto, steps: Sequence[Step], *, dim: int) -> None:
    """Lets the one output of a graph go on through steps, in place.

    Args:
        model: Graph of token vectors (B, S, H) or, without a Pooling to come, of vectors (B, H),
            float32.
        steps: What follows.
        dim: Dimension D of what comes out.
    """
    if not steps:
        return
    graph = model.graph
    opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    nodes = Nodes(opset=opset)
    before = graph.output[0]
    batch = before.type.tensor_type.shape.dim[0].dim_param or "batch"
    value = _rename(graph, before.name)
    for step in steps:
        value = _add(nodes, value, step)
    nodes.write(graph, last=value, output=OUTPUT)
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [batch, dim]))


def _rename(graph: onnx.GraphProto, name: str) -> str:
    """Gives the output a name that is not yet that of the result."""
    renamed = f"unitvec/{name}"
    for node in graph.node:
        for names in (node.input, node.output):
            for index, each in enumerate(names):
                if each == name:
                    names[index] = renamed
    return renamed


def _add(nodes: Nodes, value: str, step: Step) -> str:
    match step:
        case Pooling():
            pooled = ATTENDED if step.include_prompt else POOLED
            return pool(nodes, TokenVectors(value, ATTENDED, pooled), step)
        case Dense():
            return project(nodes, value, step)
        case LayerNorm():
            return layer_norm(nodes, value, step)
        case Normalize():
            return normalize(nodes, value)
        case Cut():
            return cut(nodes, value, step.dim)
