"""Cluster texts with k-means, and classify them with logistic regression, by their embeddings.

The texts are WordNet's glosses of nine categories, so what comes out can be held against what
lexicographers decided. Both are done with TF-IDF as well, the usual features without a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    adjusted_rand_score,
    confusion_matrix,
    f1_score,
    normalized_mutual_info_score,
    silhouette_score,
)
from sklearn.model_selection import train_test_split

from arguments import at_least, output_file, parser
from corpora import Gloss, load_glosses
from unitvec_client import Client
from waiting import waiting

CATEGORIES = (
    "animal",
    "body",
    "feeling",
    "food",
    "location",
    "plant",
    "possession",
    "substance",
    "time",
)
SEED = 0
TEST_SHARE = 0.25

Features = Any
"""(n, D) numbers: an array of embeddings, or a sparse matrix of TF-IDF."""

Labels = NDArray[np.int64]


class Agreement(NamedTuple):
    """How clusters agree with categories, and how far they are apart.

    Attributes:
        purity: Share of texts that are of their cluster's most frequent category.
        rand: Adjusted Rand index: 1 for the same partition, about 0 for a random one.
        information: Normalized mutual information, 0 to 1.
        silhouette: Mean silhouette, -1 to 1, by cosine distance; it knows no categories.
    """

    purity: float
    rand: float
    information: float
    silhouette: float


def choose(per_category: int) -> tuple[list[Gloss], Labels]:
    """Returns at most so many glosses of each category, and their categories (n,) by number."""
    glosses = [
        gloss for name in CATEGORIES for gloss in load_glosses(per_category, categories=(name,))
    ]
    return glosses, np.array([CATEGORIES.index(gloss.category) for gloss in glosses])


def count_shared(clusters: Labels, labels: Labels) -> Labels:
    """Returns how many texts each cluster (row) has of each category (column)."""
    counts = np.zeros((clusters.max() + 1, len(CATEGORIES)), dtype=np.int64)
    np.add.at(counts, (clusters, labels), 1)
    return counts


def compare(features: Features, clusters: Labels, labels: Labels) -> Agreement:
    """Returns how clusters (n,) of the features (n, D) agree with the labels (n,)."""
    return Agreement(
        purity=count_shared(clusters, labels).max(axis=1).sum() / len(labels),
        rand=adjusted_rand_score(labels, clusters),
        information=normalized_mutual_info_score(labels, clusters),
        silhouette=silhouette_score(features, clusters, metric="cosine"),
    )


def split(labels: Labels) -> tuple[Labels, Labels]:
    """Returns which texts to train with and which to test with, each category in proportion."""
    train, test = train_test_split(
        np.arange(len(labels)), test_size=TEST_SHARE, stratify=labels, random_state=SEED
    )
    return train, test


def classify(train: Features, labels: Labels, test: Features) -> Labels:
    """Returns the labels that logistic regression, taught with the train rows, gives the test."""
    # Rows of unit length have small values, which the default of 1 would hold back too much.
    model = LogisticRegression(C=10, max_iter=1000).fit(train, labels)
    predicted: Labels = model.predict(test)
    return predicted


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the example and returns its exit status."""
    arguments = parser(__doc__)
    arguments.add_argument(
        "--count", type=at_least(20), default=300, help="how many texts of a category"
    )
    options = arguments.parse_args(argv)
    glosses, labels = choose(options.count)
    texts = [gloss.text for gloss in glosses]
    print(f"{len(texts):,} glosses of {len(CATEGORIES)} categories")
    with Client(options.target, timeout_s=None) as client, waiting("embedding"):
        vectors = client.embed(texts)
    _cluster(vectors, texts, labels)
    predicted, test = _classify(vectors, texts, labels)
    picture = output_file(options.output, "confusion.png")
    _draw(confusion_matrix(labels[test], predicted), picture)
    print(f"\nWho is taken for whom: {picture}")
    return 0


def _cluster(vectors: Features, texts: Sequence[str], labels: Labels) -> None:
    print(f"\nk-means with {len(CATEGORIES)} clusters, which is told no category")
    print("             purity  adjusted Rand  mutual information  silhouette")
    kmeans = KMeans(len(CATEGORIES), n_init=10, random_state=SEED)
    by_words = TfidfVectorizer(sublinear_tf=True).fit_transform(texts)
    _print_agreement("TF-IDF", compare(by_words, kmeans.fit_predict(by_words), labels))
    clusters = kmeans.fit_predict(vectors)
    _print_agreement("embeddings", compare(vectors, clusters, labels))
    _print_agreement("(categories)", compare(vectors, labels, labels))
    print("\nEach cluster of embeddings: its size, what it holds, and the text nearest its centre")
    nearest = kmeans.transform(vectors).argmin(axis=0)
    for counts, text in zip(count_shared(clusters, labels), nearest, strict=True):
        top = np.argsort(-counts)[:2]
        held = ", ".join(f"{counts[i] / counts.sum():.0%} {CATEGORIES[i]}" for i in top)
        print(f"  {int(counts.sum()):4}  {held:28}  {shorten(texts[text], 60, placeholder=' ...')}")


def _print_agreement(name: str, agreement: Agreement) -> None:
    print("  {:12}{:5.2f}{:15.2f}{:20.2f}{:12.2f}".format(name, *agreement))


def _classify(vectors: Features, texts: Sequence[str], labels: Labels) -> tuple[Labels, Labels]:
    """Prints how well classes are found; returns what embeddings gave, and the texts tested."""
    train, test = split(labels)
    tfidf = TfidfVectorizer(sublinear_tf=True).fit([texts[i] for i in train])
    by_words = tfidf.transform(texts)
    predicted = classify(vectors[train], labels[train], vectors[test])
    baseline = classify(by_words[train], labels[train], by_words[test])
    print(
        f"\nLogistic regression, taught with {len(train):,} texts, tested on {len(test):,} others"
    )
    print("               TF-IDF  embeddings  texts tested")
    scores = [accuracy_score(labels[test], guess) for guess in (baseline, predicted)]
    print("  {:13}{:6.3f}{:12.3f}{:14}".format("accuracy", *scores, len(test)))
    for category, row in enumerate(_f1_rows(labels[test], baseline, predicted)):
        tested = int(np.count_nonzero(labels[test] == category))
        print("  F1 {:10}{:6.3f}{:12.3f}{:14}".format(CATEGORIES[category], *row, tested))
    return predicted, test


def _f1_rows(labels: Labels, *guesses: Labels) -> NDArray[np.float64]:
    scores = [f1_score(labels, guess, average=None, zero_division=0.0) for guess in guesses]
    return np.stack(scores, axis=1)


def _draw(counts: Labels, path: Path) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 7.5), layout="constrained")
    shares = counts / counts.sum(axis=1, keepdims=True)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour)
    places = range(len(CATEGORIES))
    axes.set_xticks(places, CATEGORIES, rotation=45, ha="right")
    axes.set_yticks(places, CATEGORIES)
    axes.set(xlabel="category predicted", ylabel="category of the text")
    axes.set_title("Logistic regression on embeddings: texts tested (count)")
    figure.colorbar(image, label="share of the texts of a category")
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())
