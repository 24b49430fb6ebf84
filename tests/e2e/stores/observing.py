"""Observes a store: what it takes, keeps, gives back and finds."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.e2e.stores.store import Found, Sample, Store, decode, name_score

TOP_K = 10
TOLERANCES = {"float32": 1e-5, "float16": 2e-3, "int8": 1e-4, "binary": 1e-4}
"""Of scores: what rounding of values, and of sums in the type of the values, may cost."""
AT_ROW = 3
"""Where a row that is unlike others stands."""


class Observer:
    """Runs one kind of store.

    Args:
        kind: The store.
        sample: Vectors of a live server.
        folder: Where it may keep files.
    """

    def __init__(self, kind: type[Store], sample: Sample, folder: Path) -> None:
        self._kind, self._sample = kind, sample
        self._folder = folder
        self._rows = sample.rows[kind.dtype]
        self._queries = sample.queries[kind.dtype]
        self._tolerance = getattr(kind, "tolerance", TOLERANCES[kind.dtype])
        self._numbers = itertools.count()

    def observe(self) -> dict[str, str]:
        """The cells of the store's row."""
        with self._kind.opened(self._folder) as session:
            self._session = session
            return {
                "version": self._make(Store.create).version(),
                "ours": self._kind.dtype,
                "score": self._score(Store.create),
                "default": self._default(),
                "returned": self._returned(),
                "bits": self._bits(),
                "exact": "yes" if self._kind.is_exact else "no",
                "overlap": self._overlap(),
                "length": self._length(),
                "zeros": self._odd_row(0.0),
                "NaN": self._odd_row(np.nan),
                "limits": self._make(Store.create).limits(),
            }

    def _make(self, opening: Callable[[Store], None]) -> Store:
        store = self._kind(self._session, f"vectors{next(self._numbers)}", self._sample.dim)
        getattr(store, opening.__name__)()
        return store

    def _filled(self, rows: NDArray[Any], opening: Callable[[Store], None] = Store.create) -> Store:
        store = self._make(opening)
        store.fill(rows)
        return store

    def _score(self, opening: Callable[[Store], None]) -> str:
        """Of rows of different lengths, which tell formulas apart."""
        rows = self._rows
        if self._kind.dtype in ("float32", "float16"):
            lengths = 1 - 0.02 * (np.arange(len(rows)) % 10)
            rows = (rows * lengths[:, np.newaxis]).astype(rows.dtype)
        store = self._filled(rows, opening)
        query, decoded = self._queries[0], decode(rows, self._kind.dtype)
        found = store.find(query, TOP_K)
        return name_score(decode(query, self._kind.dtype), decoded, found, self._tolerance)

    def _default(self) -> str:
        try:
            return self._score(Store.create_default)
        except LookupError:
            return "none"

    def _returned(self) -> str:
        read = self._filled(self._rows).read(len(self._rows))
        return compare(self._rows, read)

    def _bits(self) -> str:
        vectors = self._sample.rows["float32"]
        made = self._make(Store.create).own_bits(vectors)
        if made is None:
            return ""
        ours = np.packbits(vectors > 0, axis=1)
        assert np.mean(ours == self._sample.rows["binary"]) > 0.99
        if np.array_equal(made, ours):
            return "as ours"
        assert np.array_equal(made, np.packbits(vectors > 0, axis=1, bitorder="little"))
        return "first value in the lowest bit"

    def _overlap(self) -> str:
        """Share of the ten best of float32; exact stores find ten best of their own dtype."""
        store = self._filled(self._rows)
        found = [store.find(query, TOP_K)[0] for query in self._queries]
        if self._kind.is_exact:
            for ids, cosines in zip(found, self._cosines(self._kind.dtype), strict=True):
                assert cosines[ids].min() >= np.sort(cosines)[-TOP_K] - self._tolerance, "not exact"
        best = [np.argsort(-cosines)[:TOP_K] for cosines in self._cosines("float32")]
        return f"{np.mean(list(map(_share, found, best))):.2f}"

    def _cosines(self, dtype: str) -> NDArray[np.float64]:
        """(Q, n): of every query with every row; packed signs are ranked as by Hamming distance."""
        rows, queries = (
            decode(part[dtype], dtype) for part in (self._sample.rows, self._sample.queries)
        )
        unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (queries, rows)]
        return unit[0] @ unit[1].T

    def _length(self) -> str:
        """What a row twice as long as another one becomes."""
        if self._kind.dtype not in ("float32", "float16"):
            return ""
        rows = self._rows.copy()
        rows[AT_ROW] *= 2
        plain, longer = self._filled(self._rows), self._filled(rows)
        query = self._rows[AT_ROW]
        before, after = (_score_of(AT_ROW, store.find(query, TOP_K)) for store in (plain, longer))
        assert before is not None
        assert after is not None
        changes = (
            "no part" if np.isclose(before, after, atol=self._tolerance) else "part of the score"
        )
        kept = compare(rows, longer.read(len(rows)))
        return changes if kept == self._returned() else f"{changes}; {kept}"

    def _odd_row(self, value: float) -> str:
        """What becomes of a row of zeros or NaN, and of the others beside it."""
        if np.isnan(value) and self._kind.dtype in ("int8", "binary"):
            return ""
        rows, query = self._rows.copy(), self._queries[0]
        rows[AT_ROW] = value
        usual = len(self._filled(self._rows).find(query, len(rows))[0])
        try:
            store = self._filled(rows)
            found, best = store.find(query, len(rows)), store.find(query, TOP_K)
        except Exception as exc:
            return f"refused: `{type(exc).__name__}`"
        # Threads build a graph in any order: it may not reach a row or two, whatever is in it.
        lost = "" if len(found[0]) >= 0.9 * usual else "; others are lost"
        return f"{self._say(_score_of(AT_ROW, found), AT_ROW in best[0])}{lost}"

    def _say(self, score: float | None, is_first: bool) -> str:
        if score is None:
            return "not found"
        if self._kind.dtype == "binary":
            return "as any other row"
        if np.isnan(score) and not self._kind.is_exact:
            return "score NaN, at **any place**"  # chance: a graph's, which threads build
        shown = "NaN" if np.isnan(score) else f"{score:.3g}"
        return f"**among the first**, score {shown}" if is_first else f"score {shown}"


def compare(given: NDArray[Any], read: NDArray[Any]) -> str:
    """How what comes back differs from what went in."""
    read = np.asarray(read)
    assert read.shape == given.shape, (read.shape, given.shape)
    if np.array_equal(given, read.astype(given.dtype)):
        return "equal"
    wide, found = given.astype(np.float64), read.astype(np.float64)
    if np.allclose(found, wide, atol=1e-6):
        return "last bits differ"
    if np.allclose(found, wide / np.linalg.norm(wide, axis=1, keepdims=True), atol=1e-6):
        return "comes back of unit length"
    if np.array_equal(to_bfloat16(given), read.astype(np.float32)):
        return "rounded to bfloat16"
    worst = np.abs(found - wide).max()
    return f"off by up to {worst:.1g}"


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rounded to 8 bits of fraction, to nearest even."""
    bits = values.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32)


def _share(found: NDArray[np.int64], best: NDArray[np.int64]) -> float:
    return len(set(found.tolist()) & set(best.tolist())) / len(best)


def _score_of(row: int, found: Found) -> float | None:
    ids, scores = found
    places = np.flatnonzero(ids == row)
    return float(scores[places[0]]) if len(places) else None
