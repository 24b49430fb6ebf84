"""Makes the data of the examples from the files of WordNet 3.0.

    python examples/data/build.py /usr/share/wordnet

Debian's package `wordnet-base` brings them. The outcome is committed, so that only who wants to
change it has to run this.

- `glosses.jsonl`: 20,000 noun senses, the common ones first: id, words, category, text.
- `pairs.jsonl`: 2,000 times words and a gloss, and whether it is the gloss of these words. A
  quarter of them has that of a sibling, such as one dog for another, and a quarter any other.
- `words.txt`: the 6,000 most frequent nouns, the most frequent first.
"""

from __future__ import annotations

import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
GLOSSES = 20_000
PAIRS = 2_000
WORDS = 6_000
CATEGORIES = (
    *("Tops", "act", "animal", "artifact", "attribute", "body", "cognition", "communication"),
    *("event", "feeling", "food", "group", "location", "motive", "object", "person"),
    *("phenomenon", "plant", "possession", "process", "quantity", "relation", "shape", "state"),
    *("substance", "time"),
)
"""Names of WordNet's lexicographer files 3 to 28, which hold the nouns."""


@dataclass(frozen=True)
class Sense:
    """One noun synset."""

    id: str
    words: tuple[str, ...]
    category: str
    parents: tuple[str, ...]
    text: str


def main() -> None:
    """Writes the three files."""
    folder = Path(sys.argv[1])
    counts = dict(_read_counts(folder / "cntlist.rev"))
    senses = [sense for sense in _read_senses(folder / "data.noun") if len(sense.text) >= 12]
    choice = random.Random(0)
    choice.shuffle(senses)
    senses.sort(key=lambda sense: -_frequency(sense, counts))
    chosen = senses[:GLOSSES]
    _write(HERE / "glosses.jsonl", map(_as_record, chosen))
    _write(HERE / "pairs.jsonl", _make_pairs(chosen, choice))
    (HERE / "words.txt").write_text("\n".join(_frequent_words(counts)) + "\n", "utf-8")


def _read_counts(path: Path) -> Iterator[tuple[tuple[str, str], int]]:
    """Yields how often each word has each noun category in texts that were tagged by hand."""
    totals: dict[tuple[str, str], int] = defaultdict(int)
    for line in path.read_text("utf-8").splitlines():
        key, _, count = line.split()
        word, _, kind = key.partition("%")
        part, file_number, *_ = kind.split(":")
        if part == "1":
            totals[word.replace("_", " "), CATEGORIES[int(file_number) - 3]] += int(count)
    yield from totals.items()


def _read_senses(path: Path) -> Iterator[Sense]:
    for line in path.read_text("utf-8").splitlines():
        if line.startswith(" "):
            continue  # The licence.
        head, _, gloss = line.partition(" | ")
        fields = head.split()
        n_words = int(fields[3], 16)
        words = tuple(word.replace("_", " ") for word in fields[4 : 4 + 2 * n_words : 2])
        pointers = fields[5 + 2 * n_words :]
        parents = tuple(
            target
            for symbol, target in zip(pointers[::4], pointers[1::4], strict=False)
            if symbol in ("@", "@i")
        )
        text = gloss.split('; "')[0].strip()
        yield Sense(fields[0], words, CATEGORIES[int(fields[1]) - 3], parents, text)


def _frequency(sense: Sense, counts: dict[tuple[str, str], int]) -> int:
    return counts.get((sense.words[0].lower(), sense.category), 0)


def _as_record(sense: Sense) -> dict[str, object]:
    return {
        "id": sense.id,
        "words": sense.words,
        "category": sense.category,
        "text": sense.text,
    }


def _make_pairs(senses: list[Sense], choice: random.Random) -> Iterator[dict[str, object]]:
    children: dict[str, list[Sense]] = defaultdict(list)
    for sense in senses:
        for parent in sense.parents:
            children[parent].append(sense)
    with_siblings = [s for s in senses[:8000] if s.parents and len(children[s.parents[0]]) > 2]
    for index, sense in enumerate(choice.sample(with_siblings, PAIRS)):
        words = ", ".join(sense.words)
        if index % 2 == 0:
            yield {"words": words, "text": sense.text, "match": True, "kind": "own"}
            continue
        pool = children[sense.parents[0]] if index % 4 == 1 else senses
        other = choice.choice([s for s in pool if s.id != sense.id])
        kind = "sibling" if index % 4 == 1 else "other"
        yield {"words": words, "text": other.text, "match": False, "kind": kind}


def _frequent_words(counts: dict[tuple[str, str], int]) -> list[str]:
    totals: dict[str, int] = defaultdict(int)
    for (word, _), count in counts.items():
        if word.isalpha() and len(word) > 2:
            totals[word] += count
    return sorted(totals, key=lambda word: (-totals[word], word))[:WORDS]


def _write(path: Path, records: Iterable[dict[str, object]]) -> None:
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    main()
