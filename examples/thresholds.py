"""Choose the cosine from which two texts count as a match, and see what it is worth.

A cosine is no probability: where to draw the line depends on the texts. Here words of WordNet
and a gloss either belong together or not. The threshold is chosen on one half of the pairs, and
what it achieves is measured on the other, which had no part in the choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from arguments import at_least, output_file, parser
from corpora import Pair, load_pairs
from unitvec_client import Client
from waiting import waiting

SHOWN_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
WANTED_PRECISION = 0.95
SEED = 0
NEGATIVES = {
    "sibling": "the gloss of a sibling, such as another kind of dog: hard",
    "other": "the gloss of something else: easy",
}

Scores = NDArray[np.float32]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """What each threshold would achieve; a pair counts as a match from the threshold on.

    Attributes:
        thresholds: (t,) the distinct scores, ascending.
        precision: (t,) share of true matches among those taken for one.
        recall: (t,) share of the true matches that are taken for one.
    """

    thresholds: Floats
    precision: Floats
    recall: Floats

    @property
    def f1(self) -> Floats:
        """(t,) harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / np.where(total == 0, 1, total)

    def average_precision(self) -> float:
        """Returns the mean precision, each weighted with the recall that it adds."""
        gained = -np.diff(self.recall, append=0)
        return float(gained @ self.precision)

    def best_threshold(self) -> float:
        """Returns the threshold of the highest F1."""
        return float(self.thresholds[self.f1.argmax()])

    def threshold_for(self, precision: float) -> float | None:
        """Returns the lowest threshold of at least this precision; None if there is none."""
        enough = np.flatnonzero(self.precision >= precision)
        return float(self.thresholds[enough[0]]) if len(enough) else None


class Outcome(NamedTuple):
    """What one threshold achieves."""

    precision: float
    recall: float
    f1: float


def trace(scores: Scores, matches: Flags) -> Curve:
    """Returns the curve of scores (n,) whose pairs match or not (n,); one must."""
    order = np.argsort(scores, kind="stable")[::-1]
    ranked = scores[order]
    # Equal scores fall on the same side of any threshold: only the last of them counts.
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    found = np.cumsum(matches[order])[last]
    return Curve(
        thresholds=ranked[last][::-1].astype(np.float64),
        precision=(found / (last + 1))[::-1],
        recall=(found / np.count_nonzero(matches))[::-1],
    )


def judge(scores: Scores, matches: Flags, threshold: float) -> Outcome:
    """Returns what the threshold achieves on scores (n,) whose pairs match or not (n,)."""
    taken = scores >= threshold
    right = int(np.count_nonzero(taken & matches))
    wrong = int(np.count_nonzero(taken != matches))
    return Outcome(
        precision=right / max(1, int(np.count_nonzero(taken))),
        recall=right / max(1, int(np.count_nonzero(matches))),
        f1=2 * right / max(1, 2 * right + wrong),
    )


