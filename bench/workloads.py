"""The texts that are embedded, the same ones in every run."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Sequence
from pathlib import Path

from unitvec_loadtest.corpus import load_corpus

_DATA = Path(__file__).with_name("data")
_MIN_QUERY_CHARS = 20

COUNTS = {"texts_short": 512, "texts_long": 128, "mix": 192, "single": 128}
"""Texts in one pass: the reference takes one to two seconds for each on two cores."""

TITLES = {
    "texts_short": "texts_short: WordNet glosses, one list",
    "texts_long": "texts_long: paragraphs, one list",
    "mix": "mix: short and long texts shuffled, one list",
    "single": "single: short texts, each a request of its own",
    "file": "file: texts of --texts, one list",
}


@dataclasses.dataclass(frozen=True)
class Workload:
    """Texts to embed.

    Attributes:
        name: A key of `TITLES`.
        texts: The texts, all different.
        single: Each text is a request of its own.
    """

    name: str
    texts: tuple[str, ...]
    single: bool = False


@dataclasses.dataclass(frozen=True)
class RetrievalTask:
    """Queries and the documents to be ranked for each of them."""

    queries: tuple[str, ...]
    documents: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Corpora:
    """Where texts come from.

    Attributes:
        short: Short texts.
        long: Long texts.
        file: Texts of the user's own, if any.
    """

    short: tuple[str, ...]
    long: tuple[str, ...]
    file: tuple[str, ...] = ()

    def workload(self, name: str, *, limit: int | None = None) -> Workload:
        """Builds a workload.

        Args:
            name: A key of `TITLES`.
            limit: Most texts in it; None for its usual number.
        """
        count = min(COUNTS.get(name, len(self.file)), limit or len(self.file) or 2**31)
        if name == "mix":
            texts = [*self.short[: count // 2], *self.long[: count - count // 2]]
            random.Random(0).shuffle(texts)
            return Workload(name, tuple(texts))
        source = {"texts_long": self.long, "file": self.file}.get(name, self.short)
        return Workload(name, source[:count], single=name == "single")


def load_corpora(file: Path | None) -> Corpora:
    """Reads the bundled texts and the user's own.

    Raises:
        InputError: A file cannot be read or holds no texts.
    """
    own = tuple(dict.fromkeys(load_corpus(file).texts)) if file else ()
    short = load_corpus(_DATA / "texts_short.jsonl").texts
    return Corpora(short, load_corpus(_DATA / "texts_long.jsonl").texts, own)


def retrieval_task(texts: Sequence[str], *, queries: int) -> RetrievalTask:
    """Splits texts: the first sentence of some asks for the rest, among the rest of them all.

    Args:
        texts: Texts of at least two words.
        queries: Number of queries; three times as many documents.
    """
    parts = [split_text(text) for text in texts if len(text.split()) > 1][: 3 * queries]
    return RetrievalTask(
        tuple(query for query, _ in parts[:queries]), tuple(rest for _, rest in parts)
    )


def split_text(text: str) -> tuple[str, str]:
    """First sentence and rest, or two halves where there is no sentence to split off."""
    match = re.match(rf"(.{{{_MIN_QUERY_CHARS},}}?[.;:!?])\s+(\S.*)", text, re.DOTALL)
    if match and len(match[1]) < 2 * len(match[2]):
        return match[1], match[2]
    words = text.split()
    middle = (len(words) + 1) // 2
    return " ".join(words[:middle]), " ".join(words[middle:])
