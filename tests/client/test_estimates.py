"""Estimates save work and change nothing: hits and scores are those of numpy alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitvec_client.stored import estimates, ranking, rows
from unitvec_client.stored.estimates import Estimator
from unitvec_client.stored.ranking import Best, rank
from unitvec_client.stored.rows import ArrayRows

DIM = 48
DTYPES = ["float16", "int8"]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows are several blocks."""
    monkeypatch.setattr(rows, "BLOCK_VALUES", 16 * DIM)
    monkeypatch.setattr(ranking, "BLOCK_VALUES", 16 * DIM)


def by_numpy(search: Callable[[], Any]) -> Any:
    """What a search finds where NumKong is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimates, "_find_cosines", lambda: None)
        return search()


def stored(generator: np.random.Generator, count: int, dtype: str) -> np.ndarray:
    """Vectors, some of them near each other, some the same."""
    values = generator.standard_normal((count, DIM))
    values[1::3] = values[::3][: len(values[1::3])] + generator.standard_normal(DIM) / 1000
    values[2::9] = values[::9][: len(values[2::9])]
    return np.asarray(np.clip(values * 30, -127, 127)).astype(dtype)


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 120),
    top_k=st.integers(1, 9),
    queries=st.integers(1, 3),
    dtype=st.sampled_from(DTYPES),
    bad=st.sets(st.integers(0, 119)),
)
def test_nothing_else_is_found(
    seed: int, count: int, top_k: int, queries: int, dtype: str, bad: set[int]
) -> None:
    """To the last bit; with rows of zeros, of NaN and of infinity, and a query of zeros."""
    generator = np.random.default_rng(seed)
    values = stored(generator, count, dtype)
    for row in (row for row in bad if row < count):
        values[row] = 0 if dtype == "int8" or row % 3 == 0 else (np.nan, np.inf)[row % 2]
    asked = generator.standard_normal((queries, DIM)).astype(np.float32)
    asked[-1] *= seed % 2

    def search() -> list[Best]:
        return rank(ArrayRows(values), asked, top_k=top_k, metric="cosine")

    for found, wanted in zip(search(), by_numpy(search), strict=True):
        np.testing.assert_array_equal(found.indices, wanted.indices)
        np.testing.assert_array_equal(found.scores, wanted.scores)


@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from(DTYPES), size=st.integers(-6, 2))
def test_no_row_above_the_bound_is_passed_over(seed: int, dtype: str, size: int) -> None:
    """Whatever the size of the values, and with one dimension that is far larger than others."""
    generator = np.random.default_rng(seed)
    values = stored(generator, 60, dtype)
    if dtype == "float16":
        values = (values * np.float16(10.0**size)).astype(dtype)
    query = generator.standard_normal(DIM).astype(np.float32)
    query[seed % DIM] *= 10.0 ** (seed % 5)
    query /= np.linalg.norm(query)
    exact = ranking._scores(values, query[None], "cosine")[0]
    bound = float(np.sort(exact)[-5])
    hopeful = Estimator(query).hopeful(values, bound)
    assert hopeful is not None
    assert set(np.flatnonzero(exact >= bound)) <= set(hopeful.tolist())


@pytest.mark.parametrize("dtype", DTYPES)
def test_most_rows_are_passed_over(dtype: str) -> None:
    values = np.random.default_rng(1).standard_normal((4000, 384)) * 30
    query = values[7].astype(np.float32) / np.float32(np.linalg.norm(values[7]))
    hopeful = Estimator(query).hopeful(np.clip(values, -127, 127).astype(dtype), 0.3)
    assert hopeful is not None
    assert hopeful.tolist() == [7]


def test_there_is_none_of_other_types_or_without_a_bound() -> None:
    values = np.ones((3, DIM), np.float32)
    estimator = Estimator(values[0] / np.sqrt(np.float32(DIM)))
    assert estimator.hopeful(values, 0.5) is None
    assert estimator.hopeful(values.astype(np.float16), -np.inf) is None
    assert by_numpy(lambda: estimator.hopeful(values.astype(np.float16), 0.5)) is None
