"""Similarity of sentences: all pairs as a heatmap, and how four metrics relate.

    python examples/similarity.py --target localhost:50051

The server computes every score. A dozen sentences show what is found close; all pairs of a few
hundred glosses of WordNet show that cosine, dot product and Euclidean distance put pairs in the
same order where vectors have length 1, and that Manhattan distance nearly does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from arguments import at_least, output_file, parser
from corpora import load_glosses
from unitvec_client import Client

SENTENCES = (
    "A cat sleeps on the mat.",
    "A kitten is napping on a rug.",
    "The dog barks at the postman.",
    "The central bank raised interest rates.",
    "Borrowing money has become more expensive.",
    "He sat down on the bank of the river.",
    "How do I reset my password?",
    "I forgot my login and cannot get in.",
    "The film was a waste of time.",
    "The film was not a waste of time.",
    "Water boils at 100 degrees Celsius.",
    "L'eau bout à 100 degrés Celsius.",
)
METRICS: tuple[Literal["cosine", "dot", "euclidean", "manhattan"], ...] = (
    "cosine",
    "dot",
    "euclidean",
    "manhattan",
)
CUT = 64
"""Dimensions kept where vectors are to have other lengths than 1."""

Floats = NDArray[np.float32]


def main(argv: Sequence[str] | None = None) -> int:
    """Prints pairs and correlations, and draws both."""
    flags = parser(__doc__)
    flags.add_argument(
        "--count", type=at_least(3), default=300, help="glosses whose pairs are correlated"
    )
    flags.add_argument("--sentence", action="append", help="compare these; give it for each")
    arguments = flags.parse_args(argv)
    sentences = tuple(arguments.sentence or SENTENCES)
    texts = [gloss.text for gloss in load_glosses(arguments.count)]
    with Client(arguments.target) as client:
        scores = client.similarity(sentences, sentences)
        print_pairs(sentences, score_pairs(client, client.embed(sentences)))
        unit = score_pairs(client, client.embed(texts))
        cut = score_pairs(client, client.embed(texts, dimensions=CUT, normalize=False))
    print_correlations(f"All pairs of {len(texts)} glosses, vectors of length 1", unit)
    print_laws(unit)
    print_correlations(f"The same, first {CUT} values only, not scaled to length 1", cut)
    heatmap = output_file(arguments.output, "similarity_heatmap.png")
    draw_heatmap(sentences, scores, heatmap)
    metrics = output_file(arguments.output, "similarity_metrics.png")
    draw_metrics(unit, metrics)
    print(f"\nPictures: {heatmap}, {metrics}")
    return 0


def upper_triangle(scores: Floats) -> Floats:
    """Returns the scores (n, n) of all pairs of two different texts, once each: (n(n-1)/2,)."""
    return scores[np.triu_indices(len(scores), k=1)]


def score_pairs(client: Client, vectors: Floats) -> dict[str, Floats]:
    """Returns the scores of all pairs of vectors (n, D), for each metric of `METRICS`."""
    return {
        metric: upper_triangle(client.similarity(vectors, vectors, metric=metric, normalize=False))
        for metric in METRICS
    }


def correlate(scores: dict[str, Floats], *, ranks: bool) -> NDArray[np.float64]:
    """Returns the correlation of each metric with each: (metrics, metrics).

    Args:
        scores: Of the same pairs, for each metric.
        ranks: Correlate ranks (Spearman) in place of values (Pearson).
    """
    rows = [rank(row) if ranks else row.astype(np.float64) for row in scores.values()]
    return np.corrcoef(rows)


def rank(values: Floats) -> NDArray[np.float64]:
    """Returns the rank of each value (n,), from 1, the lowest; equal values share their mean."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks


def distance_of(cosines: NDArray[Any]) -> NDArray[Any]:
    """Returns the Euclidean distances of unit vectors that have these cosines."""
    # Rounding lifts the cosine of equal vectors a little above 1.
    distances: NDArray[Any] = np.sqrt(np.maximum(0, 2 - 2 * cosines))
    return distances


