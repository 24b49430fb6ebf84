"""Pooling: the token vectors of a text become one, as sentence-transformers' Pooling does it.

Rows are padded on the right. A text without tokens, and one whose every token is left out, pools
to zeros: neither the length of other texts nor what a model makes of padding can reach it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np

from unitvec_export.pipeline.nodes import Nodes

_MIN_COUNT = 1e-9
"""Lower bound of divisors, that of sentence-transformers."""
_LOWEST = np.finfo(np.float32).min


@dataclasses.dataclass(frozen=True)
class Pooling:
    """A Pooling module.

    Attributes:
        modes: What is computed, in the words of sentence-transformers; several are concatenated.
        include_prompt: Whether a prompt's tokens count.
    """

    modes: tuple[str, ...]
    include_prompt: bool = True


@dataclasses.dataclass(frozen=True)
class TokenVectors:
    """Names of the values that pooling starts from.

    Attributes:
        vectors: (B, S, H) float32.
        attended: (B, S) int64: 1 for each token of a text, 0 for padding.
        pooled: (B, S) int64: 1 for each token that counts.
    """

    vectors: str
    attended: str
    pooled: str


def pool(nodes: Nodes, tokens: TokenVectors, pooling: Pooling) -> str:
    """Adds the nodes of a Pooling: the name of (B, len(modes) * H) float32."""
    pooler = _Pooler(nodes, tokens)
    found = [_MODES[mode](pooler) for mode in pooling.modes]
    return found[0] if len(found) == 1 else nodes.add("Concat", found, axis=-1)


class _Pooler:
    """One method for each mode; what several need is computed once."""

    def __init__(self, nodes: Nodes, tokens: TokenVectors) -> None:
        self._nodes = nodes
        self._tokens = tokens

    @cached_property
    def _mask(self) -> str:
        """(B, S) float32 of 0 and 1."""
        return self._nodes.to_float(self._tokens.pooled)

    @cached_property
    def _count(self) -> str:
        """(B, 1): how many tokens count."""
        return self._nodes.sum(self._mask, 1, keepdims=True)

    @cached_property
    def _divisor(self) -> str:
        return self._nodes.add("Max", [self._count, self._nodes.floats(_MIN_COUNT)])

    @cached_property
    def _masked(self) -> str:
        """(B, S, H): zeros for what does not count, whatever a model made of it."""
        return self._masked_by(0.0)

    @cached_property
    def _sum(self) -> str:
        return self._nodes.sum(self._masked, 1)

    @cached_property
    def _positions(self) -> str:
        """(B, S) float32: 1 for the first token of a text, and so on."""
        attended = self._nodes.to_float(self._tokens.attended)
        return self._nodes.add("CumSum", [attended, self._nodes.integers(1)])

    def _masked_by(self, value: float) -> str:
        mask = self._nodes.to_bool(self._nodes.expand(self._tokens.pooled))
        return self._nodes.add("Where", [mask, self._tokens.vectors, self._nodes.floats(value)])

    def _where_any(self, mask: str, vectors: str) -> str:
        """Zeros for each text of which `mask` (B, S) int64 has no token."""
        has_any = self._nodes.to_bool(self._nodes.sum(mask, 1, keepdims=True))
        return self._nodes.add("Where", [has_any, vectors, self._nodes.floats(0.0)])

    def _pick(self, index: str) -> str:
        """The token vectors (B, H) at places (B, 1) int64."""
        return self._nodes.add("GatherND", [self._tokens.vectors, index], batch_dims=1)

    def mean(self) -> str:
        return self._nodes.add("Div", [self._sum, self._divisor])

    def mean_of_root(self) -> str:
        root = self._nodes.add("Sqrt", [self._divisor])
        return self._nodes.add("Div", [self._sum, root])

    def weighted_mean(self) -> str:
        """Weights are places in the row, from 1 on; a prompt that is left out still takes some."""
        nodes = self._nodes
        weights = nodes.add("Mul", [self._positions, self._mask])  # (B, S)
        weighted = nodes.add("Mul", [self._masked, nodes.expand(weights)])
        total = nodes.sum(weights, 1, keepdims=True)
        divisor = nodes.add("Max", [total, nodes.floats(_MIN_COUNT)])
        return nodes.add("Div", [nodes.sum(weighted, 1), divisor])

    def largest(self) -> str:
        return self._where_any(
            self._tokens.pooled, self._nodes.max(self._masked_by(float(_LOWEST)), 1)
        )

    def first(self) -> str:
        """The first token that counts; the first of all if none does."""
        nodes, tokens = self._nodes, self._tokens
        if tokens.pooled == tokens.attended:
            found = nodes.add("Gather", [tokens.vectors, nodes.integers(0)], axis=1)
        else:
            # As float32: int64 has no ArgMax on CUDA.
            found = self._pick(nodes.add("ArgMax", [self._mask], axis=1, keepdims=1))
        return self._where_any(tokens.attended, found)

    def last(self) -> str:
        """The last token of a text, which counts unless the prompt is all that there is."""
        nodes, tokens = self._nodes, self._tokens
        length = nodes.sum(tokens.attended, 1, keepdims=True)  # (B, 1)
        before = nodes.add("Sub", [length, nodes.integers(1)])
        index = nodes.add("Max", [before, nodes.integers(0)])
        return self._where_any(tokens.pooled, self._pick(index))


_MODES: Mapping[str, Callable[[_Pooler], str]] = {
    "mean": _Pooler.mean,
    "cls": _Pooler.first,
    "max": _Pooler.largest,
    "mean_sqrt_len_tokens": _Pooler.mean_of_root,
    "weightedmean": _Pooler.weighted_mean,
    "lasttoken": _Pooler.last,
}
MODES = tuple(_MODES)
