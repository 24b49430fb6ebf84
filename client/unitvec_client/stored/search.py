"""Hits of queries among stored vectors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitvec_client.errors import InputError
from unitvec_client.expectation import Expectation
from unitvec_client.results import StoredHit
from unitvec_client.stored.files import open_rows
from unitvec_client.stored.ranking import Floats, normalize, rank
from unitvec_client.stored.rows import Rows
from unitvec_client.values import check_type, read_count

StoredVectors = str | os.PathLike[str] | NDArray[Any]
"""A file of vectors, or an array of them."""

METRICS = ("cosine", "dot")


@dataclass(frozen=True, slots=True)
class StoredSearch:
    """A search over stored vectors.

    Attributes:
        rows: Stored vectors.
        top_k: Hits for each query, at most.
        metric: One of `METRICS`.
        group_by: What rows of one text have in common; None where each row is a hit.

    Raises:
        InputError: If an option is wrong.
    """

    rows: Rows
    top_k: int = 10
    metric: str = "cosine"
    group_by: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "top_k", read_count("top_k", self.top_k))
        check_type("group_by", self.group_by, (str, type(None)))
        if self.metric not in METRICS:
            raise InputError(f"stored vectors are compared by {' or '.join(METRICS)}")

    def run(
        self, queries: NDArray[Any], *, space: str = "", model: str = ""
    ) -> list[list[StoredHit]]:
        """Return the hits of each query, best first; fewer than top_k where there are fewer.

        Args:
            queries: Vectors (Q, D).
            space: The space that they are of; empty where that is not known.
            model: The model that made them, for the error.

        Raises:
            IdentityMismatchError: If the stored vectors are of another space.
            InputError: If they do not fit the queries, or the file is damaged.
        """
        stored = str(self.rows.about.get("space") or "")
        if stored and space:
            Expectation(space=stored).check(space, "", model)
        queries = self._fit(np.ascontiguousarray(queries, np.float32))
        if not len(queries):
            return []
        found = rank(
            self.rows,
            queries,
            top_k=self.top_k,
            metric=self.metric,
            group_by=self.group_by,
        )
        indices = sorted({int(index) for best in found for index in best.indices})
        return self._hits(
            [(best.indices.tolist(), best.scores.tolist()) for best in found], indices
        )

    def _fit(self, queries: Floats) -> Floats:
        """Cut queries as the stored vectors were, whose file says so."""
        if queries.ndim != 2 or not np.isfinite(queries).all():
            raise InputError(f"queries must be finite vectors (n, D), not {queries.shape}")
        kept = self.rows.about.get("dimensions")
        if not isinstance(kept, int) or not 0 < kept < queries.shape[1]:
            return queries
        return normalize(queries[:, :kept])

    def _hits(
        self, found: Sequence[tuple[list[int], list[float]]], indices: Sequence[int]
    ) -> list[list[StoredHit]]:
        fields = self.rows.describe(indices)
        texts = {index: fields[index].get("text") for index in indices}
        others = {
            index: {name: value for name, value in fields[index].items() if name != "text"}
            for index in indices
        }
        return [
            [
                StoredHit(index, score, texts[index], others[index])
                for index, score in zip(rows, scores, strict=True)
            ]
            for rows, scores in found
        ]


def open_search(
    documents: object,
    vectors: StoredVectors | None,
    *,
    top_k: int,
    metric: str,
    group_by: str | None,
) -> StoredSearch | None:
    """Return a search over stored vectors; None where documents are given.

    Raises:
        InputError: If not one of both is given, or an option is wrong.
        OSError: If a file cannot be read.
    """
    if (documents is None) == (vectors is None):
        raise InputError("give either documents or vectors")
    if vectors is None:
        if group_by is not None:
            raise InputError("group_by is for stored vectors")
        return None
    return StoredSearch(open_rows(vectors), top_k, metric, group_by)
