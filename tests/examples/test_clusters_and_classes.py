"""Clusters and classes are what scikit-learn makes of the vectors of sentence-transformers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    adjusted_rand_score,
    confusion_matrix,
    normalized_mutual_info_score,
    silhouette_score,
)
from sklearn.metrics.cluster import contingency_matrix

import clusters_and_classes as example
from clusters_and_classes import CATEGORIES, choose, classify, compare, count_shared, split
from unitvec_client import Client

PER_CATEGORY = 40


@pytest.fixture(scope="module")
def reference(reference_model: Any) -> Any:
    """Vectors of the glosses by sentence-transformers."""
    return reference_model.encode([gloss.text for gloss in choose(PER_CATEGORY)[0]])


def test_glosses_are_labelled_with_their_categories() -> None:
    glosses, labels = choose(PER_CATEGORY)
    assert [gloss.category for gloss in glosses] == [CATEGORIES[label] for label in labels]
    assert np.bincount(labels).tolist() == [PER_CATEGORY] * len(CATEGORIES)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 8)), min_size=1))
def test_shared_texts_are_counted_as_by_scikit_learn(texts: list[tuple[int, int]]) -> None:
    clusters, labels = np.array(texts).T
    counts = count_shared(clusters, labels)
    assert counts.shape == (clusters.max() + 1, len(CATEGORIES))
    kept = counts[counts.any(axis=1)][:, counts.any(axis=0)]
    np.testing.assert_array_equal(kept, contingency_matrix(clusters, labels))


def test_agreement_of_the_same_partition_and_of_chance() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 600)
    features = np.eye(3)[labels] + rng.normal(0, 0.05, (600, 3))
    same = compare(features, (labels + 1) % 3, labels)
    assert same[:3] == pytest.approx((1, 1, 1))
    assert same.silhouette > 0.9
    chance = compare(features, rng.integers(0, 3, 600), labels)
    assert chance.rand == pytest.approx(0, abs=0.02)
    assert chance.purity == pytest.approx(1 / 3, abs=0.06)
    assert chance.silhouette < 0


def test_a_split_keeps_texts_apart_and_categories_in_proportion() -> None:
    labels = np.repeat(np.arange(9), [100, 80, 40, 40, 40, 40, 40, 40, 40])
    train, test = split(labels)
    assert sorted([*train, *test]) == list(range(len(labels)))
    assert np.bincount(labels[test]).tolist() == [25, 20, 10, 10, 10, 10, 10, 10, 10]


def test_classes_are_those_of_sentence_transformers(client: Client, reference: Any) -> None:
    glosses, labels = choose(PER_CATEGORY)
    texts = [gloss.text for gloss in glosses]
    train, test = split(labels)
    vectors = client.embed(texts)
    predicted = classify(vectors[train], labels[train], vectors[test])
    model = LogisticRegression(C=10, max_iter=1000).fit(reference[train], labels[train])
    assert np.mean(predicted == model.predict(reference[test])) > 0.98
    assert np.mean(predicted == labels[test]) > 0.8


def test_the_example(
    target: str,
    client: Client,
    reference: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--target", target, "--output", str(tmp_path), "--count", str(PER_CATEGORY)]
    assert example.main(arguments) == 0
    printed = capsys.readouterr().out
    glosses, labels = choose(PER_CATEGORY)
    train, test = split(labels)
    vectors = client.embed([gloss.text for gloss in glosses])
    counts = confusion_matrix(labels[test], classify(vectors[train], labels[train], vectors[test]))

    def figures(name: str) -> list[float]:
        (row,) = re.findall(rf"^  {re.escape(name)} +([\d. -]+)$", printed, re.MULTILINE)
        return [float(figure) for figure in row.split()]

    by_words, by_meaning, tested = figures("accuracy")
    assert tested == counts.sum()
    assert by_meaning == pytest.approx(np.trace(counts) / counts.sum(), abs=6e-4)
    assert by_meaning > by_words + 0.1
    for category, name in enumerate(CATEGORIES):
        f1 = 2 * counts[category, category] / (counts[category].sum() + counts[:, category].sum())
        assert figures(f"F1 {name}")[1] == pytest.approx(f1, abs=6e-4)
    by_tfidf = TfidfVectorizer(sublinear_tf=True).fit_transform(gloss.text for gloss in glosses)
    _, expected = _clustered(by_tfidf, labels)
    assert figures("TF-IDF") == pytest.approx(expected, abs=0.01)
    clusters, expected = _clustered(reference, labels)
    assert figures("embeddings") == pytest.approx(expected, abs=0.01)
    apart = silhouette_score(reference, labels, metric="cosine")
    assert figures("(categories)") == [1, 1, 1, pytest.approx(apart, abs=0.01)]
    sizes = re.findall(r"^ +(\d+)  \d+% ", printed, re.MULTILINE)
    assert sorted(map(int, sizes)) == pytest.approx(sorted(np.bincount(clusters)), abs=2)
    assert all(a > b for a, b in zip(figures("embeddings"), figures("TF-IDF"), strict=True))
    assert imread(tmp_path / "confusion.png").shape == (750, 900, 4)


def _clustered(features: Any, labels: Any) -> tuple[Any, list[float]]:
    """Clusters of k-means, with what scikit-learn has to say of them."""
    clusters = KMeans(len(CATEGORIES), n_init=10, random_state=example.SEED).fit_predict(features)
    return clusters, [
        contingency_matrix(labels, clusters).max(axis=0).sum() / len(labels),
        adjusted_rand_score(labels, clusters),
        normalized_mutual_info_score(labels, clusters),
        silhouette_score(features, clusters, metric="cosine"),
    ]
