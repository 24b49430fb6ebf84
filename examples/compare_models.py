"""Compares all models that are served: quality, speed and size, on the same real texts.

- separation: glosses of WordNet fall into 26 categories. How much more alike are two glosses of
  one category than two of different ones? As cosines, and as the distance between the two means
  in units of the spread (Cohen's d), which can be compared from model to model.
- retrieval: for the words of a sense ("dog, domestic dog"), is its gloss found among those of all
  senses? recall@1 is how often it comes first; MRR is the mean of 1 / its rank.
- speed: texts per second, in rounds in which the models take turns.

One server can have several: `unitvec-serve --model artifacts/all-MiniLM-L6-v2 --model other=DIR`.
All of them run at one precision; to compare fp32 with int8, start two and name both.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arguments import at_least, output_file, parser
from corpora import Gloss, load_glosses
from unitvec_client import Client
from unitvec_client.results import ModelInfo
from waiting import waiting

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Separation:
    """How far categories are apart.

    Attributes:
        within: Mean cosine of two glosses of one category.
        between: Mean cosine of two of different categories.
        effect: Difference of the means over the spread of both (Cohen's d).
    """

    within: float
    between: float
    effect: float


@dataclass(frozen=True)
class Retrieval:
    """How well texts are found.

    Attributes:
        recall_at_1: Part of the queries whose own document comes first.
        mrr: Mean reciprocal rank of the query's own document.
    """

    recall_at_1: float
    mrr: float


@dataclass(frozen=True)
class Candidate:
    """A model and the server that has it.

    Attributes:
        client: Of the server.
        model: The model.
    """

    client: Client
    model: ModelInfo

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Returns the texts' vectors (n, D)."""
        vectors: Vectors = self.client.embed(texts, model=self.model.name)
        return vectors


@dataclass(frozen=True)
class Comparison:
    """What was found of one model.

    Attributes:
        model: The model.
        separation: Of the categories.
        retrieval: Of glosses by words.
        throughput: Texts per second, the median of the rounds.
        vector_bytes: Of one vector, as float32.
    """

    model: ModelInfo
    separation: Separation
    retrieval: Retrieval
    throughput: float
    vector_bytes: int


def measure_separation(vectors: Vectors, categories: Sequence[str]) -> Separation:
    """Compares all pairs of unit vectors (n, D) whose category (n,) is known."""
    labels = np.asarray(categories)
    upper = np.triu_indices(len(labels), k=1)
    cosines = (vectors @ vectors.T)[upper].astype(np.float64)
    same = (labels[:, np.newaxis] == labels)[upper]
    within, between = cosines[same], cosines[~same]
    freedom = len(cosines) - 2
    squares = within.var() * len(within) + between.var() * len(between)
    effect = (within.mean() - between.mean()) / np.sqrt(squares / freedom)
    return Separation(float(within.mean()), float(between.mean()), float(effect))


def measure_retrieval(queries: Vectors, documents: Vectors) -> Retrieval:
    """Ranks all documents (n, D) for each query (n, D), whose own is that of the same row.

    A document that scores as high as a query's own counts as ranked before it.
    """
    scores = queries @ documents.T
    own = scores.diagonal()[:, np.newaxis]
    ranks = (scores >= own).sum(axis=1)
    return Retrieval(float((ranks == 1).mean()), float((1 / ranks).mean()))


def measure_throughputs(
    candidates: Sequence[Candidate], texts: Sequence[str], *, rounds: int
) -> list[float]:
    """Returns the texts per second of each, median of rounds in which they take turns."""
    # A number ends each text, so that no server has ever seen it.
    numbers = itertools.count(random.randrange(10**6))
    found: list[list[float]] = [[] for _ in candidates]
    for _ in range(rounds):
        for candidate, rates in zip(candidates, found, strict=True):
            number = next(numbers)
            new = [f"{text} {number}" for text in texts]
            started_s = time.perf_counter()
            candidate.embed(new)
            rates.append(len(new) / (time.perf_counter() - started_s))
    return [float(np.median(rates)) for rates in found]


def compare(
    candidates: Sequence[Candidate], glosses: Sequence[Gloss], *, rounds: int
) -> list[Comparison]:
    """Returns what was found of each, in their order."""
    texts = [gloss.text for gloss in glosses]
    throughputs = measure_throughputs(candidates, texts[:256], rounds=rounds)
    return [
        judge(candidate, glosses, throughput=throughput)
        for candidate, throughput in zip(candidates, throughputs, strict=True)
    ]


def judge(candidate: Candidate, glosses: Sequence[Gloss], *, throughput: float) -> Comparison:
    """Returns what was found of one model, its speed among the others included."""
    documents = candidate.embed([gloss.text for gloss in glosses])
    queries = candidate.embed([", ".join(gloss.words) for gloss in glosses])
    separation = measure_separation(documents, [gloss.category for gloss in glosses])
    retrieval = measure_retrieval(queries, documents)
    return Comparison(candidate.model, separation, retrieval, throughput, documents[0].nbytes)


def choose_glosses(count: int) -> list[Gloss]:
    """Returns as many common senses, of which no two have the same words."""
    chosen: dict[tuple[str, ...], Gloss] = {}
    for gloss in load_glosses():
        chosen.setdefault(gloss.words, gloss)
        if len(chosen) == count:
            break
    return list(chosen.values())


def choose_models(clients: Sequence[Client], names: Sequence[str]) -> list[Candidate]:
    """Returns the models of these names, or all that are served if there are none.

    Raises:
        SystemExit: If one is not served.
    """
    served = [Candidate(client, model) for client in clients for model in client.models().models]
    known = [candidate.model.name for candidate in served]
    missing = [name for name in names if name not in known]
    if missing:
        raise SystemExit(f"no model {missing[0]!r}; there are {', '.join(known)}")
    chosen = [each for name in names for each in served if each.model.name == name]
    return chosen or served


def print_table(found: Sequence[Comparison]) -> None:
    """Prints a line for each model."""
    width = max(len("model"), *(len(each.model.name) for each in found))
    print(
        f"{'model':<{width}}  {'precision':>9}  {'dim':>4}  {'bytes':>6}  {'within':>6}"
        f"  {'between':>7}  {'effect':>6}  {'recall@1':>8}  {'MRR':>5}  {'texts/s':>8}"
    )
    for each in found:
        model, apart, hits = each.model, each.separation, each.retrieval
        print(
            f"{model.name:<{width}}  {model.precision:>9}  {model.dim:>4}  {each.vector_bytes:>6,}"
            f"  {apart.within:>6.3f}  {apart.between:>7.3f}  {apart.effect:>6.2f}"
            f"  {hits.recall_at_1:>8.3f}  {hits.mrr:>5.3f}  {each.throughput:>8,.0f}"
        )


def draw(found: Sequence[Comparison], path: Path) -> None:
    """Draws a bar for each model and figure."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(11, 1.8 + 0.45 * len(found)), sharey=True)
    names = [f"{each.model.name}\n{each.model.precision}, {each.model.dim} dims" for each in found]
    panels: tuple[tuple[str, str, list[float]], ...] = (
        ("Separation", "Cohen's d", [each.separation.effect for each in found]),
        ("Retrieval", "recall@1", [each.retrieval.recall_at_1 for each in found]),
        ("Retrieval", "MRR", [each.retrieval.mrr for each in found]),
        ("Speed", "texts per second", [each.throughput for each in found]),
    )
    for place, (title, unit, values) in zip(axes, panels, strict=True):
        _draw_bars(place, values, names)
        place.set(title=title, xlabel=unit)
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_bars(axes: Any, values: Sequence[float], names: Sequence[str]) -> None:
    places = range(len(names))
    bars = axes.barh(places, values, color=[f"C{place}" for place in places])
    axes.set_yticks(places, names)
    shown = [f"{value:,.0f}" if value >= 10 else f"{value:.2f}" for value in values]
    axes.bar_label(bars, shown, padding=3)
    axes.set_xlim(0, 1.25 * max(*values, 1e-9))
    axes.spines[["top", "right"]].set_visible(False)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Returns the flags."""
    flags = parser(__doc__)
    flags.add_argument("--others", nargs="*", default=[], help="host:port of further servers")
    flags.add_argument("--models", nargs="*", default=[], help="names; all that are served if none")
    flags.add_argument("--count", type=at_least(3), default=1000, help="senses of WordNet")
    flags.add_argument("--rounds", type=at_least(1), default=5, help="how often speed is measured")
    return flags.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Compares, prints and draws."""
    args = parse(argv)
    glosses = choose_glosses(args.count)
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(at)) for at in (args.target, *args.others)]
        stack.enter_context(waiting("comparing"))
        found = compare(choose_models(clients, args.models), glosses, rounds=args.rounds)
    categories = len({gloss.category for gloss in glosses})
    print(f"{len(glosses):,} senses of WordNet in {categories} categories\n")
    print_table(found)
    best = max(found, key=lambda each: each.retrieval.mrr)
    fastest = max(found, key=lambda each: each.throughput)
    print(
        f"\nFinds best: {best.model.name} in {best.model.precision}. "
        f"Fastest: {fastest.model.name} in {fastest.model.precision}."
    )
    print("By chance, recall@1 would be", f"{1 / len(glosses):.4f}.")
    path = output_file(args.output, "compare_models.png")
    draw(found, path)
    print(f"Picture: {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
