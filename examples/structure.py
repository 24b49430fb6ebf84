"""Structure of the space: how alike texts are within a category and between categories.

    python examples/structure.py --target localhost:50051
    python examples/structure.py --categories animal,plant,food --per-category 300

The texts are glosses of WordNet and the categories its own, which the model has not been told.
All similarities come as two histograms, their means as a matrix of categories, and how far the
categories separate as figures with a name: AUC, silhouette, and whether the nearest is alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from arguments import at_least, output_file, parser
from corpora import Gloss, load_glosses
from unitvec_client import Client
from waiting import waiting

CATEGORIES = (
    *("animal", "plant", "food", "body", "substance", "artifact", "location", "person"),
    *("feeling", "communication", "possession", "time", "quantity", "shape"),
)

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Labels = NDArray[np.int64]
"""The category of each text: (n,), from 0 to k - 1."""


def main(argv: Sequence[str] | None = None) -> int:
    """Prints how far categories separate, and draws it."""
    flags = parser(__doc__)
    flags.add_argument("--categories", default=",".join(CATEGORIES), help="two or more, by commas")
    flags.add_argument(
        "--per-category", type=at_least(2), default=90, help="glosses of each, at most"
    )
    arguments = flags.parse_args(argv)
    categories = tuple(arguments.categories.split(","))
    glosses = pick_glosses(categories, each=arguments.per_category)
    labels = np.array([categories.index(gloss.category) for gloss in glosses], np.int64)
    if len(categories) < 2 or np.bincount(labels, minlength=len(categories)).min() < 2:
        flags.error("it takes two categories or more, and two glosses or more of each")
    with Client(arguments.target) as client, waiting("embedding"):
        vectors = client.embed([gloss.text for gloss in glosses])
    within, between = split_pairs(vectors, labels)
    print(f"{len(glosses):,} glosses of {len(categories)} categories\n")
    print_separation(within, between)
    print_clusters(vectors, labels, categories)
    matrix = output_file(arguments.output, "structure_matrix.png")
    draw_matrix(mean_similarities(vectors, labels), categories, matrix)
    histogram = output_file(arguments.output, "structure_histogram.png")
    draw_histogram(within, between, histogram)
    print(f"\nPictures: {matrix}, {histogram}")
    return 0


def pick_glosses(categories: Sequence[str], *, each: int) -> list[Gloss]:
    """Returns the most common glosses of each category.

    Args:
        categories: Of `Gloss.category`.
        each: How many of each, at most.
    """
    return [gloss for name in categories for gloss in load_glosses(each, categories=(name,))]


def split_pairs(vectors: Floats, labels: Labels) -> tuple[Floats, Floats]:
    """Returns the cosines of all pairs of unit vectors (n, D): of one label, and of two."""
    rows, columns = np.triu_indices(len(vectors), k=1)
    cosines = (vectors @ vectors.T)[rows, columns]
    same = labels[rows] == labels[columns]
    return cosines[same], cosines[~same]


def mean_similarities(vectors: Floats, labels: Labels) -> Doubles:
    """Returns the mean cosine of each label to each (k, k), no vector being compared to itself.

    The mean of all dot products of two sets is the dot product of the means of the sets.
    """
    sizes = np.bincount(labels)
    centers = label_means(vectors, labels)
    means = centers @ centers.T
    # A set of size n and itself: n of the n^2 products are 1, a vector with itself.
    own = (sizes * np.diag(means) - 1) / (sizes - 1)
    np.fill_diagonal(means, own)
    return means


def label_means(vectors: Floats, labels: Labels) -> Doubles:
    """Returns the mean vector of each label: (k, D). They are shorter than 1."""
    rows = [vectors[labels == label].mean(axis=0, dtype=np.float64) for label in np.unique(labels)]
    return np.stack(rows)


def probability_closer(within: Floats, between: Floats) -> float:
    """Returns how likely a pair of one label has a higher cosine than one of two: the AUC."""
    ordered = np.sort(between)
    below = np.searchsorted(ordered, within, "left") + np.searchsorted(ordered, within, "right")
    return float(below.mean() / 2 / len(between))


def silhouettes(vectors: Floats, labels: Labels) -> Doubles:
    """Returns the silhouette (n,) of each unit vector in cosine distance, from -1 to 1.

    (b - a) / max(a, b), with a the mean distance to the others of its label, b that to the
    nearest other label. Means of distances come from means of vectors: no (n, n) is needed.
    """
    sizes = np.bincount(labels)
    rows = np.arange(len(labels))
    to_labels = 1 - vectors @ label_means(vectors, labels).T
    own = to_labels[rows, labels] * sizes[labels] / (sizes[labels] - 1)
    to_labels[rows, labels] = np.inf
    other = to_labels.min(axis=1)
    values: Doubles = (other - own) / np.maximum(own, other)
    return values


def nearest_is_alike(vectors: Floats, labels: Labels) -> NDArray[np.bool_]:
    """Returns for each unit vector (n, D) whether the nearest other one has its label: (n,)."""
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    alike: NDArray[np.bool_] = labels[cosines.argmax(axis=1)] == labels
    return alike


def chance_alike(labels: Labels) -> float:
    """Returns how likely another vector, drawn blindly, has the label of a given one."""
    sizes = np.bincount(labels)
    return float((sizes * (sizes - 1)).sum() / (len(labels) * (len(labels) - 1)))


def print_separation(within: Floats, between: Floats) -> None:
    """Prints how similarities within categories differ from those between."""
    print("cosine of           pairs    mean   deviation    5% below    5% above")
    for name, cosines in (("one category", within), ("two categories", between)):
        low, high = np.percentile(cosines, (5, 95))
        spread = f"{cosines.mean():>8.3f}{cosines.std():>12.3f}{low:>12.3f}{high:>12.3f}"
        print(f"{name:<15}{len(cosines):>10,}{spread}")
    closer = probability_closer(within, between)
    print(f"\nA pair of one category is closer than a pair of two in {closer:.1%} of all cases")
    print("(AUC; 50% by chance).")


def print_clusters(vectors: Floats, labels: Labels, categories: Sequence[str]) -> None:
    """Prints for each category how tight and how well apart it is."""
    means = mean_similarities(vectors, labels)
    apart = silhouettes(vectors, labels)
    alike = nearest_is_alike(vectors, labels)
    heads = f"{'glosses':>8}{'within':>9}{'silhouette':>12}{'nearest alike':>15}"
    print(f"\n{'':<15}{heads}  most like")
    for label, name in enumerate(categories):
        of_label = labels == label
        others = np.where(np.arange(len(categories)) == label, -np.inf, means[label])
        like = f"{categories[int(others.argmax())]} {others.max():.3f}"
        figures = f"{means[label, label]:>9.3f}{apart[of_label].mean():>12.3f}"
        print(f"{name:<15}{of_label.sum():>8}{figures}{alike[of_label].mean():>15.0%}  {like}")
    print(f"{'all':<15}{len(labels):>8}{'':>9}{apart.mean():>12.3f}{alike.mean():>15.0%}")
    print("\nSilhouettes go from -1 to 1 and are near 0 where clusters overlap.")
    print(f"The nearest would be alike by chance in {chance_alike(labels):.0%} of all cases.")


def draw_matrix(means: Doubles, categories: Sequence[str], path: Path) -> None:
    """Draws the mean cosine of each category to each."""
    figure = Figure(figsize=(9.2, 6.4), layout="constrained")
    axes: Any = figure.subplots()
    image = axes.imshow(means, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(categories)), categories, rotation=35, ha="right")
    axes.set_yticks(range(len(categories)), categories)
    axes.tick_params(length=0)
    middle = (means.min() + means.max()) / 2
    for row, column in np.ndindex(means.shape):
        ink = "black" if means[row, column] > middle else "white"
        number = f"{means[row, column]:.2f}"
        axes.text(column, row, number, ha="center", va="center", color=ink, fontsize=9)
    axes.set_title("Mean cosine of the glosses of two categories")
    figure.colorbar(image, label="mean cosine (no unit)")
    figure.savefig(path, dpi=110)


def draw_histogram(within: Floats, between: Floats, path: Path) -> None:
    """Draws how cosines within categories and between them spread."""
    figure = Figure(figsize=(9.2, 4), layout="constrained")
    axes: Any = figure.subplots()
    edges = np.linspace(min(within.min(), between.min()), 1, 100)
    for cosines, name, color in (
        (between, "two categories", "#9aa5b1"),
        (within, "one category", "#2563eb"),
    ):
        label = f"{len(cosines):,} pairs of {name}, mean {cosines.mean():.3f}"
        axes.hist(cosines, edges, density=True, alpha=0.55, color=color, label=label)
        axes.axvline(cosines.mean(), color=color, linestyle="--")
    axes.set_xlabel("cosine of two glosses (no unit)")
    axes.set_ylabel("probability density (per unit of cosine)")
    axes.legend(frameon=False, loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    raise SystemExit(main())
