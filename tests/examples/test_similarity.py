"""Similarity: the server's four metrics are scipy's, and so is what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from matplotlib.image import imread
from scipy.spatial.distance import pdist
from sklearn.metrics.pairwise import cosine_similarity

from corpora import load_glosses
from similarity import (
    CUT,
    METRICS,
    SENTENCES,
    correlate,
    distance_of,
    main,
    rank,
    score_pairs,
    upper_triangle,
)
from unitvec_client import Client

TEXTS = [gloss.text for gloss in load_glosses(80)]


def test_heatmap_scores_are_those_of_the_reference(client: Client, reference_model: Any) -> None:
    expected = cosine_similarity(reference_model.encode(list(SENTENCES)))
    np.testing.assert_allclose(client.similarity(SENTENCES, SENTENCES), expected, atol=1e-5)


@pytest.mark.parametrize("cut", [False, True])
def test_metrics_are_those_of_scipy(client: Client, cut: bool) -> None:
    vectors = client.embed(TEXTS, dimensions=CUT if cut else None, normalize=not cut)
    scores = score_pairs(client, vectors)
    exact = vectors.astype(np.float64)
    assert tuple(scores) == METRICS
    np.testing.assert_allclose(scores["cosine"], 1 - pdist(exact, "cosine"), atol=1e-6)
    np.testing.assert_allclose(scores["dot"], upper_triangle(exact @ exact.T), atol=1e-6)
    np.testing.assert_allclose(scores["euclidean"], pdist(exact), atol=1e-5)
    np.testing.assert_allclose(scores["manhattan"], pdist(exact, "cityblock"), atol=1e-4)


def test_correlations_are_those_of_scipy(client: Client) -> None:
    scores = score_pairs(client, client.embed(TEXTS, dimensions=CUT, normalize=False))
    pearson, spearman = correlate(scores, ranks=False), correlate(scores, ranks=True)
    for row, a in enumerate(METRICS):
        for column, b in enumerate(METRICS):
            expected = scipy.stats.pearsonr(scores[a].astype(np.float64), scores[b]).statistic
            assert pearson[row, column] == pytest.approx(expected, abs=1e-6)
            expected = scipy.stats.spearmanr(scores[a], scores[b]).statistic
            assert spearman[row, column] == pytest.approx(expected, abs=1e-9)


def test_three_metrics_are_one_for_unit_vectors_only(client: Client) -> None:
    unit = correlate(score_pairs(client, client.embed(TEXTS)), ranks=True)
    np.testing.assert_allclose(np.abs(unit[:3, :3]), 1, atol=1e-5)
    assert unit[0, 3] > -0.99
    cut = client.embed(TEXTS, dimensions=CUT, normalize=False)
    assert abs(correlate(score_pairs(client, cut), ranks=True)[1, 2]) < 0.9


def test_ranks_share_their_mean_as_those_of_scipy() -> None:
    values = np.array([0.5, 0.1, 0.5, 0.9, 0.1, 0.1], np.float32)
    assert rank(values).tolist() == scipy.stats.rankdata(values).tolist()


def test_upper_triangle_is_each_pair_once() -> None:
    square = np.arange(9, dtype=np.float32).reshape(3, 3)
    assert upper_triangle(square).tolist() == [1, 2, 5]


def test_distances_of_cosines() -> None:
    distances = distance_of(np.array([1 + 1e-7, 1, 0, -1]))
    np.testing.assert_allclose(distances, [0, 0, np.sqrt(2), 2])


def test_main_prints_and_draws(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--target", target, "--output", str(tmp_path), "--count", "80"]) == 0
    printed = capsys.readouterr().out
    assert "66 pairs of 12 sentences" in printed
    first = next(line for line in printed.splitlines() if "  |  " in line)
    assert first.endswith("The film was a waste of time.  |  The film was not a waste of time.")
    assert "All pairs of 80 glosses" in printed
    for name in ("similarity_heatmap.png", "similarity_metrics.png"):
        assert imread(tmp_path / name).shape[1] == pytest.approx(1012, abs=30)


def test_own_sentences(target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentences = ["--sentence", "a dog", "--sentence", "a hound", "--sentence", "a tax"]
    main(["--target", target, "--output", str(tmp_path), "--count", "5", *sentences])
    lines = [line for line in capsys.readouterr().out.splitlines() if "  |  " in line]
    assert lines[0].endswith("   a dog  |  a hound")
    assert len(lines) == 3
