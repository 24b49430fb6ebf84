"""Scales and biases of attention as part of weights: exact but for rounding.

    softmax(s (x Wq + bq) (x Wk + bk)^T + mask) (x Wv + bv) Wo + bo      becomes
    softmax((x sWq + sbq) (x Wk)^T + mask) (x Wv) Wo + (bv Wo + bo)

A scale can be part of weights; a constant added to all scores of a query changes no softmax;
and the rows of a softmax sum to 1.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np
import onnx

from unitvec_export.graph.wiring import Wiring, attribute, is_linear, splits_heads


def fold_attention(wiring: Wiring) -> None:
    """Moves scales and biases of attention into weights."""
    for softmax in [node for node in wiring.nodes if node.op_type == "Softmax"]:
        scores = _scores(wiring, softmax.input[0]) if _is_over_keys(wiring, softmax) else None
        if scores is not None:
            _fold_scales(wiring, scores)
            _drop_key_bias(wiring, scores)
            _move_value_bias(wiring, softmax)


def _is_over_keys(wiring: Wiring, softmax: onnx.NodeProto) -> bool:
    return len(wiring.dims(softmax.input[0]) or ()) == 4 and attribute(softmax, "axis") in (-1, 3)


def _scores(wiring: Wiring, name: str) -> onnx.NodeProto | None:
    """The product of queries and keys that a value is, scaled and masked at most."""
    node = wiring.producer(name)
    if node is None:
        return None
    if node.op_type == "MatMul":
        return node if all(wiring.constant(part) is None for part in node.input) else None
    if node.op_type == "Add" or _scalar(wiring, node) is not None:
        found = (_scores(wiring, part) for part in node.input)
        return next((scores for scores in found if scores is not None), None)
    return None


@dataclasses.dataclass(frozen=True)
class _Heads:
    """(B, heads, S, d) or a transpose of it, made of token vectors.

    Attributes:
        product: Token vectors times constant weights (H, heads * d).
        bias: The node that adds a constant (heads * d,) to it, if there is one.
        scalings: Nodes after both that multiply or divide by a number.
    """

    product: onnx.NodeProto
    bias: onnx.NodeProto | None
    scalings: list[onnx.NodeProto]


def _heads(wiring: Wiring, name: str) -> _Heads | None:
    """What heads are made of, if nothing else reads what comes between."""
    scalings: list[onnx.NodeProto] = []
    bias = None
    while (node := wiring.producer(name)) is not None and wiring.only_consumer(name) is not None:
        if node.op_type == "MatMul":
            return _Heads(node, bias, scalings) if is_linear(wiring, node) else None
        if bias is None and _scalar(wiring, node) is not None:
            scalings.append(node)
        elif bias is None and node.op_type == "Add" and _constant_of(wiring, node) is not None:
            bias = node  # what scales before it would not scale it
        elif node.op_type != "Transpose" and not splits_heads(wiring, node):
            return None
        name = _varying(wiring, node)
    return None


def _scalar(wiring: Wiring, node: onnx.NodeProto) -> float | None:
    """The number by which a node scales."""
    parts = [wiring.constant(name) for name in node.input]
    if node.op_type == "Mul":
        found = [part for part in parts if part is not None and part.size == 1]
        return float(found[0].item()) if len(found) == 1 else None
    if node.op_type == "Div" and parts[0] is None and parts[1] is not None and parts[1].size == 1:
        return 1 / float(parts[1].item())
    return None


def _varying(wiring: Wiring, node: onnx.NodeProto) -> str:
    """Of what a node reads, the first that is not constant."""
    names: Iterable[str] = node.input
    return next(name for name in names if wiring.constant(name) is None)


def _fold_scales(wiring: Wiring, scores: onnx.NodeProto) -> None:
    """Scales of queries, keys and scores become part of what makes the queries."""
    queries, keys = _heads(wiring, scores.input[0]), _heads(wiring, scores.input[1])
    if queries is None or keys is None:
        return
    scalings = [*queries.scalings, *keys.scalings, *_scalings_after(wiring, scores)]
    # Weights that several layers share would be multiplied by as many.
    if not scalings or len(wiring.consumers(queries.product.input[1])) > 1:
        return
    scale = math.prod(_scalar(wiring, node) or 0 for node in scalings)
    _scale_constant(wiring, queries.product, scale)
    if queries.bias is not None:
        _scale_constant(wiring, queries.bias, scale)
    for node in scalings:
        _remove(wiring, node)


def _scalings_after(wiring: Wiring, scores: onnx.NodeProto) -> list[onnx.NodeProto]:
    found: list[onnx.NodeProto] = []
    node = wiring.only_consumer(scores.output[0])
    while node is not None and _scalar(wiring, node) is not None:
        found.append(node)
        node = wiring.only_consumer(node.output[0])
    return found


def _scale_constant(wiring: Wiring, node: onnx.NodeProto, scale: float) -> None:
    index, value = next(
        (index, value)
        for index, name in enumerate(node.input)
        if (value := wiring.constant(name)) is not None
    )
    scaled = (value * scale).astype(value.dtype)
    node.input[index] = wiring.add_constant(f"{node.output[0]}/scaled", scaled)


def _remove(wiring: Wiring, node: onnx.NodeProto) -> None:
    """Takes a node out: who read what it made reads what it varied."""
    wiring.redirect(node.output[0], _varying(wiring, node))
    wiring.nodes.remove(node)


def _drop_key_bias(wiring: Wiring, scores: onnx.NodeProto) -> None:
    keys = _heads(wiring, scores.input[1])
    if keys is not None and keys.bias is not None:
        _remove(wiring, keys.bias)


def _move_value_bias(wiring: Wiring, softmax: onnx.NodeProto) -> None:
    """To the bias of the product after attention."""
    mix = wiring.only_consumer(softmax.output[0])
    if mix is None or mix.op_type != "MatMul" or mix.input[0] != softmax.output[0]:
        return
    values, output = _heads(wiring, mix.input[1]), _output_product(wiring, mix)
    if values is None or values.bias is None or values.scalings or output is None:
        return
    moved, added = _constant_of(wiring, values.bias), wiring.only_consumer(output.output[0])
    weights = wiring.constant(output.input[1])
    if added is None or added.op_type != "Add" or moved is None or weights is None:
        return
    bias = _constant_of(wiring, added)
    if bias is None or moved.shape != weights.shape[:1]:
        return
    name = next(name for name in added.input if wiring.constant(name) is not None)
    joined = bias + (moved.astype(np.float64) @ weights).astype(bias.dtype)
    added.input[list(added.input).index(name)] = wiring.add_constant(
        f"{added.output[0]}/bias", joined
    )
    _remove(wiring, values.bias)


def _output_product(wiring: Wiring, mix: onnx.NodeProto) -> onnx.NodeProto | None:
    """The product with constant weights that reads the joined heads."""
    node = wiring.only_consumer(mix.output[0])
    if node is None or node.op_type != "Transpose" or attribute(node, "perm") != [0, 2, 1, 3]:
        return None
    node = wiring.only_consumer(node.output[0])
    if node is None or node.op_type != "Reshape" or len(wiring.dims(node.output[0]) or ()) != 3:
        return None
    node = wiring.only_consumer(node.output[0])
    if node is None or node.op_type != "MatMul" or not is_linear(wiring, node):
        return None
    return node


def _constant_of(wiring: Wiring, node: onnx.NodeProto) -> np.ndarray | None:
    """The one-dimensional constant that a node adds."""
    constants = [wiring.constant(name) for name in node.input]
    return next((value for value in constants if value is not None and value.ndim == 1), None)
