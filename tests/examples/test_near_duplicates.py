"""Pairs found tile by tile are those of the whole matrix."""

from __future__ import annotations

import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.metrics.pairwise import cosine_similarity

import near_duplicates
from corpora import load_glosses
from near_duplicates import BYTES_PER_SCORE, MIB, Pairs, find_groups, find_pairs, tile_edge
from unitvec_client import Client

# Products of small whole numbers are exact, in whatever order a BLAS adds them up.
VECTORS = arrays(
    np.float32,
    st.tuples(st.integers(1, 25), st.integers(1, 4)),
    elements=st.integers(-3, 3).map(float),
)


@given(vectors=VECTORS, edge=st.integers(1, 30), threshold=st.integers(-10, 20))
def test_any_tile_gives_the_pairs_of_the_whole_matrix(
    vectors: NDArray[np.float32], edge: int, threshold: int
) -> None:
    found = find_pairs(vectors, threshold=threshold, edge=edge)
    whole = vectors @ vectors.T
    expected = {
        (i, j): whole[i, j]
        for i in range(len(vectors))
        for j in range(i + 1, len(vectors))
        if whole[i, j] >= threshold
    }
    assert len(found.left) == len(expected)
    assert dict(zip(zip(found.left, found.right, strict=True), found.cosine, strict=True)) == (
        expected
    )
    assert np.all(np.diff(found.cosine) <= 0)


def test_pairs_of_texts_are_those_of_scikit_learn(client: Client) -> None:
    vectors = client.embed([gloss.text for gloss in load_glosses(600)])
    found = find_pairs(vectors, threshold=0.6, edge=256)
    cosines = cosine_similarity(vectors.astype(np.float64))
    expected = np.argwhere(np.triu(cosines >= 0.6, k=1))
    assert len(expected) > 50
    assert set(zip(found.left, found.right, strict=True)) == set(map(tuple, expected))
    np.testing.assert_allclose(found.cosine, cosines[found.left, found.right], atol=1e-5)


def test_a_search_stays_within_its_memory() -> None:
    vectors = np.random.default_rng(0).standard_normal((3000, 16), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    bound_bytes = MIB
    tracemalloc.start()
    found = find_pairs(vectors, threshold=0.9, edge=tile_edge(bound_bytes))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.left) < 1000
    assert bound_bytes / 2 < peak_bytes < bound_bytes + 100_000
    assert peak_bytes < vectors.shape[0] ** 2 * 4 / 20


@pytest.mark.parametrize("memory_bytes", [0, 1, 5, 19, 20, 10**6, 2**24])
def test_a_tile_is_the_largest_that_fits(memory_bytes: int) -> None:
    edge = tile_edge(memory_bytes)
    assert BYTES_PER_SCORE * (edge + 1) ** 2 > memory_bytes
    assert edge == 1 or BYTES_PER_SCORE * edge**2 <= memory_bytes


@given(st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11)).filter(lambda it: it[0] < it[1])))
def test_groups_are_what_pairs_connect(edges: set[tuple[int, int]]) -> None:
    # Joined one pair at a time, by hand.
    expected = {text: {text} for text in range(12)}
    for left, right in edges:
        joined = expected[left] | expected[right]
        expected |= dict.fromkeys(joined, joined)
    columns = np.array(sorted(edges), dtype=np.int64).reshape(-1, 2).T
    pairs = Pairs(columns[0], columns[1], np.ones(len(edges), dtype=np.float32))
    groups = find_groups(pairs, 12)
    assert {frozenset(group.tolist()) for group in groups} == {
        frozenset(group) for group in expected.values() if len(group) > 1
    }
    assert sum(map(len, groups)) == len({text for edge in edges for text in edge})
    assert list(map(len, groups)) == sorted(map(len, groups), reverse=True)


def test_the_example(target: str, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--target", target, "--count", "600", "--threshold", "0.7", "--tile-mib", "0.1"]
    assert near_duplicates.main(arguments) == 0
    printed = capsys.readouterr().out
    cosines = cosine_similarity(client.embed([gloss.text for gloss in load_glosses(600)]))
    expected = int(np.triu(cosines >= 0.7, k=1).sum())
    assert f"\n{expected} pairs of cosine 0.7 and above" in printed
    in_bands = re.findall(r"^cosine .*: (\d+) pairs$", printed, re.MULTILINE)
    assert len(in_bands) == 7
    assert sum(map(int, in_bands)) == expected
    assert "a group of" in printed
