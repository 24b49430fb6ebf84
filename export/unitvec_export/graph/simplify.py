"""fp32 body -> the same function in fewer, cheaper nodes. Each step is exact but for rounding.

fold       sizes that the trace asks for at run time and that never change become constants;
           conversions from float32 to float32 go
masks      those that are the same for every query become (B, 1, 1, S); others are made of positions
attention  scales and biases become part of weights
flatten    token vectors (B, S, K) become rows (B * S, K)

Steps that do not match an architecture leave it alone. On two AVX-512 cores they make
all-MiniLM-L6-v2 1.05 to 1.09 times as fast in fp32.
"""

from __future__ import annotations

import functools

import numpy as np
import onnx
from onnx import TensorProto

from unitvec_export.graph.attention import fold_attention
from unitvec_export.graph.flatten import flatten
from unitvec_export.graph.masks import rewrite_masks
from unitvec_export.graph.weights import copy_graph
from unitvec_export.graph.wiring import Dims, Wiring, attribute, subgraphs


def simplify(body: onnx.ModelProto, *, max_tokens: int) -> onnx.ModelProto:
    """Rewrites a body; `body` itself is not changed.

    Args:
        body: Graph from input_ids and attention_mask (B, S) to token vectors (B, S, H).
        max_tokens: Longest text of the model, or the longest at which its masks need be looked at.
    """
    model = copy_graph(body)
    if any(True for node in body.graph.node for _ in subgraphs(node)):
        return model  # names that branches read from outside cannot be followed
    masks = functools.partial(rewrite_masks, max_tokens=max_tokens)
    for step in (fold, masks, fold_attention, flatten):
        wiring = Wiring(model)
        step(wiring)
        wiring.write()
    return model


def fold(wiring: Wiring) -> None:
    """Makes constants of all that follows from known sizes and other constants."""
    for node in list(wiring.nodes):
        value = _known_value(wiring, node)
        if _changes_nothing(wiring, node):
            wiring.redirect(node.output[0], node.input[0])
            wiring.nodes.remove(node)
        elif value is not None:
            wiring.add_constant(node.output[0], value)
            wiring.nodes.remove(node)


def _changes_nothing(wiring: Wiring, node: onnx.NodeProto) -> bool:
    """Whether it makes float32 of float32: softmax and norms of many models ask for it."""
    is_cast = node.op_type == "Cast" and attribute(node, "to") == TensorProto.FLOAT
    return is_cast and wiring.is_float(node.input[0]) and node.output[0] not in wiring.outputs


def _known_value(wiring: Wiring, node: onnx.NodeProto) -> np.ndarray | None:
    if node.op_type in ("Slice", "Gather"):
        source = wiring.producer(node.input[0])
        if source is not None and source.op_type == "Shape":
            return _known_sizes(wiring, node, wiring.dims(source.input[0]))
    values = [wiring.constant(name) for name in node.input if name]
    constants = [value for value in values if value is not None]
    # Nothing is gained by computing large values ahead, such as transposed weights twice.
    if len(constants) < len(values) or not values or max(v.size for v in constants) > 64:
        return None
    return _evaluate(node, dict(zip(filter(None, node.input), constants, strict=True)))


def _known_sizes(wiring: Wiring, node: onnx.NodeProto, dims: Dims | None) -> np.ndarray | None:
    """What a node takes of a shape, if all it takes is known."""
    others = [wiring.constant(name) for name in node.input[1:]]
    if dims is None or any(value is None for value in others):
        return None
    unknown = -1  # no size is negative
    sizes = np.array([dim if isinstance(dim, int) else unknown for dim in dims], np.int64)
    inputs = dict(zip(node.input, [sizes, *others], strict=True))
    taken = _evaluate(node, inputs)
    return None if taken is None or (taken == unknown).any() else taken


def _evaluate(node: onnx.NodeProto, inputs: dict[str, np.ndarray]) -> np.ndarray | None:
    from onnx.reference import ReferenceEvaluator

    try:
        return np.asarray(ReferenceEvaluator(node).run(None, inputs)[0])
    except Exception:  # noqa: BLE001 - an operator it does not know stays in the graph
        return None
