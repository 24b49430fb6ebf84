"""Attention in blocks of queries, so that no run holds (heads, S, S) scores in memory at once.

    scores (B, heads, S, S) = queries keys^T + mask        for S = 8,192 and 12 heads 3 GiB, twice
    context = softmax(scores) values

Each query's row of scores is independent of the others, so a loop over blocks of at most `BLOCK`
queries computes the same with (B, heads, BLOCK, S) at a time: memory grows with S, not with its
square. Short texts take one turn of the loop, which costs some 20 us a layer, so only models with
long contexts get it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from unitvec_export.graph.wiring import Wiring, attribute, new_node

LONG_TOKENS = 512
"""Models that read more than this get attention in blocks: at 512 tokens and 12 heads scores are
12 MiB, which is no burden."""

BLOCK = 128
"""Queries in a block: (12 heads, 128, 8,192) scores are 48 MiB, and products of 128 rows are as
fast as wider ones."""

_QUERY_AXIS, _KEY_AXIS = 2, 3

_ELEMENTWISE = frozenset({"Add", "And", "LessOrEqual", "Mul", "Where"})
"""Operators that masks are made of: a block of what they make is what they make of blocks."""


@dataclasses.dataclass(frozen=True)
class _Attention:
    """One attention: a chain of nodes from scores to context.

    Attributes:
        scores: The product of queries and keys.
        between: Additions of masks or biases to the scores, in order.
        softmax: Over the keys.
        mix: The product with the values.
    """

    scores: onnx.NodeProto
    between: tuple[onnx.NodeProto, ...]
    softmax: onnx.NodeProto
    mix: onnx.NodeProto


def block_attention(wiring: Wiring) -> int:
    """Replaces each attention by a loop over blocks of queries.

    Returns:
        How many were replaced.
    """
    found = list(_attentions(wiring))
    for number, attention in enumerate(found):
        _replace(wiring, attention, f"unitvec/attention_{number}")
    return len(found)


def _attentions(wiring: Wiring) -> Iterator[_Attention]:
    for softmax in [node for node in wiring.nodes if node.op_type == "Softmax"]:
        dims = wiring.dims(softmax.input[0])
        mix = wiring.only_consumer(softmax.output[0])
        if dims is None or len(dims) != 4 or attribute(softmax, "axis") not in (-1, 3):
            continue
        if mix is None or mix.op_type != "MatMul" or mix.input[0] != softmax.output[0]:
            continue
        between: list[onnx.NodeProto] = []
        node = wiring.producer(softmax.input[0])
        while node is not None and node.op_type in ("Add", "Mul", "Div"):
            between.insert(0, node)
            node = _scores_side(wiring, node)
        if node is not None and node.op_type == "MatMul":
            yield _Attention(node, tuple(between), softmax, mix)


def _scores_side(wiring: Wiring, node: onnx.NodeProto) -> onnx.NodeProto | None:
    """Of what an addition or a scaling reads, the node that leads to the scores alone."""
    for name in node.input:
        producer = wiring.producer(name)
        if producer is None or wiring.only_consumer(name) is not node:
            continue
        if producer.op_type in ("MatMul", "Add", "Mul", "Div"):
            return producer
    return None


def _replace(wiring: Wiring, attention: _Attention, root: str) -> None:
    """Puts the loop where the chain was.

    Of S queries it makes n = ceil(S / BLOCK) blocks of C = ceil(S / n) rows. Queries, and masks
    with a row for each query, are padded to n * C rows, and the padding is cut off at the end.
    """
    queries = attention.scores.input[0]
    constants = {name: wiring.add_constant(f"unitvec/blocks/{name}", v) for name, v in _VALUES}
    nodes = _sizes(queries, root, constants)
    body = _Body(root, constants)
    body.add_chain(wiring, attention)
    nodes += [
        *(_padded(name, root, constants) for name in body.sliced),
        new_node("Loop", [f"{root}/turns", constants["true"]], f"{root}/blocks", body=body.graph()),
        # (n, B, heads, C, d) -> (B, heads, n, C, d) -> (B, heads, n * C, d) -> (B, heads, S, d)
        new_node("Transpose", [f"{root}/blocks"], f"{root}/in_order", perm=[1, 2, 0, 3, 4]),
        new_node("Shape", [f"{root}/in_order"], f"{root}/kept", start=0, end=2),
        new_node("Shape", [f"{root}/in_order"], f"{root}/width", start=4, end=5),
        new_node(
            "Concat", [f"{root}/kept", f"{root}/all_rows", f"{root}/width"], f"{root}/shape", axis=0
        ),
        new_node("Reshape", [f"{root}/in_order", f"{root}/shape"], f"{root}/joined"),
        new_node(
            "Slice",
            [f"{root}/joined", constants["zeros"], f"{root}/size", constants["query_axis"]],
            attention.mix.output[0],
        ),
    ]
    at = wiring.nodes.index(attention.mix)
    wiring.nodes[at : at + 1] = nodes
    for node in (attention.scores, *attention.between, attention.softmax):
        wiring.nodes.remove(node)


_VALUES = (
    ("ones", np.array([1], np.int64)),
    ("zeros", np.array([0], np.int64)),
    ("block", np.array([BLOCK], np.int64)),
    ("query_axis", np.array([_QUERY_AXIS], np.int64)),
    ("true", np.array(True)),
)


def _sizes(queries: str, root: str, constants: Mapping[str, str]) -> list[onnx.NodeProto]:
    """Nodes for S, n, C and n * C, each (1,), and n as a scalar."""
    ones, block = constants["ones"], constants["block"]
    return [
        new_node("Shape", [queries], f"{root}/size", start=_QUERY_AXIS, end=_QUERY_AXIS + 1),
        *_ceil_div(f"{root}/size", block, ones, f"{root}/count"),
        *_ceil_div(f"{root}/size", f"{root}/count", ones, f"{root}/rows"),
        new_node("Mul", [f"{root}/rows", f"{root}/count"], f"{root}/all_rows"),
        new_node("Sub", [f"{root}/all_rows", f"{root}/size"], f"{root}/missing"),
        new_node("Squeeze", [f"{root}/count"], f"{root}/turns"),
        new_node("Concat", [constants["zeros"], f"{root}/missing"], f"{root}/pads", axis=0),
    ]


def _ceil_div(value: str, by: str, ones: str, output: str) -> list[onnx.NodeProto]:
    return [
        new_node("Add", [value, by], f"{output}/sum"),
        new_node("Sub", [f"{output}/sum", ones], f"{output}/dividend"),
        new_node("Div", [f"{output}/dividend", by], output),
    ]


def _padded(name: str, root: str, constants: Mapping[str, str]) -> onnx.NodeProto:
    """Adds rows of zeros along the queries, which the last step takes away again."""
    inputs = [name, f"{root}/pads", "", constants["query_axis"]]
    return new_node("Pad", inputs, _padded_name(root, name))


def _padded_name(root: str, name: str) -> str:
    return f"{root}/padded/{name}"


class _Body:
    """The loop's body: one block of queries through the chain.

    Args:
        root: Prefix of names.
        constants: Names of constants outside.

    Attributes:
        sliced: Values outside that have a row for each query.
    """

    def __init__(self, root: str, constants: Mapping[str, str]) -> None:
        self._root = f"{root}/turn"
        self._outer = root
        self._constants = constants
        self.sliced: list[str] = []
        self._made: set[str] = set()
        self._nodes = [
            new_node("Mul", [f"{self._root}/index", f"{root}/rows"], f"{self._root}/start"),
            new_node("Add", [f"{self._root}/start", f"{root}/rows"], f"{self._root}/end"),
            new_node("Identity", [f"{self._root}/go_on"], f"{self._root}/goes_on"),
        ]

    def add_chain(self, wiring: Wiring, attention: _Attention) -> None:
        """Copies the nodes of an attention with their values of one block."""
        inner = {attention.scores.input[0]: self._slice(attention.scores.input[0])}
        for node in attention.between:
            for name in node.input:
                if name not in _outputs(attention):
                    inner[name] = self._block_of(wiring, name)
        for node in (attention.scores, *attention.between, attention.softmax, attention.mix):
            inner[node.output[0]] = f"{self._root}/{node.output[0]}"
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = f"{self._root}/{node.name}"
            copy.input[:] = [inner.get(name, name) for name in node.input]
            copy.output[:] = [inner[node.output[0]]]
            self._nodes.append(copy)
        self._result = inner[attention.mix.output[0]]

    def _block_of(self, wiring: Wiring, name: str) -> str:
        """The rows of this block of any value: made here of smaller ones, where it can be."""
        dims = wiring.dims(name)
        if dims is None or len(dims) != 4 or dims[_QUERY_AXIS] == 1:
            return name
        node = wiring.producer(name)
        if node is None or node.op_type not in _ELEMENTWISE or dims[_KEY_AXIS] == 1:
            return self._slice(name)
        if self._block(name) not in self._made:
            self._made.add(self._block(name))
            inputs = [self._block_of(wiring, part) for part in node.input]
            self._nodes.append(new_node(node.op_type, inputs, self._block(name)))
        return self._block(name)

    def _slice(self, name: str) -> str:
        """The rows of this block of a value outside."""
        if name not in self.sliced:
            self.sliced.append(name)
            bounds = [f"{self._root}/start", f"{self._root}/end", self._constants["query_axis"]]
            self._nodes.append(
                new_node("Slice", [_padded_name(self._outer, name), *bounds], self._block(name))
            )
        return self._block(name)

    def _block(self, name: str) -> str:
        return f"{self._root}/block/{name}"

    def graph(self) -> onnx.GraphProto:
        """The body as ONNX wants it: turn and condition in, condition and a block out."""
        make = helper.make_tensor_value_info
        inputs = [
            make(f"{self._root}/index", TensorProto.INT64, []),
            make(f"{self._root}/go_on", TensorProto.BOOL, []),
        ]
        block = onnx.ValueInfoProto(name=self._result)  # its type is inferred
        outputs = [make(f"{self._root}/goes_on", TensorProto.BOOL, []), block]
        return helper.make_graph(self._nodes, f"{self._root}", inputs, outputs)


def _outputs(attention: _Attention) -> set[str]:
    return {node.output[0] for node in (attention.scores, *attention.between)}
