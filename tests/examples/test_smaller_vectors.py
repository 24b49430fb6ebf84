"""What smaller vectors find is what independent libraries find with them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.image import imread
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

import smaller_vectors as example
from smaller_vectors import TOP_K, Texts, Way, choose, fit_pca, project, rank, recall, rescore
from unitvec_client import Client

COUNT = 600


@pytest.fixture(scope="module")
def texts() -> Texts:
    return choose(COUNT)


@pytest.fixture(scope="module")
def ways(client: Client, texts: Texts) -> dict[tuple[str, str], Way]:
    return {(way.family, way.name): way for way in example.search_all_ways(client, texts)}


@pytest.fixture(scope="module")
def full(client: Client, texts: Texts) -> tuple[NDArray[Any], NDArray[Any]]:
    """Float32 vectors of the queries and of the documents."""
    return client.embed(texts.queries), client.embed(texts.documents)


def test_queries_are_words_of_their_documents(texts: Texts) -> None:
    assert len(texts.documents) == len(texts.others) == COUNT
    assert len(texts.queries) == len(texts.own)
    assert not set(texts.documents) & set(texts.others)
    assert texts.queries[0] == "person, individual, someone, somebody, mortal, soul"
    assert texts.documents[texts.own[0]] == "a human being"


def test_the_standard_is_the_search_of_scikit_learn(
    ways: dict[tuple[str, str], Way], full: tuple[NDArray[Any], NDArray[Any]]
) -> None:
    queries, documents = full
    index = NearestNeighbors(n_neighbors=TOP_K, metric="cosine").fit(documents)
    expected = index.kneighbors(queries, return_distance=False)
    assert recall(ways["float32", "384 dimensions"].found, expected) > 0.999


@pytest.mark.parametrize("dim", example.SMALLER)
def test_truncation_and_pca_are_those_of_numpy(
    dim: int,
    ways: dict[tuple[str, str], Way],
    full: tuple[NDArray[Any], NDArray[Any]],
    client: Client,
    texts: Texts,
) -> None:
    queries, documents = full
    cut = cdist(queries[:, :dim], documents[:, :dim], "cosine")
    assert recall(ways["truncation", f"first {dim} dimensions"].found, rank(-cut, TOP_K)) > 0.999
    others = client.embed(texts.others).astype(np.float64)
    _, _, axes = np.linalg.svd(others - others.mean(axis=0), full_matrices=False)
    turned = [(vectors - others.mean(axis=0)) @ axes[:dim].T for vectors in full]
    assert recall(
        ways["PCA", f"{dim} dimensions"].found, rank(-cdist(*turned, "cosine"), TOP_K)
    ) > (0.995)


@pytest.mark.filterwarnings(
    "ignore:Importing from 'sentence_transformers.quantization':DeprecationWarning"
)
def test_fewer_bits_are_those_of_sentence_transformers(
    ways: dict[tuple[str, str], Way], full: tuple[NDArray[Any], NDArray[Any]]
) -> None:
    from sentence_transformers.quantization import quantize_embeddings

    bits = [np.unpackbits(quantize_embeddings(side, "ubinary"), axis=1) for side in full]
    hamming = cdist(*bits, "hamming")
    assert recall(ways["fewer bits", "binary"].found, rank(-hamming, TOP_K)) == 1
    candidates = rank(-hamming, 4 * TOP_K)
    finer = {
        "float32 query": 2.0 * bits[1] - 1,
        "int8": _round_to_int8(full[1]),
        "float32": full[1],
    }
    for name, kept in finer.items():
        scores = full[0].astype(np.float64) @ kept.T.astype(np.float64)
        own = np.take_along_axis(scores, candidates, axis=1)
        best = np.take_along_axis(candidates, rank(own, TOP_K), axis=1)
        assert recall(ways["binary, rescored", f"by {name}"].found, best) > 0.999


@pytest.mark.parametrize("dtype", example.DTYPES)
def test_rounding_is_that_of_numpy(
    dtype: str, ways: dict[tuple[str, str], Way], full: tuple[NDArray[Any], NDArray[Any]]
) -> None:
    queries, documents = full
    kept = _round_to_int8(documents) if dtype == "int8" else documents.astype(dtype)
    found = rank(queries.astype(np.float64) @ kept.T.astype(np.float64), TOP_K)
    assert recall(ways["fewer bits", dtype].found, found) > 0.999
    truth = rank(queries @ documents.T, TOP_K)
    quality = recall(ways["fewer bits", dtype].found, ways["float32", "384 dimensions"].found)
    assert quality == pytest.approx(recall(found, truth), abs=2e-3)


def _round_to_int8(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Vectors as whole numbers up to 127, times one scale for each row."""
    scales = np.abs(vectors).max(axis=1, keepdims=True).astype(np.float64) / 127
    rounded: NDArray[np.float64] = np.round(vectors / scales).astype(np.int8) * scales
    return rounded


