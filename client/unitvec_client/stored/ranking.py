"""The exact best rows for each query, found block by block in bounded memory.

Scores of a block are one product of matrices. What may still be among the best is what is not
worse than the worst of the best so far, so that after the first blocks hardly a row is sorted.
With groups, the best row of each group counts. A group that was dropped comes back with a better
row if it has one: the bound only rises, so none that belongs to the best is ever lost.

Packed signs are first ranked by the number of signs that differ; the best of these, and a number
more, are ranked again by the product of the query's own values with the signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitvec_client.errors import InputError
from unitvec_client.stored.estimates import Estimator
from unitvec_client.stored.rows import BLOCK_VALUES, Block, Rows, value_kind

Floats = NDArray[np.float32]

RESCORED = 8
"""Rows of packed signs that are ranked again, for each hit."""


_FEW = 8
"""Queries up to which each reads the block by itself: for one, OpenBLAS on a shared machine of two
cores took 6 times the CPU time of that, and for 16 as much."""


@dataclass(slots=True)
class Best:
    """The best rows of one query so far, best first; equal scores rank by index.

    Attributes:
        most: Rows that are kept.
        scores: (m,) float32.
        indices: (m,) int64.
        groups: Key of each, where rows are grouped.
        values: Values of each as stored, where they are ranked again.
    """

    most: int
    scores: Floats = field(default_factory=lambda: np.empty(0, np.float32))
    indices: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    groups: list[Any] = field(default_factory=list)
    values: list[NDArray[Any]] = field(default_factory=list)

    def add(self, scores: Floats, block: Block, *, keeps_values: bool) -> None:
        """Take in the scores (n,) of a block; NaN is no row."""
        chosen = self._choose(scores, is_grouped=block.groups is not None)
        if not len(chosen):
            return
        merged = np.concatenate([self.scores, scores[chosen]])
        indices = np.concatenate([self.indices, chosen + block.start])
        order = np.lexsort((indices, -merged))
        if block.groups is not None:
            groups = self.groups + [block.groups[row] for row in chosen]
            order = _first_of_each(order, groups)
        order = order[: self.most]
        if block.groups is not None:
            self.groups = [groups[place] for place in order]
        if keeps_values:
            values = self.values + [block.values[row].copy() for row in chosen]
            self.values = [values[place] for place in order]
        self.scores, self.indices = merged[order], indices[order]

    @property
    def bound(self) -> float:
        """The score that a row must have to be among the best."""
        return float(self.scores[-1]) if len(self.scores) == self.most else -np.inf

    def _choose(self, scores: Floats, *, is_grouped: bool) -> NDArray[np.int64]:
        """Return the rows of a block that may be among the best."""
        with np.errstate(invalid="ignore"):
            chosen = np.flatnonzero(scores >= self.bound)
        if not is_grouped and len(chosen) > self.most:
            found = scores[chosen]
            least = np.partition(found, -self.most)[-self.most]
            chosen = chosen[found >= least]
        return chosen


def _first_of_each(order: NDArray[np.int64], groups: Sequence[Any]) -> NDArray[np.int64]:
    seen: set[Any] = set()
    kept = [place for place in order if not (groups[place] in seen or seen.add(groups[place]))]  # type: ignore[func-returns-value]
    return np.array(kept, np.int64)


def rank(
    rows: Rows, queries: Floats, *, top_k: int, metric: str, group_by: str | None = None
) -> list[Best]:
    """Return the best rows for each query (Q, D).

    Args:
        rows: Stored vectors. Those that are missing, NaN or infinite are passed over.
        queries: Finite vectors.
        top_k: Hits for each query, at most.
        metric: ``cosine``, in which a vector of zeros has score 0 with all, or ``dot``.
        group_by: What rows of one text have in common; each such group is one hit.

    Raises:
        InputError: If the rows do not fit the queries or the metric, or the file is damaged.
    """
    best = [Best(top_k) for _ in queries]
    prepared = normalize(queries) if metric == "cosine" else queries
    most_rows = BLOCK_VALUES // max(1, len(queries))
    are_few = metric == "cosine" and len(queries) <= _FEW
    estimators = [Estimator(query) for query in prepared] if are_few else []
    is_binary = False
    for block in rows.blocks(group_by, most_rows):
        kind = value_kind(block.values.dtype, rows.name)
        if kind == "binary" and not is_binary:
            is_binary = True
            best = [Best(top_k * RESCORED) for _ in queries]
        if block.missing is not None and block.missing.all():
            continue
        _check(rows, block, queries, kind=kind, metric=metric)
        if is_binary:
            scores = _sign_scores(block, prepared)
        elif estimators:
            scores = _cosines(block.values, prepared, best, estimators)
        else:
            scores = _scores(block.values, prepared, metric)
        if block.missing is not None:
            scores[:, block.missing] = np.nan
        for found, row in zip(best, scores, strict=True):
            found.add(row, block, keeps_values=is_binary)
    if is_binary:
        best = [_rescore(found, query, top_k) for found, query in zip(best, prepared, strict=True)]
    return best


def _check(rows: Rows, block: Block, queries: Floats, *, kind: str, metric: str) -> None:
    dim = block.values.shape[1] * (8 if kind == "binary" else 1)
    if dim != queries.shape[1]:
        raise InputError(
            f"{rows.name} has vectors of {dim} dimensions, the queries have {queries.shape[1]}: "
            "ask the model that made them, with the same dimensions"
        )
    if metric == "dot" and kind in ("int8", "binary"):
        raise InputError(f"{rows.name} holds {kind} without scales: metric cosine compares them")


def normalize(vectors: Floats) -> Floats:
    """Scale vectors (n, D) to unit length; zeros stay."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Floats = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return unit


