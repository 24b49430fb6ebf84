"""Compares vectors: pairs, all with all, and the best k of many.

COSINE and DOT are similarities (higher is closer); EUCLIDEAN and MANHATTAN are distances
(lower is closer) and are returned as such.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from unitvec_server.vectors.packing import Floats, l2_normalize

_BLOCK_VALUES = 4_000_000
"""Values of temporary memory in one step (16 MB as float32)."""


class Metric(enum.Enum):
    """How two vectors are compared."""

    COSINE = "cosine"
    DOT = "dot"
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"

    @property
    def lower_is_closer(self) -> bool:
        """Whether the metric is a distance."""
        return self in (Metric.EUCLIDEAN, Metric.MANHATTAN)


class Rankings(NamedTuple):
    """The best documents of Q queries, best first; equal scores rank by index.

    Attributes:
        indices: (Q, k) int64.
        scores: (Q, k) float32.
    """

    indices: npt.NDArray[np.int64]
    scores: Floats


def prepare(vectors: Floats, metric: Metric) -> Floats:
    """Does once for each vector what the metric needs: unit length for COSINE."""
    return l2_normalize(vectors) if metric is Metric.COSINE else vectors


def pair_scores(a: Floats, b: Floats, metric: Metric) -> Floats:
    """Scores a_i against b_i: two prepared (n, D) -> (n,)."""
    if metric is Metric.EUCLIDEAN:
        return _l2(a - b)
    if metric is Metric.MANHATTAN:
        return _l1(a - b)
    return _clip(np.einsum("nd,nd->n", a, b), metric)


def cross_scores(queries: Floats, documents: Floats, metric: Metric) -> Floats:
    """Scores all with all: prepared (Q, D) and (N, D) -> (Q, N)."""
    if metric is Metric.EUCLIDEAN:
        return _by_difference(queries, documents, _l2)
    if metric is Metric.MANHATTAN:
        return _by_difference(queries, documents, _l1)
    return _clip(queries @ documents.T, metric)


def top_k(queries: Floats, documents: Floats, metric: Metric, k: int) -> Rankings:
    """The best k documents of each query: prepared (Q, D) and (N, D) -> (Q, min(k, N)).

    Takes memory for Q * N scores: callers bound Q.
    """
    k = min(k, len(documents))
    indices = np.empty((len(queries), k), np.int64)
    scores = np.empty((len(queries), k), np.float32)
    for row, line in enumerate(cross_scores(queries, documents, metric)):
        best = _best(line if metric.lower_is_closer else -line, k)
        indices[row] = best
        scores[row] = line[best]
    return Rankings(indices, scores)


def _best(costs: Floats, k: int) -> npt.NDArray[np.intp]:
    """Indices of the k lowest costs, ascending; ties go to the lower index."""
    if k < len(costs):
        worst = np.partition(costs, k - 1)[k - 1]
        below = np.flatnonzero(costs < worst)
        ties = np.flatnonzero(costs == worst)[: k - len(below)]
        chosen = np.sort(np.concatenate([below, ties]))
    else:
        chosen = np.arange(len(costs))
    return chosen[np.argsort(costs[chosen], kind="stable")]


def _clip(scores: Floats, metric: Metric) -> Floats:
    """Rounding can carry a cosine past 1."""
    return np.clip(scores, -1.0, 1.0) if metric is Metric.COSINE else scores


def _by_difference(
    queries: Floats, documents: Floats, length: Callable[[Floats], Floats]
) -> Floats:
    """Lengths of q - d, in blocks: the shorter q^2 + d^2 - 2qd loses all digits of near twins."""
    scores = np.empty((len(queries), len(documents)), np.float32)
    block = max(1, _BLOCK_VALUES // documents.shape[1])
    for row, query in enumerate(queries):
        for start in range(0, len(documents), block):
            part = slice(start, start + block)
            scores[row, part] = length(documents[part] - query)
    return scores


def _l1(gap: Floats) -> Floats:
    lengths: Floats = np.abs(gap).sum(axis=-1)
    return lengths


def _l2(gap: Floats) -> Floats:
    lengths: Floats = np.linalg.norm(gap, axis=-1)
    return lengths