def test_bytes_are_those_of_the_vectors(ways: dict[tuple[str, str], Way]) -> None:
    sizes = {key: (way.searched_bytes, way.extra_bytes) for key, way in ways.items()}
    assert sizes["float32", "384 dimensions"] == (1536, 0)
    assert sizes["truncation", "first 32 dimensions"] == sizes["PCA", "32 dimensions"] == (128, 0)
    assert sizes["fewer bits", "float16"] == (768, 0)
    assert sizes["fewer bits", "int8"] == (384 + 4, 0)
    assert sizes["fewer bits", "binary"] == (48, 0)
    assert sizes["binary, rescored", "by float32 query"] == (48, 0)
    assert sizes["binary, rescored", "by int8"] == (48, 388)
    assert sizes["binary, rescored", "by float32"] == (48, 1536)


def test_quality_falls_as_vectors_shrink(ways: dict[tuple[str, str], Way]) -> None:
    truth = ways["float32", "384 dimensions"].found
    quality = {key: recall(way.found, truth) for key, way in ways.items()}
    for family, name in (("truncation", "first {} dimensions"), ("PCA", "{} dimensions")):
        falling = [quality[family, name.format(dim)] for dim in example.SMALLER]
        assert falling == sorted(falling, reverse=True)
    assert quality["PCA", "64 dimensions"] > quality["truncation", "first 64 dimensions"]
    assert quality["fewer bits", "float16"] > 0.99
    assert quality["fewer bits", "int8"] > 0.97
    assert quality["fewer bits", "binary"] < quality["binary, rescored", "by float32 query"]
    assert quality["binary, rescored", "by float32 query"] < quality["binary, rescored", "by int8"]


@given(arrays(np.uint8, st.tuples(st.integers(1, 6), st.just(3))), st.integers(17, 24))
def test_products_of_signs_tell_the_hamming_distance(packed: NDArray[np.uint8], dim: int) -> None:
    made = example.signs(packed, dim)
    bits = np.unpackbits(packed, axis=1)[:, :dim]
    np.testing.assert_allclose((dim - made @ made.T) / 2, cdist(bits, bits, "cityblock"))


@given(arrays(np.float32, (3, 15), elements=st.integers(-3, 3).map(float)), st.integers(1, 15))
def test_ranks_are_by_score_then_by_place(scores: NDArray[np.float32], count: int) -> None:
    for row, ranked in zip(scores, rank(scores, count), strict=True):
        assert ranked.tolist() == sorted(range(15), key=lambda place: (-row[place], place))[:count]


def test_recall_counts_what_is_found_wherever_it_ranks() -> None:
    assert recall(np.array([[1, 2], [3, 4]]), np.array([[2, 1], [3, 9]])) == 0.75
    assert recall(np.array([[1, 2], [3, 4]]), np.array([[2], [9]])) == 0.5


def test_candidates_are_scored_again() -> None:
    documents = np.eye(40, dtype=np.float32)
    queries = np.linspace(1, 0, 40, dtype=np.float32)[np.newaxis]
    candidates = np.arange(5, 40)[np.newaxis, ::-1]
    assert rescore(candidates, queries, documents).tolist() == [list(range(5, 5 + TOP_K))]


def test_projections_are_of_unit_length(client: Client, texts: Texts) -> None:
    vectors = client.embed(texts.documents[:100])
    projected = project(fit_pca(vectors, 20), vectors)
    assert projected.shape == (100, 20)
    np.testing.assert_allclose(np.linalg.norm(projected, axis=1), 1, atol=1e-6)


def test_the_example(
    target: str,
    ways: dict[tuple[str, str], Way],
    texts: Texts,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--target", target, "--output", str(tmp_path), "--count", str(COUNT)]
    assert example.main(options) == 0
    printed = capsys.readouterr().out
    truth = ways["float32", "384 dimensions"].found
    for (family, name), way in ways.items():
        (row,) = re.findall(
            rf"^  {re.escape(family)} +{re.escape(name)} +(\d.*)$", printed, re.MULTILINE
        )
        figures = [float(figure.replace(",", "")) for figure in row.split()]
        assert figures[:2] == [way.searched_bytes, way.extra_bytes]
        overlap = np.mean([len({*a} & {*b}) for a, b in zip(way.found, truth, strict=True)])
        assert figures[2] == pytest.approx(overlap / TOP_K, abs=6e-4)
        right = np.mean([own in found for own, found in zip(texts.own, way.found, strict=True)])
        assert figures[3] == pytest.approx(right, abs=6e-4)
    assert imread(tmp_path / "smaller_vectors.png").shape == (600, 1000, 4)
