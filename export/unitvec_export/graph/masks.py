"""Masks (B, 1, S, S) become what they say: which keys a query at a position may attend to.

transformers makes its masks of comparisons of positions, with a row for each query, whatever they
allow. Nearly all of them say one thing, with bounds that may be missing:

    query q attends to key k where k is a real token and q - before <= k <= q + after

A plain encoder has neither bound, a decoder has after = 0, and local attention has both. Without
bounds one row (B, 1, 1, S) is enough: S times less to compute, to add and to hold. With bounds the
mask is made of rows and columns of positions, so that attention in blocks makes it block by block.

What a mask says its operators do not tell, so it is run by itself on a few texts. One that is not
of this form for each of them stays as it is.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from unitvec_export.graph.weights import openable
from unitvec_export.graph.wiring import Wiring, new_node

Mask = npt.NDArray[np.int64]
"""(B, S): 1 for real tokens, 0 for padding."""

MAX_PROBE_TOKENS = 8192
"""Longest text that masks are looked at for: 256 MiB each."""


@dataclasses.dataclass(frozen=True)
class _Rule:
    """What a mask says.

    Attributes:
        allowed: Added to scores of keys that a query may attend to.
        other: Added to all other scores.
        before: So many tokens before a query are the last that it attends to; None is no bound.
        after: The same for those after it.
    """

    allowed: float
    other: float
    before: int | None
    after: int | None

    def applied(self, mask: Mask) -> npt.NDArray[np.float32]:
        """The mask that it makes, (B, 1, S, S) or (B, 1, 1, S)."""
        positions = np.arange(mask.shape[1])
        allowed = mask.astype(bool)[:, None, None, :]
        ahead = positions[None, :] - positions[:, None]  # of key k to query q, (S, S)
        if self.before is not None:
            allowed = allowed & (-ahead <= self.before)
        if self.after is not None:
            allowed = allowed & (ahead <= self.after)
        return np.where(allowed, np.float32(self.allowed), np.float32(self.other))


def rewrite_masks(wiring: Wiring, *, max_tokens: int) -> None:
    """Replaces the masks that follow such a rule.

    Args:
        wiring: The graph.
        max_tokens: Masks are looked at for texts up to this length; a bound that shows only beyond
            it would be lost.
    """
    names = list(dict.fromkeys(_masks(wiring)))
    if not names or not 1 < max_tokens <= MAX_PROBE_TOKENS:
        return
    rules: dict[str, _Rule] = {}
    for mask in _probes(max_tokens):
        for name, value in _run(wiring.part(names), mask).items() if names else ():
            if name not in rules:  # the longest is the first
                rules[name] = _read_rule(value, mask)
            if not np.array_equal(value, np.broadcast_to(rules[name].applied(mask), value.shape)):
                names.remove(name)
    for number, name in enumerate(names):
        _Maker(wiring, f"unitvec/mask_{number}").replace(name, rules[name])


def _masks(wiring: Wiring) -> Iterator[str]:
    """Numbers added to something, with a row for each query and none for each head."""
    for node in wiring.nodes:
        for name in node.input if node.op_type == "Add" else ():
            dims = wiring.dims(name)
            is_square = dims and len(dims) == 4 and dims[1] == 1 and 1 not in dims[2:]
            if is_square and wiring.is_float(name):
                yield name


def _probes(max_tokens: int) -> Iterator[Mask]:
    """Masks of texts, each with padding; the longest is one text alone."""
    for length in sorted({min(length, max_tokens) for length in (2, 7, max_tokens)}, reverse=True):
        mask = np.ones((2 if length < max_tokens else 1, length), np.int64)
        mask[-1, length // 2 if length < max_tokens else -1 :] = 0
        yield mask


def _run(part: onnx.ModelProto, mask: Mask) -> Mapping[str, npt.NDArray[np.float32]]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    with openable(part) as opened:
        session = ort.InferenceSession(opened, options)
    names = [output.name for output in session.get_outputs()]
    feed = {"input_ids": np.ones_like(mask), "attention_mask": mask}
    return dict(zip(names, session.run(names, feed), strict=True))


def _read_rule(value: npt.NDArray[np.float32], mask: Mask) -> _Rule:
    """The rule of a mask, if it has one: the first query sees what is ahead, the last what was."""
    allowed = value[0, 0] == value[0, 0, 0, 0]
    real = np.flatnonzero(mask[0])
    after = int(np.flatnonzero(allowed[0]).max())
    before = len(allowed) - 1 - int(np.flatnonzero(allowed[-1]).min(initial=len(allowed) - 1))
    return _Rule(
        allowed=float(value[0, 0, 0, 0]),
        other=float(value[0, 0, 0, -1]),
        before=None if before == len(allowed) - 1 else before,
        after=None if after == real[-1] else after,
    )


class _Maker:
    """Makes the nodes of a rule.

    Args:
        wiring: The graph.
        root: Prefix of names.
    """

    def __init__(self, wiring: Wiring, root: str) -> None:
        self._wiring = wiring
        self._root = root
        self._nodes: list[onnx.NodeProto] = []

    def replace(self, name: str, rule: _Rule) -> None:
        """Lets all that read a mask read one made by its rule."""
        allowed = self._unsqueeze(
            self._add("Cast", ["attention_mask"], "real", to=TensorProto.BOOL), (1, 2), "row"
        )
        if rule.before is not None or rule.after is not None:
            keys, queries = self._positions()
            for shift, bound in ((rule.before, "before"), (rule.after, "after")):
                if shift is not None:
                    nearer, farther = (queries, keys) if bound == "before" else (keys, queries)
                    limit = self._add("Add", [farther, self._integer(shift, bound)], f"{bound}_to")
                    is_near = self._add("LessOrEqual", [nearer, limit], f"is_{bound}")
                    allowed = self._add("And", [allowed, is_near], f"allowed_{bound}")
        values = [
            self._wiring.add_constant(f"{self._root}/{kind}", np.array(value, np.float32))
            for kind, value in (("some", rule.allowed), ("none", rule.other))
        ]
        made = self._add("Where", [allowed, *values], "mask")
        self._wiring.redirect(name, made)
        self._wiring.nodes[:0] = self._nodes

    def _positions(self) -> tuple[str, str]:
        """0 to S - 1 along the keys, (1, 1, 1, S), and along the queries, (1, 1, S, 1)."""
        length = self._add("Shape", ["input_ids"], "length", start=1, end=2)
        size = self._add("Squeeze", [length], "size")
        bounds = [self._integer(0, "zero"), size, self._integer(1, "one")]
        positions = self._add("Range", bounds, "positions")
        keys = self._unsqueeze(positions, (0, 1, 2), "keys")
        return keys, self._unsqueeze(positions, (0, 1, 3), "queries")

    def _integer(self, value: int, name: str) -> str:
        return self._wiring.add_constant(f"{self._root}/{name}", np.array(value, np.int64))

    def _unsqueeze(self, name: str, axes: tuple[int, ...], output: str) -> str:
        constant = self._wiring.add_constant(f"{self._root}/{output}_axes", np.array(axes))
        return self._add("Unsqueeze", [name, constant], output)

    def _add(self, op: str, inputs: list[str], output: str, **attributes: int) -> str:
        self._nodes.append(new_node(op, inputs, f"{self._root}/{output}", **attributes))
        return f"{self._root}/{output}"
