"""Vector arithmetic: king - man + woman, and how often such sums come out right.

    python examples/vector_arithmetic.py --target localhost:50051
    python examples/vector_arithmetic.py --analogy "rome - italy + japan = tokyo"

word2vec made such sums famous. A sentence model was never trained for them, so they are counted
with what flatters them, the words of the sum being left out of the answers, and without; and
beside what they have to beat: the neighbours of their words, with nothing subtracted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from analogies import Analogy, load_quiz, parse_analogy
from arguments import at_least, output_file, parser
from corpora import load_words
from unitvec_client import Client
from waiting import waiting

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

SUM = (1, -1, 1)
"""Weights of the words of `a - b + c`."""
BASELINES = {"a + c": (1, 0, 1), "a alone": (1, 0, 0), "c alone": (0, 0, 1)}
"""Weights of what such sums have to beat."""
WITH_INPUTS = "a - b + c, its words allowed"


@dataclass(frozen=True)
class Vocabulary:
    """Words, and their vectors.

    Attributes:
        words: All different.
        vectors: float32 (words, D) of unit norm.
    """

    words: tuple[str, ...]
    vectors: Floats

    @classmethod
    def embed(cls, client: Client, words: Iterable[str]) -> Self:
        """Returns these words, each once, with the vectors that the server gives them."""
        distinct = tuple(dict.fromkeys(words))
        return cls(distinct, client.embed(distinct))

    def combine(self, words: Sequence[str], weights: Sequence[int]) -> Floats:
        """Returns the weighted sum (D,) of the vectors of words."""
        rows = [self.words.index(word) for word in words]
        total: Floats = np.asarray(weights, np.float32) @ self.vectors[rows]
        return total

    def nearest(self, vector: Floats, *, leave_out: Sequence[str] = ()) -> list[tuple[str, float]]:
        """Returns all words but those left out, with their cosine to the vector, highest first."""
        cosines = self.vectors @ (vector / np.linalg.norm(vector))
        ordered = ((self.words[i], float(cosines[i])) for i in np.argsort(-cosines, kind="stable"))
        return [(word, cosine) for word, cosine in ordered if word not in leave_out]


def main(argv: Sequence[str] | None = None) -> int:
    """Prints where sums come out, and how often that is right."""
    flags = parser(__doc__)
    flags.add_argument(
        "--count", type=at_least(10), default=6000, help="frequent words to choose from"
    )
    flags.add_argument(
        "--analogy",
        action="append",
        help="such as 'king - man + woman = queen', in place of the quiz; repeat it for more",
    )
    arguments = flags.parse_args(argv)
    try:
        analogies = [parse_analogy(text) for text in arguments.analogy or ()] or load_quiz()
    except ValueError as exc:
        flags.error(str(exc))
    words = load_words(arguments.count)
    asked = [word for analogy in analogies for word in (*analogy.inputs, analogy.expected)]
    with Client(arguments.target) as client, waiting("embedding"):
        vocabulary = Vocabulary.embed(client, [*words, *asked])
    more = len(vocabulary.words) - len(words)
    counts = f"{len(words):,} most frequent nouns and {more} more words"
    print(f"{len(analogies)} sums over the {counts} that they name\n")
    ranks = rank_expected(vocabulary, analogies)
    print_answers(vocabulary, analogies, ranks["a - b + c"])
    print_totals(analogies, ranks)
    path = output_file(arguments.output, "vector_arithmetic.png")
    draw_ranks(analogies, ranks, path)
    print(f"\nPicture: {path}")
    return 0


def rank_expected(vocabulary: Vocabulary, analogies: Sequence[Analogy]) -> dict[str, Ints]:
    """Returns the ranks (analogies,) of the expected words, from 1, for each way to find them."""
    ways: dict[str, Sequence[int]] = {"a - b + c": SUM, WITH_INPUTS: SUM, **BASELINES}
    return {
        way: np.array(
            [
                find_rank(vocabulary, analogy, weights=weights, inputs_too=way == WITH_INPUTS)
                for analogy in analogies
            ]
        )
        for way, weights in ways.items()
    }


def find_rank(
    vocabulary: Vocabulary, analogy: Analogy, *, weights: Sequence[int], inputs_too: bool
) -> int:
    """Returns the rank of the expected word, from 1, the nearest.

    Args:
        vocabulary: It has all words of the analogy.
        analogy: What is asked.
        weights: Of `a`, `b` and `c`.
        inputs_too: Rank `a`, `b` and `c` as well.
    """
    vector = vocabulary.combine(analogy.inputs, weights)
    found = vocabulary.nearest(vector, leave_out=() if inputs_too else analogy.inputs)
    return [word for word, _ in found].index(analogy.expected) + 1


def print_answers(vocabulary: Vocabulary, analogies: Sequence[Analogy], ranks: Ints) -> None:
    """Prints a line for each sum, with the rank of the expected word."""
    print(f"{'':<32}{'expected':<13}{'rank':>5}  {'nearest':<13}nearest but for the sum's words")
    for analogy, rank in zip(analogies, ranks, strict=True):
        vector = vocabulary.combine(analogy.inputs, SUM)
        nearest, _ = vocabulary.nearest(vector)[0]
        best = vocabulary.nearest(vector, leave_out=analogy.inputs)[:3]
        answers = ", ".join(f"{word} {cosine:.2f}" for word, cosine in best)
        print(f"{analogy!s:<32}{analogy.expected:<13}{rank:>5}  {nearest:<13}{answers}")


def print_totals(analogies: Sequence[Analogy], ranks: dict[str, Ints]) -> None:
    """Prints how often the expected word is found, in all and by kind, in each way."""
    print(f"\n{'The expected word is':<32}{'nearest':>8}{'in first 5':>12}{'median rank':>13}")
    for way, found in ranks.items():
        first, fifth = np.sum(found == 1), np.sum(found <= 5)
        print(f"{way:<32}{first:>8}{fifth:>12}{np.median(found):>13g}")
    print(f"of {len(analogies)}. The words of the sum are left out but in the second line.")
    print("\nNearest, by kind     a - b + c     a + c")
    kinds = np.array([analogy.kind for analogy in analogies])
    for kind in dict.fromkeys(kinds.tolist()):
        of_kind = kinds == kind
        right, plain = (np.sum(ranks[way][of_kind] == 1) for way in ("a - b + c", "a + c"))
        print(f"{kind:<10}{f'of {of_kind.sum()}':<11}{right:>9}{plain:>10}")


def draw_ranks(analogies: Sequence[Analogy], ranks: dict[str, Ints], path: Path) -> None:
    """Draws the rank of each expected word, with and without subtraction."""
    figure = Figure(figsize=(9.2, 1.6 + 0.2 * len(analogies)), layout="constrained")
    axes: Any = figure.subplots()
    places = np.arange(len(analogies))
    with_it, without = ranks["a - b + c"], ranks["a + c"]
    axes.hlines(places, with_it, without, color="#cbd2d9", linewidth=1.5, zorder=1)
    axes.scatter(without, places, s=75, color="#9aa5b1", label="a + c, nothing subtracted")
    axes.scatter(with_it, places, s=28, color="#2563eb", label="a - b + c")
    axes.set_yticks(places, [f"{each} = {each.expected}" for each in analogies], fontsize=8.5)
    axes.set_ylim(len(analogies) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("rank of the expected word (1 is right), the words of the sum left out")
    axes.grid(axis="x", color="#e4e7eb")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    raise SystemExit(main())
