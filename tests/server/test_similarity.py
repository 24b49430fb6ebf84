"""Comparisons against scipy and sklearn, and rankings against a plain sort."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import cosine_similarity

from unitvec_server.vectors import scores as similarity
from unitvec_server.vectors.scores import Metric, cross_scores, pair_scores, prepare, top_k

# Nothing between 0 and 0.001: below 1e-12 a vector counts as zero, as in sentence-transformers.
values = st.just(0.0) | st.floats(2**-10, 100, width=32) | st.floats(-100, -(2**-10), width=32)


@st.composite
def operands(draw: st.DrawFn, *, most: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Queries (Q, D) and documents (N, D)."""
    dim = draw(st.integers(1, 8))
    rows = st.integers(1, most)
    queries, documents = (
        draw(nps.arrays(np.float32, (draw(rows), dim), elements=values)) for _ in range(2)
    )
    return queries, documents


def oracle(queries: np.ndarray, documents: np.ndarray, metric: Metric) -> np.ndarray:
    """Scores by someone else's code, in float64."""
    a, b = queries.astype(np.float64), documents.astype(np.float64)
    if metric is Metric.COSINE:
        return np.asarray(cosine_similarity(a, b))
    if metric is Metric.DOT:
        return np.asarray(a @ b.T)
    return np.asarray(cdist(a, b, "euclidean" if metric is Metric.EUCLIDEAN else "cityblock"))


def cross(queries: np.ndarray, documents: np.ndarray, metric: Metric) -> np.ndarray:
    """`cross_scores` of vectors that are not yet prepared."""
    return cross_scores(prepare(queries, metric), prepare(documents, metric), metric)


@pytest.mark.parametrize("metric", Metric)
class TestScores:
    """Scores of every metric."""

    @settings(deadline=None)
    @given(pair=operands())
    def test_all_with_all(self, pair: tuple[np.ndarray, np.ndarray], metric: Metric) -> None:
        scores = cross(*pair, metric)
        assert scores.dtype == np.float32
        assert scores.shape == (len(pair[0]), len(pair[1]))
        scale = 1 if metric is Metric.COSINE else max(1, np.abs(pair[0]).max()) ** 2 * 8
        np.testing.assert_allclose(scores, oracle(*pair, metric), rtol=1e-5, atol=1e-6 * scale)

    @settings(deadline=None)
    @given(pair=operands())
    def test_pairs_are_the_diagonal(
        self, pair: tuple[np.ndarray, np.ndarray], metric: Metric
    ) -> None:
        n = min(map(len, pair))
        a, b = pair[0][:n], pair[1][:n]
        scores = pair_scores(prepare(a, metric), prepare(b, metric), metric)
        assert scores.shape == (n,)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, np.diagonal(cross(a, b, metric)), rtol=1e-4, atol=1e-2)
        if metric is Metric.COSINE:
            assert (np.abs(scores) <= 1).all()

    def test_zero_vectors(self, metric: Metric) -> None:
        zero, other = np.zeros((1, 2), np.float32), np.array([[3, 4]], np.float32)
        wanted = {"cosine": 0, "dot": 0, "euclidean": 5, "manhattan": 7}[metric.value]
        assert cross(zero, other, metric).item() == wanted
        assert cross(zero, zero, metric).item() == 0

    def test_blocks_join_without_a_seam(
        self, metric: Metric, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        random = np.random.default_rng(0)
        queries, documents = random.normal(size=(7, 5)), random.normal(size=(23, 5))
        queries, documents = queries.astype(np.float32), documents.astype(np.float32)
        whole = cross(queries, documents, metric)
        ranked = top_k(queries, documents, metric, 4)
        monkeypatch.setattr(similarity, "_BLOCK_VALUES", 24)
        np.testing.assert_allclose(cross(queries, documents, metric), whole, rtol=1e-6, atol=1e-6)
        again = top_k(queries, documents, metric, 4)
        np.testing.assert_array_equal(again.indices, ranked.indices)

    @pytest.mark.parametrize("k", [1, 2, 5, 12, 13, 1000])
    @settings(deadline=None, max_examples=30)
    @given(pair=operands())
    def test_top_k_is_a_stable_sort(
        self, pair: tuple[np.ndarray, np.ndarray], metric: Metric, k: int
    ) -> None:
        """Whole numbers: exact arithmetic, and many ties."""
        queries, documents = (np.rint(vectors / 50).astype(np.float32) for vectors in pair)
        if metric is Metric.COSINE:
            queries, documents = np.sign(queries), np.sign(documents)
        scores = cross_scores(queries, documents, metric)
        costs = scores if metric.lower_is_closer else -scores
        ranked = top_k(queries, documents, metric, k)
        wanted = np.argsort(costs, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(ranked.indices, wanted)
        np.testing.assert_array_equal(ranked.scores, np.take_along_axis(scores, wanted, 1))
        assert ranked.scores.dtype == np.float32


class TestEdges:
    """Where short formulas go wrong."""

    def test_cosine_never_passes_one(self) -> None:
        vectors = np.random.default_rng(1).normal(size=(500, 384)).astype(np.float32)
        scores = cross(vectors, vectors, Metric.COSINE)
        assert scores.max() <= 1
        assert np.diagonal(scores).min() > 1 - 1e-6
        assert pair_scores(*[prepare(vectors, Metric.COSINE)] * 2, Metric.COSINE).max() <= 1

    @pytest.mark.parametrize("metric", [Metric.EUCLIDEAN, Metric.MANHATTAN])
    def test_near_twins(self, metric: Metric) -> None:
        """q^2 + d^2 - 2qd would leave nothing of this distance."""
        query = np.full((1, 384), 100.0, np.float32)
        twin = query.copy()
        twin[0, 7] += 2.0**-10
        assert cross(query, twin, metric).item() == 2.0**-10
        assert cross(query, query, metric).item() == 0

    def test_no_documents(self) -> None:
        ranked = top_k(np.ones((3, 2), np.float32), np.empty((0, 2), np.float32), Metric.DOT, 5)
        assert ranked.indices.shape == ranked.scores.shape == (3, 0)

    def test_all_documents_are_equal(self) -> None:
        ranked = top_k(np.ones((2, 3), np.float32), np.ones((9, 3), np.float32), Metric.DOT, 4)
        assert ranked.indices.tolist() == [[0, 1, 2, 3]] * 2

    def test_prepared_vectors_are_unit_for_cosine_only(self) -> None:
        vectors = np.array([[3, 4]], np.float32)
        for metric in Metric:
            length = np.linalg.norm(prepare(vectors, metric))
            assert length == pytest.approx(1 if metric is Metric.COSINE else 5)
