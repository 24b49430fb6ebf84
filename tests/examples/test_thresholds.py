"""Curves, averages and outcomes are those of scikit-learn."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_recall_curve,
    precision_score,
    recall_score,
)

import thresholds
from corpora import load_pairs
from thresholds import judge, split, trace
from unitvec_client import Client

# Few distinct scores, so that many are equal.
SCORED = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=1).filter(
    lambda pairs: any(match for _, match in pairs)
)


@given(SCORED)
def test_a_curve_is_that_of_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score / 4 for score, _ in pairs], dtype=np.float32)
    matches = np.array([match for _, match in pairs])
    precision, recall, cuts = precision_recall_curve(matches, scores)
    curve = trace(scores, matches)
    np.testing.assert_array_equal(curve.thresholds, cuts)
    np.testing.assert_allclose(curve.precision, precision[:-1])
    np.testing.assert_allclose(curve.recall, recall[:-1])
    assert curve.average_precision() == pytest.approx(average_precision_score(matches, scores))
    f1 = [f1_score(matches, scores >= cut) for cut in cuts]
    np.testing.assert_allclose(curve.f1, f1, atol=1e-12)
    assert f1_score(matches, scores >= curve.best_threshold()) == pytest.approx(max(f1))


@given(SCORED, st.integers(-5, 5))
def test_an_outcome_is_that_of_scikit_learn(pairs: list[tuple[int, bool]], cut: int) -> None:
    scores = np.array([score for score, _ in pairs], dtype=np.float32)
    matches = np.array([match for _, match in pairs])
    taken = scores >= cut
    made = judge(scores, matches, cut)
    assert made.precision == pytest.approx(precision_score(matches, taken, zero_division=0.0))
    assert made.recall == pytest.approx(recall_score(matches, taken))
    assert made.f1 == pytest.approx(f1_score(matches, taken, zero_division=0.0))


def test_the_threshold_for_a_precision_is_the_lowest() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5], dtype=np.float32)
    curve = trace(scores, np.array([False, True, False, True, True]))
    assert curve.threshold_for(0.75) == pytest.approx(0.2)
    assert curve.threshold_for(0.8) == pytest.approx(0.4)
    worst_on_top = trace(scores, np.array([True, False, False, False, False]))
    assert worst_on_top.threshold_for(0.8) is None


def test_halves_share_each_kind_evenly() -> None:
    kinds = [pair.kind for pair in load_pairs()]
    first, second = split(kinds)
    assert np.all(first ^ second)
    for kind, count in (("own", 500), ("sibling", 250), ("other", 250)):
        of_kind = np.array([other == kind for other in kinds])
        assert np.count_nonzero(first & of_kind) == count
        assert np.count_nonzero(second & of_kind) == count


def test_the_example(
    target: str, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert thresholds.main(["--target", target, "--output", str(tmp_path), "--count", "400"]) == 0
    printed = capsys.readouterr().out
    pairs = load_pairs(400)
    words = client.embed([pair.words for pair in pairs])
    scores = np.sum(words * client.embed([pair.text for pair in pairs]), axis=1)
    matches = np.array([pair.match for pair in pairs])
    kinds = np.array([pair.kind for pair in pairs])
    first, second = split(list(kinds))

    # Chosen on one half ...
    precision, recall, cuts = precision_recall_curve(matches[first], scores[first])
    best = cuts[np.argmax(2 * precision[:-1] * recall[:-1] / (precision[:-1] + recall[:-1]))]
    (row,) = re.findall(r"^ +([\d. ]+)  best F1 on the other half$", printed, re.MULTILINE)
    # ... and reported on the other.
    taken, truth = scores[second] >= best, matches[second]
    expected = (best, precision_score(truth, taken), recall_score(truth, taken))
    figures = [float(figure) for figure in row.split()]
    assert figures == pytest.approx([*expected, f1_score(truth, taken)], abs=6e-4)
    average = average_precision_score(truth, scores[second])
    assert f"average precision {average:.3f}; guessing gives {truth.mean():.3f}" in printed

    shares = [float(share) for share in re.findall(r"([\d.]+)%", printed)]
    of_kinds = [100 * taken[kinds[second] == kind].mean() for kind in ("own", "sibling", "other")]
    assert shares == pytest.approx(of_kinds, abs=0.06)
    assert shares[0] > shares[1] > shares[2]
    assert imread(tmp_path / "thresholds.png").shape == (480, 1100, 4)
