"""The texts that the examples work on: real ones, which lie in `examples/data`.

`data/build.py` says how they were made from WordNet 3.0, and NOTICE.md whose they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Gloss:
    """One sense of WordNet.

    Attributes:
        id: Of the synset.
        words: Which mean this, such as ("dog", "domestic dog").
        category: One of 26, such as "animal" or "food".
        text: What it means.
    """

    id: str
    words: tuple[str, ...]
    category: str
    text: str


@dataclass(frozen=True)
class Pair:
    """Words and a gloss.

    Attributes:
        words: Such as "dog, domestic dog".
        text: A gloss.
        match: Whether it is theirs.
        kind: "own", "sibling" (that of another dog, say) or "other".
    """

    words: str
    text: str
    match: bool
    kind: str


def load_glosses(
    count: int | None = None, *, categories: tuple[str, ...] | None = None
) -> list[Gloss]:
    """Returns glosses of nouns, the most common senses first.

    Args:
        count: How many at most; None for all there are, which is 20,000 of all categories.
        categories: Which to take; None for all.
    """
    glosses = (
        Gloss(row["id"], tuple(row["words"]), row["category"], row["text"])
        for row in _rows("glosses.jsonl")
    )
    chosen = (gloss for gloss in glosses if categories is None or gloss.category in categories)
    return list(islice(chosen, count))


def load_pairs(count: int | None = None) -> list[Pair]:
    """Returns 2,000 pairs of words and a gloss, half of which belong together."""
    return list(islice((Pair(**row) for row in _rows("pairs.jsonl")), count))


def load_words(count: int | None = None) -> list[str]:
    """Returns 6,000 nouns, the most frequent first."""
    return (DATA / "words.txt").read_text("utf-8").split()[:count]


def _rows(name: str) -> Iterator[dict[str, Any]]:
    with (DATA / name).open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)
