"""FAISS finds what exact numpy finds, and recall counts what it misses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import vector_index
from corpora import load_glosses
from unitvec_client import Client

COUNT = 500
QUERIES = 40


@pytest.fixture(scope="module")
def vectors(client: Client) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors of documents and of queries."""
    made = client.embed([gloss.text for gloss in load_glosses(COUNT + QUERIES)])
    return made[:COUNT], made[COUNT:]


def best(
    documents: NDArray[np.float32], queries: NDArray[np.float32], top_k: int
) -> NDArray[np.int64]:
    return np.argsort(-(queries @ documents.T), axis=1)[:, :top_k]


def test_exact_index_finds_what_numpy_finds(
    vectors: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    documents, queries = vectors
    found, _ = vector_index.search(vector_index.build_exact(documents), queries)
    np.testing.assert_array_equal(found, best(documents, queries, 10))


def test_approximate_index_finds_more_for_a_larger_ef(
    vectors: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    documents, queries = vectors
    exact, approximate = vector_index.build_exact(documents), vector_index.build_hnsw(documents)
    first, *rest = vector_index.measure(exact, approximate, queries)
    assert (first.ef, first.recall) == (None, 1.0)
    assert [row.ef for row in rest] == list(vector_index.EFS)
    assert rest[-1].recall > 0.99
    assert rest[0].recall < rest[-1].recall
    approximate.hnsw.efSearch = vector_index.EFS[-1]
    found, _ = vector_index.search(approximate, queries)
    truth = best(documents, queries, 10)
    shared = [set(a) & set(b) for a, b in zip(found.tolist(), truth.tolist(), strict=True)]
    assert rest[-1].recall == pytest.approx(sum(map(len, shared)) / truth.size)


def test_scores_are_cosines(vectors: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    documents, queries = vectors
    scores, rows = vector_index.build_hnsw(documents).search(queries, 5)
    expected = np.take_along_axis(queries @ documents.T, rows, axis=1)
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_recall_counts_in_any_order() -> None:
    exact = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert vector_index.recall(exact[:, ::-1], exact) == 1
    # HNSW says -1 where it has found too few.
    assert vector_index.recall(np.array([[2, 1, 9, -1], [-1, -1, -1, -1]]), exact) == 0.25


def test_saves_what_it_reads_back(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--target", target, "--output", str(tmp_path), "--count", "300"]
    assert vector_index.main([*arguments, "--queries", "20"]) == 0
    printed = capsys.readouterr().out
    assert "300 vectors of 384, 20 queries" in printed
    assert "answers as before" in printed
    assert (tmp_path / "vector_index.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "glosses.hnsw.faiss").stat().st_size > 300 * 384 * 4