def _cosines(
    values: NDArray[Any], queries: Floats, best: Sequence[Best], estimators: Sequence[Estimator]
) -> Floats:
    """Cosines (Q, n); NaN where a row is not finite, or is known not to be among the best."""
    hopeful = [
        estimator.hopeful(values, found.bound)
        for estimator, found in zip(estimators, best, strict=True)
    ]
    scores = np.full((len(queries), len(values)), np.nan, np.float32)
    for row, query, places in zip(scores, queries, hopeful, strict=True):
        if places is None:
            return _scores(values, queries, "cosine")
        row[places] = _scores(values[places], query[np.newaxis], "cosine")[0]
    return scores


def _scores(values: NDArray[Any], queries: Floats, metric: str) -> Floats:
    """Scores (Q, n); NaN where a row is not finite."""
    values = np.ascontiguousarray(values, np.float32)
    with np.errstate(all="ignore"):
        scores = _products(queries, values)
        if metric == "cosine":
            norms = np.sqrt(np.einsum("nd,nd->n", values, values))
            scores /= np.where(norms > 0, norms, 1)
            np.clip(scores, -1, 1, out=scores)
    scores[~np.isfinite(scores)] = np.nan
    return scores


def _products(queries: Floats, values: Floats) -> Floats:
    """Every query with every row (Q, n)."""
    if len(queries) > _FEW:
        products: Floats = queries @ values.T
        return products
    return np.stack([np.einsum("nd,d->n", values, query) for query in queries])


def _sign_scores(block: Block, queries: Floats) -> Floats:
    """How many signs are alike (Q, n); NaN for rows of zeros, as those that failed are stored."""
    signs = np.packbits(queries > 0, axis=1)
    values = np.ascontiguousarray(block.values)
    dim = queries.shape[1]
    scores = np.empty((len(queries), len(values)), np.float32)
    for row, query in zip(scores, signs, strict=True):
        row[:] = dim - _count_bits(values ^ query)
    scores[:, ~values.any(axis=1)] = np.nan
    return scores


def _count_bits(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Set bits of each row (n,)."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        wide: NDArray[Any] = values.view(np.uint64) if values.shape[1] % 8 == 0 else values
        bits = np.bitwise_count(wide)
    else:
        bits = np.unpackbits(values, axis=1)
    counts: NDArray[np.int64] = bits.sum(axis=1, dtype=np.int64)
    return counts


def _rescore(found: Best, query: Floats, top_k: int) -> Best:
    """Rank packed signs by the cosine of the query with the vector of signs."""
    if not found.values:
        return Best(top_k)
    signs = np.unpackbits(np.stack(found.values), axis=1).astype(np.float32) * 2 - 1
    scores = np.clip(signs @ query / np.sqrt(np.float32(len(query))), -1, 1)
    order = np.lexsort((found.indices, -scores))[:top_k]
    groups = [found.groups[place] for place in order] if found.groups else []
    return Best(top_k, scores[order], found.indices[order], groups)