def split(kinds: Sequence[str]) -> tuple[Flags, Flags]:
    """Returns which pairs are in which half (n,), each kind shared out evenly, at random."""
    order = np.random.default_rng(SEED).permutation(len(kinds))
    chosen = np.zeros(len(kinds), dtype=np.bool_)
    for kind in sorted(set(kinds)):
        of_kind = [place for place in order if kinds[place] == kind]
        chosen[of_kind[::2]] = True
    return chosen, ~chosen


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the example and returns its exit status."""
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=at_least(20), default=2000, help="how many pairs")
    options = arguments.parse_args(argv)
    pairs = load_pairs(options.count)
    with Client(options.target, timeout_s=None) as client, waiting("comparing"):
        scores = client.similarity(
            [pair.words for pair in pairs], [pair.text for pair in pairs], pairs=True
        )
    matches = np.array([pair.match for pair in pairs])
    first, second = split([pair.kind for pair in pairs])
    chosen = trace(scores[first], matches[first])
    best = chosen.best_threshold()
    print(f"{len(pairs):,} pairs of words and a gloss, {np.count_nonzero(matches):,} of them match")
    _print_thresholds(chosen, scores[second], matches[second])
    reported = [pair for pair, here in zip(pairs, second, strict=True) if here]
    _print_kinds(reported, scores[second], best)
    _print_errors(reported, scores[second], best)
    picture = output_file(options.output, "thresholds.png")
    _draw(_curves(reported, scores[second]), best, picture)
    print(f"\nThe curves: {picture}")
    return 0


def _print_thresholds(chosen: Curve, scores: Scores, matches: Flags) -> None:
    precise = chosen.threshold_for(WANTED_PRECISION)
    marks = {chosen.best_threshold(): "best F1 on the other half"}
    if precise is not None:
        marks[precise] = f"lowest of precision {WANTED_PRECISION} on the other half"
    print(f"\nOn the {len(scores):,} pairs that had no part in the choice")
    print("  threshold  precision  recall     F1")
    for threshold in sorted({*SHOWN_THRESHOLDS, *marks}):
        made = judge(scores, matches, threshold)
        row = f"  {threshold:9.3f}{made.precision:11.3f}{made.recall:8.3f}{made.f1:7.3f}"
        print(f"{row}  {marks.get(threshold, '')}".rstrip())
    average = trace(scores, matches).average_precision()
    print(f"  average precision {average:.3f}; guessing gives {matches.mean():.3f}")


def _print_kinds(pairs: Sequence[Pair], scores: Scores, threshold: float) -> None:
    kinds = np.array([pair.kind for pair in pairs])
    print(f"\nTaken for a match at {threshold:.3f}")
    print(f"  {(scores[kinds == 'own'] >= threshold).mean():6.1%}  the words' own gloss")
    for kind, meaning in NEGATIVES.items():
        print(f"  {(scores[kinds == kind] >= threshold).mean():6.1%}  {meaning}")


def _print_errors(pairs: Sequence[Pair], scores: Scores, threshold: float) -> None:
    order = np.argsort(scores)
    taken = [place for place in order[::-1] if not pairs[place].match][:3]
    missed = [place for place in order if pairs[place].match][:3]
    for title, places in (("Highest of the wrong", taken), ("Lowest of the right", missed)):
        print(f"\n{title}, with the threshold at {threshold:.3f}")
        for place in places:
            shown = f"{pairs[place].words} = {pairs[place].text}"
            print(f"  {scores[place]:6.3f}  {shorten(shown, 90, placeholder=' ...')}")


def _curves(pairs: Sequence[Pair], scores: Scores) -> Mapping[str, Curve]:
    kinds = np.array([pair.kind for pair in pairs])
    matches = kinds == "own"
    curves = {"all pairs": trace(scores, matches)}
    for kind in NEGATIVES:
        here = matches | (kinds == kind)
        curves[f"own and {kind}"] = trace(scores[here], matches[here])
    return curves


def _draw(curves: Mapping[str, Curve], threshold: float, path: Path) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
    for name, curve in curves.items():
        # The lowest threshold takes all pairs: its precision is the share that match.
        label = f"{name} ({curve.precision[0]:.0%} match): {curve.average_precision():.3f}"
        left.step([*curve.recall, 0], [*curve.precision, 1], where="post", label=label)
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0.4, 1.02))
    left.set_title("Precision over recall, by kind of pair")
    left.legend(loc="lower left", title="average precision")
    curve = curves["all pairs"]
    right.plot(curve.thresholds, curve.precision, label="precision")
    right.plot(curve.thresholds, curve.recall, label="recall")
    right.plot(curve.thresholds, curve.f1, label="F1")
    right.axvline(threshold, color="black", linestyle="--", label=f"chosen: {threshold:.3f}")
    right.set(xlabel="threshold (cosine)", ylabel="share", ylim=(0, 1.02))
    right.set_title("All pairs, over thresholds")
    right.legend(loc="center right")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())