def print_pairs(sentences: Sequence[str], scores: dict[str, Floats]) -> None:
    """Prints the closest and the farthest pairs of sentences, and their score in each metric."""
    rows, columns = np.triu_indices(len(sentences), k=1)
    order = np.argsort(-scores["cosine"])
    print(f"{len(order)} pairs of {len(sentences)} sentences, the closest and the farthest\n")
    print("".join(f"{metric:>10}" for metric in METRICS))
    shown = order if len(order) <= 12 else [*order[:8], *order[-4:]]
    for pair in shown:
        values = "".join(f"{scores[metric][pair]:>10.4f}" for metric in METRICS)
        print(f"{values}   {sentences[rows[pair]]}  |  {sentences[columns[pair]]}")


def print_correlations(title: str, scores: dict[str, Floats]) -> None:
    """Prints how the metrics correlate: values on the left, ranks on the right."""
    print(f"\n{title}")
    heads = "".join(f"{metric:>11}" for metric in METRICS)
    print(f"{'':<11}{'Pearson':>11}{'':<37}{'Spearman':>8}")
    print(f"{'':<11}{heads}   {heads}")
    pearson, spearman = correlate(scores, ranks=False), correlate(scores, ranks=True)
    for metric, left, right in zip(METRICS, pearson, spearman, strict=True):
        numbers = ["".join(f"{value:>11.4f}" for value in row) for row in (left, right)]
        print(f"{metric:<11}{numbers[0]}   {numbers[1]}")


def print_laws(scores: dict[str, Floats]) -> None:
    """Prints why, for vectors of length 1, three metrics are one."""
    cosine = scores["cosine"].astype(np.float64)
    dot_error = np.abs(scores["dot"] - cosine).max()
    distance_error = np.abs(scores["euclidean"] - distance_of(cosine)).max()
    print("\nWhy: cosine = a.b / (|a| |b|), and both lengths are 1, so it is the dot product")
    print(f"(largest difference {dot_error:.0e}). And |a - b|^2 = 1 + 1 - 2 a.b = 2 - 2 cosine,")
    print(f"so Euclidean distance is sqrt(2 - 2 cosine) (largest difference {distance_error:.0e}):")
    print("it falls where cosine rises, and ranks alike. Manhattan distance obeys no such law.")


def draw_heatmap(sentences: Sequence[str], scores: Floats, path: Path) -> None:
    """Draws the cosine of each sentence to each, with its number."""
    figure = Figure(figsize=(9.2, 5.6), layout="constrained")
    axes: Any = figure.subplots()
    image = axes.imshow(scores, cmap="viridis", aspect="auto", vmin=min(0, scores.min()), vmax=1)
    numbers = range(1, len(sentences) + 1)
    places = range(len(sentences))
    axes.set_xticks(places, numbers)
    axes.set_yticks(places, [f"{t}  {n}" for n, t in zip(numbers, sentences, strict=True)])
    axes.tick_params(length=0)
    for row, column in np.ndindex(scores.shape):
        ink = "black" if scores[row, column] > 0.6 else "white"
        number = f"{scores[row, column]:.2f}"
        axes.text(column, row, number, ha="center", va="center", color=ink, fontsize=8.5)
    axes.set_title("Cosine similarity of all pairs")
    figure.colorbar(image, label="cosine (no unit)")
    figure.savefig(path, dpi=110)


def draw_metrics(scores: dict[str, Floats], path: Path) -> None:
    """Draws each pair's other scores over its cosine."""
    figure = Figure(figsize=(9.2, 3.6), layout="constrained")
    panels: Any = figure.subplots(1, 3)
    cosine = scores["cosine"]
    line = np.linspace(cosine.min(), cosine.max(), 200)
    laws = {
        "dot": ("= cosine", line, "upper left"),
        "euclidean": ("= √(2 - 2 cosine)", distance_of(line), "lower left"),
    }
    for axes, metric in zip(panels, METRICS[1:], strict=True):
        axes.scatter(cosine, scores[metric], s=4, alpha=0.6, color="#6b8fd6", linewidths=0)
        if metric in laws:
            label, values, place = laws[metric]
            axes.plot(line, values, color="#dc2626", linewidth=1, linestyle="--", label=label)
            axes.legend(frameon=False, loc=place)
        axes.set_xlabel("cosine (no unit)")
        axes.set_ylabel(f"{metric} (no unit)")
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{len(cosine):,} pairs of glosses, vectors of length 1")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    raise SystemExit(main())
