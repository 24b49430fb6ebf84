"""Structure: every figure is scikit-learn's, over the vectors of sentence-transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, silhouette_samples
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from structure import (
    chance_alike,
    main,
    mean_similarities,
    nearest_is_alike,
    pick_glosses,
    probability_closer,
    silhouettes,
    split_pairs,
)
from unitvec_client import Client

CATEGORIES = ("animal", "food", "feeling", "motive")
"""The last has only 13 glosses."""
EACH = 25


@dataclass(frozen=True)
class Space:
    """The same texts twice: vectors (n, D) of the server and of the reference."""

    labels: NDArray[np.int64]
    served: NDArray[np.float32]
    reference: NDArray[np.float32]


@pytest.fixture(scope="module")
def space(client: Client, reference_model: Any) -> Space:
    glosses = pick_glosses(CATEGORIES, each=EACH)
    texts = [gloss.text for gloss in glosses]
    labels = np.array([CATEGORIES.index(gloss.category) for gloss in glosses])
    return Space(labels, client.embed(texts), reference_model.encode(texts))


def test_categories_have_as_many_glosses_as_there_are() -> None:
    names = [gloss.category for gloss in pick_glosses(CATEGORIES, each=EACH)]
    assert [names.count(name) for name in CATEGORIES] == [EACH, EACH, EACH, 13]


def test_mean_similarities(space: Space) -> None:
    cosines = cosine_similarity(space.reference)
    means = mean_similarities(space.served, space.labels)
    assert means.shape == (4, 4)
    for row in range(4):
        for column in range(4):
            block = cosines[space.labels == row][:, space.labels == column]
            if row == column:
                block = block[~np.eye(len(block), dtype=bool)]
            assert means[row, column] == pytest.approx(block.mean(), abs=1e-5)
    assert np.all(means.argmax(axis=1) == np.arange(4))


def test_pairs_are_split_by_category(space: Space) -> None:
    within, between = split_pairs(space.served, space.labels)
    sizes = np.bincount(space.labels)
    assert len(within) == (sizes * (sizes - 1) // 2).sum()
    assert len(within) + len(between) == len(space.labels) * (len(space.labels) - 1) // 2
    means = mean_similarities(space.served, space.labels)
    weights = sizes * (sizes - 1)
    expected = (np.diag(means) * weights).sum() / weights.sum()
    assert within.mean() == pytest.approx(expected, abs=1e-5)


def test_probability_closer_is_the_auc(space: Space) -> None:
    within, between = split_pairs(space.served, space.labels)
    rows, columns = np.triu_indices(len(space.labels), k=1)
    same = space.labels[rows] == space.labels[columns]
    expected = roc_auc_score(same, cosine_similarity(space.reference)[rows, columns])
    assert probability_closer(within, between) == pytest.approx(expected, abs=1e-4)
    assert expected > 0.7


def test_probability_closer_counts_a_tie_as_half() -> None:
    within, between = np.array([0.5, 0.9], np.float32), np.array([0.5, 0.1], np.float32)
    assert probability_closer(within, between) == roc_auc_score([1, 1, 0, 0], [0.5, 0.9, 0.5, 0.1])


def test_silhouettes(space: Space) -> None:
    expected = silhouette_samples(space.reference, space.labels, metric="cosine")
    np.testing.assert_allclose(silhouettes(space.served, space.labels), expected, atol=1e-4)
    assert expected.mean() > 0.05


def test_nearest_is_alike(space: Space) -> None:
    one_neighbour = KNeighborsClassifier(1, metric="cosine", algorithm="brute")
    found = cross_val_predict(one_neighbour, space.reference, space.labels, cv=LeaveOneOut())
    alike = nearest_is_alike(space.served, space.labels)
    assert alike.tolist() == (found == space.labels).tolist()
    assert 0.7 < alike.mean() < 1


def test_chance_alike_is_that_of_all_pairs() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    same = labels[:, np.newaxis] == labels
    assert chance_alike(labels) == pytest.approx(same[~np.eye(6, dtype=bool)].mean())


def test_without_structure_nothing_is_found() -> None:
    choice = np.random.default_rng(0)
    vectors = choice.normal(size=(600, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = np.arange(600) % 5
    assert probability_closer(*split_pairs(vectors, labels)) == pytest.approx(0.5, abs=0.01)
    assert silhouettes(vectors, labels).mean() == pytest.approx(0, abs=0.01)
    assert nearest_is_alike(vectors, labels).mean() == pytest.approx(chance_alike(labels), abs=0.06)


def test_main_prints_and_draws(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--categories", ",".join(CATEGORIES), "--per-category", str(EACH)]
    assert main(["--target", target, "--output", str(tmp_path), *asked]) == 0
    printed = capsys.readouterr().out
    assert "88 glosses of 4 categories" in printed
    assert [line.split()[:2] for line in printed.splitlines() if line.startswith("motive")] == [
        ["motive", "13"]
    ]
    for name in ("structure_matrix.png", "structure_histogram.png"):
        assert imread(tmp_path / name).shape[1] == pytest.approx(1012, abs=30)


@pytest.mark.parametrize("categories", ["animal", "animal,unicorn"])
def test_one_category_or_an_unknown_one_is_refused(
    categories: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--categories", categories])
    assert "two categories or more" in capsys.readouterr().err
