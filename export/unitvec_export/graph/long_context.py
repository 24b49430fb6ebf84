"""Attention in blocks of queries, so that no run holds (heads, S, S) scores in memory at once.

    scores (B, heads, S, S) = queries keys^T + mask        for S = 8,192 and 12 heads 3 GiB, twice
    context = softmax(scores) values

Each query's row of scores is independent of the others, so a loop over blocks of at most `BLOCK`
queries computes the same with (B, heads, BLOCK, S) at a time: memory grows with S, not with its
square. Short texts take one turn of the loop, which costs some 20 us a layer, so only models with
long contexts get it.

Heads are independent too. Of a text of more than a block a turn takes one head, whose scores stay
in a CPU's cache from the product to the softmax to the next product. A mask that hides nothing, as
that of a text which runs alone, is not added, since x + 0 = x. At 8,192 tokens both together save a
fifth of attention. Half precision is for GPUs, which want few and large steps instead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from unitvec_export.graph.wiring import Dims, Wiring, attribute, new_node

LONG_TOKENS = 512
"""Models that read more than this get attention in blocks: at 512 tokens and 12 heads scores are
12 MiB, which is no burden."""

BLOCK = 256
"""Queries in a block. (256, 8,192) scores of one head are 8 MiB. On Zen 4, 16 MiB of cache a core,
attention took 349 us a token with blocks of 128, 333 with 256 and 338 with 512."""

_HEAD_AXIS, _QUERY_AXIS, _KEY_AXIS = 1, 2, 3

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
    A turn takes one block of all heads, or of one of them: h heads, in heads / h groups.
    """
    queries = attention.scores.input[0]
    constants = {name: wiring.add_constant(f"unitvec/blocks/{name}", v) for name, v in _VALUES}
    body = _Body(wiring, attention, root, constants)
    nodes = [
        *_sizes(queries, root, constants),
        *_groups(queries, root, constants, is_split=body.splits_heads),
        *body.before,
        *(_padded(name, root, constants) for name in body.padded),
        new_node("Loop", [f"{root}/turns", constants["true"]], f"{root}/blocks", body=body.graph()),
        # (groups * n, B, h, C, d) -> (groups, n, B, h, C, d) -> (B, groups, h, n, C, d)
        # -> (B, heads, n * C, d) -> (B, heads, S, d)
        new_node("Shape", [f"{root}/blocks"], f"{root}/one", start=1),
        new_node(
            "Concat", [f"{root}/groups", f"{root}/count", f"{root}/one"], f"{root}/apart", axis=0
        ),
        new_node("Reshape", [f"{root}/blocks", f"{root}/apart"], f"{root}/grouped"),
        new_node("Transpose", [f"{root}/grouped"], f"{root}/in_order", perm=[2, 0, 3, 1, 4, 5]),
        new_node("Shape", [queries], f"{root}/kept", start=0, end=_QUERY_AXIS),
        new_node("Shape", [f"{root}/in_order"], f"{root}/width", start=5, end=6),
        new_node(
            "Concat", [f"{root}/kept", f"{root}/all_rows", f"{root}/width"], f"{root}/shape", axis=0
        ),
        new_node("Reshape", [f"{root}/in_order", f"{root}/shape"], f"{root}/joined"),
        new_node(
            "Slice",
            [f"{root}/joined", constants["zeros"], f"{root}/size", constants["rows"]],
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
    ("heads", np.array([_HEAD_AXIS], np.int64)),
    ("rows", np.array([_QUERY_AXIS], np.int64)),
    ("both", np.array([_HEAD_AXIS, _QUERY_AXIS], np.int64)),
    ("true", np.array(True)),
)


def _sizes(queries: str, root: str, constants: Mapping[str, str]) -> list[onnx.NodeProto]:
    """Nodes for S, n, C and n * C, each (1,)."""
    ones, block = constants["ones"], constants["block"]
    return [
        new_node("Shape", [queries], f"{root}/size", start=_QUERY_AXIS, end=_QUERY_AXIS + 1),
        *_ceil_div(f"{root}/size", block, ones, f"{root}/count"),
        *_ceil_div(f"{root}/size", f"{root}/count", ones, f"{root}/rows"),
        new_node("Mul", [f"{root}/rows", f"{root}/count"], f"{root}/all_rows"),
        new_node("Sub", [f"{root}/all_rows", f"{root}/size"], f"{root}/missing"),
        new_node("Concat", [constants["zeros"], f"{root}/missing"], f"{root}/pads", axis=0),
    ]


def _groups(
    queries: str, root: str, constants: Mapping[str, str], *, is_split: bool
) -> list[onnx.NodeProto]:
    """Nodes for h and heads / h, each (1,), and the number of turns, a scalar."""
    heads, h = f"{root}/heads", f"{root}/heads_a_turn"
    choice = new_node("Identity", [heads], h)
    if is_split:
        choice = new_node("Where", [f"{root}/is_long", constants["ones"], heads], h)
    return [
        new_node("Shape", [queries], heads, start=_HEAD_AXIS, end=_HEAD_AXIS + 1),
        new_node("Greater", [f"{root}/count", constants["ones"]], f"{root}/is_long"),
        choice,
        new_node("Div", [heads, h], f"{root}/groups"),
        new_node("Mul", [f"{root}/groups", f"{root}/count"], f"{root}/all_turns"),
        new_node("Squeeze", [f"{root}/all_turns"], f"{root}/turns"),
    ]


def _ceil_div(value: str, by: str, ones: str, output: str) -> list[onnx.NodeProto]:
    return [
        new_node("Add", [value, by], f"{output}/sum"),
        new_node("Sub", [f"{output}/sum", ones], f"{output}/dividend"),
        new_node("Div", [f"{output}/dividend", by], output),
    ]


def _padded(name: str, root: str, constants: Mapping[str, str]) -> onnx.NodeProto:
    """Adds rows of zeros along the queries, which the last step takes away again."""
    inputs = [name, f"{root}/pads", "", constants["rows"]]
    return new_node("Pad", inputs, _padded_name(root, name))


def _padded_name(root: str, name: str) -> str:
    return f"{root}/padded/{name}"


class _Body:
    """The loop's body: one block of queries, of all heads or of one, through the chain.

    Args:
        wiring: The graph.
        attention: The chain.
        root: Prefix of names.
        constants: Names of constants outside.

    Attributes:
        splits_heads: Whether long texts take one head a turn: on CPUs, where it is known which
            values have heads.
        padded: Values outside that have a row for each query.
        before: Nodes outside that the body needs.
    """

    def __init__(
        self, wiring: Wiring, attention: _Attention, root: str, constants: Mapping[str, str]
    ) -> None:
        self._wiring = wiring
        self._root = f"{root}/turn"
        self._outer = root
        self._constants = constants
        queries, keys = attention.scores.input
        values = attention.mix.input[1]
        added = [n for node in attention.between for n in node.input if n not in _made(attention)]
        is_for_cpu = wiring.is_float(queries)
        self.splits_heads = is_for_cpu and all(map(self._tells_heads, (keys, values, *added)))
        self.padded: list[str] = []
        self.before: list[onnx.NodeProto] = []
        self._blocks: dict[str, str] = {}
        self._nodes = self._bounds()
        self._inner = {queries: self._part(queries, has_rows=True)}
        self._inner |= {name: self._part(name, has_rows=False) for name in (keys, values)}
        self._inner |= {name: self._block_of(name) for name in added}
        self._add_chain(attention, mask=_key_mask(wiring, attention) if is_for_cpu else None)

    def _bounds(self) -> list[onnx.NodeProto]:
        """Nodes for the first and the last head and row of a turn, each (1,), and of both (2,)."""
        root, outer = self._root, self._outer
        nodes = [new_node("Identity", [f"{root}/go_on"], f"{root}/goes_on")]
        parts = (("rows", "Mod", "rows"), ("heads", "Div", "heads_a_turn"))
        for axis, op, size in parts if self.splits_heads else parts[:1]:
            number, start, end = (f"{root}/{axis}_{name}" for name in ("number", "start", "end"))
            nodes += [
                new_node(op, [f"{root}/index", f"{outer}/count"], number),
                new_node("Mul", [number, f"{outer}/{size}"], start),
                new_node("Add", [start, f"{outer}/{size}"], end),
            ]
        for name in ("start", "end") if self.splits_heads else ():
            inputs = [f"{root}/heads_{name}", f"{root}/rows_{name}"]
            nodes.append(new_node("Concat", inputs, f"{root}/both_{name}", axis=0))
        return nodes

    def _add_chain(self, attention: _Attention, *, mask: str | None) -> None:
        """Copies the nodes of an attention with their values of one block."""
        chain = [attention.scores, *attention.between]
        last = None if mask is None else chain.pop()
        self._nodes += [self._copy(node) for node in chain]
        if mask is None or last is None:
            self._nodes.append(self._copy(attention.softmax))
        else:
            self._nodes.append(self._softmax_if_hidden(last, attention.softmax, mask))
        self._nodes.append(self._copy(attention.mix))
        self._result = self._inner[attention.mix.output[0]]

    def _softmax_if_hidden(
        self, add: onnx.NodeProto, softmax: onnx.NodeProto, mask: str
    ) -> onnx.NodeProto:
        """The softmax, of sums with the mask only where it hides anything."""
        hides = f"{self._outer}/hides"
        self.before += [
            new_node("Cast", [mask], f"{hides}/each", to=TensorProto.BOOL),
            new_node("Cast", [f"{hides}/each"], f"{hides}/number", to=TensorProto.INT32),
            new_node("ReduceMax", [f"{hides}/number"], f"{hides}/any", keepdims=0),
            new_node("Cast", [f"{hides}/any"], hides, to=TensorProto.BOOL),
        ]
        masked = [self._copy(add), self._copy(softmax)]
        [scores] = [name for name in add.input if name != mask]
        plain = new_node("Softmax", [self._inner[scores]], f"{masked[1].output[0]}/plain", axis=-1)
        masked[1].output[0] += "/masked"
        return new_node(
            *("If", [hides], self._inner[softmax.output[0]]),
            then_branch=_branch(masked),
            else_branch=_branch([plain]),
        )

    def _copy(self, node: onnx.NodeProto) -> onnx.NodeProto:
        self._inner[node.output[0]] = f"{self._root}/{node.output[0]}"
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = f"{self._root}/{node.name}"
        copy.input[:] = [self._inner.get(name, name) for name in node.input]
        copy.output[:] = [self._inner[node.output[0]]]
        return copy

    def _block_of(self, name: str) -> str:
        """The part for this turn of any value: made here of smaller ones, where it can be."""
        dims = self._dims(name)
        if dims is None or len(dims) != 4:
            return name
        node = self._wiring.producer(name)
        if dims[_QUERY_AXIS] == 1 or node is None or node.op_type not in _ELEMENTWISE:
            return self._part(name, has_rows=dims[_QUERY_AXIS] != 1)
        if dims[_KEY_AXIS] == 1 or not all(map(self._tells_heads, node.input)):
            return self._part(name, has_rows=True)
        if name not in self._blocks:
            self._blocks[name] = f"{self._root}/block/{name}"
            inputs = [self._block_of(part) for part in node.input]
            self._nodes.append(new_node(node.op_type, inputs, self._blocks[name]))
        return self._blocks[name]

    def _part(self, name: str, *, has_rows: bool) -> str:
        """The rows and heads of this turn of a value outside (B, heads or 1, rows or keys, ...)."""
        dims = self._dims(name)
        has_heads = self.splits_heads and dims is not None and dims[_HEAD_AXIS] != 1
        if not has_rows and not has_heads:
            return name
        if name not in self._blocks:
            self._blocks[name] = f"{self._root}/block/{name}"
            axes = "both" if has_rows and has_heads else "rows" if has_rows else "heads"
            source = _padded_name(self._outer, name) if has_rows else name
            bounds = [f"{self._root}/{axes}_start", f"{self._root}/{axes}_end"]
            inputs = [source, *bounds, self._constants[axes]]
            self._nodes.append(new_node("Slice", inputs, self._blocks[name]))
            self.padded += [name] if has_rows else []
        return self._blocks[name]

    def _tells_heads(self, name: str) -> bool:
        """Whether it is known if a value has heads, and how many."""
        dims = self._dims(name)
        if dims is None or len(dims) == 3:
            return False
        return len(dims) < 3 or (len(dims) == 4 and isinstance(dims[_HEAD_AXIS], int))

    def _dims(self, name: str) -> Dims | None:
        constant = self._wiring.constant(name)
        return self._wiring.dims(name) if constant is None else constant.shape

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


def _branch(nodes: Sequence[onnx.NodeProto]) -> onnx.GraphProto:
    """Nodes as a branch that gives what the last of them makes."""
    result = nodes[-1].output[0]
    return helper.make_graph(nodes, result, [], [onnx.ValueInfoProto(name=result)])


def _key_mask(wiring: Wiring, attention: _Attention) -> str | None:
    """The mask of keys (B, 1, 1, S) that is added to the scores last, if one is."""
    if not attention.between or attention.between[-1].op_type != "Add":
        return None
    names: list[str] = list(attention.between[-1].input)
    for name in names:
        dims = wiring.dims(name)
        is_outside = name not in _made(attention) and wiring.constant(name) is None
        if is_outside and dims is not None and len(dims) == 4 and dims[1:3] == (1, 1):
            return name
    return None


def _made(attention: _Attention) -> set[str]:
    """Names of the scores before the softmax."""
    return {node.output[0] for node in (attention.scores, *attention.between)}
