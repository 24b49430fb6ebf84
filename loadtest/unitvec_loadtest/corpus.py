"""The texts that requests carry, with their real mix of lengths."""

import json
import random
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

JSONL_SUFFIXES = frozenset({".jsonl", ".ndjson"})


class CorpusError(ValueError):
    """A file of texts cannot be used. The message names the file, and the line if it is one."""


@dataclass(frozen=True)
class Corpus:
    """Texts in the order in which requests use them; after the last comes the first again."""

    texts: tuple[str, ...]

    def draw(self, index: int, *, count: int) -> list[str]:
        """Returns the `count` texts of request number `index`, the same ones at every call."""
        first = index * count
        size = len(self.texts)
        return [self.texts[(first + offset) % size] for offset in range(count)]


def load_corpus(path: Path | None = None, *, field: str = "text", seed: int = 0) -> Corpus:
    """Reads texts and shuffles them.

    Args:
        path: A JSONL file (.jsonl or .ndjson: one object a line), or plain text with one
            text a line, blank lines left out. None: 200 English glosses from WordNet that come
            with the package.
        field: The key that holds the text in a JSONL file.
        seed: Of the shuffle; the same seed gives the same order.

    Raises:
        CorpusError: The file cannot be read, has no text, or a line is not as it should be.
    """
    if path is None:
        content = (resources.files(__package__) / "data/default_texts.jsonl").read_text("utf-8")
        texts = _parse_jsonl(content, field="text", name="default_texts.jsonl")
    else:
        texts = _parse(path, field=field)
    if not texts:
        raise CorpusError(f"{path} has no texts")
    # A shuffle that can be repeated needs a seed, not secrecy.
    random.Random(seed).shuffle(texts)  # noqa: S311
    return Corpus(tuple(texts))


def _parse(path: Path, *, field: str) -> list[str]:
    try:
        content = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise CorpusError(f"cannot read texts from {path}: {exc}") from exc
    if path.suffix in JSONL_SUFFIXES:
        return _parse_jsonl(content, field=field, name=str(path))
    return [line for line in content.split("\n") if line.strip()]


def _parse_jsonl(content: str, *, field: str, name: str) -> list[str]:
    # Not splitlines: JSON strings may hold U+2028 and its like as they are.
    lines = enumerate(content.split("\n"), start=1)
    return [
        _parse_line(line, field=field, place=f"{name}, line {number}")
        for number, line in lines
        if line.strip()
    ]


def _parse_line(line: str, *, field: str, place: str) -> str:
    try:
        item = json.loads(line)
    except json.JSONDecodeError as exc:
        raise CorpusError(f"{place} is not JSON: {exc}") from exc
    if not isinstance(item, dict) or not isinstance(item.get(field), str):
        raise CorpusError(f"{place} has no text under {field!r} (--field names the key)")
    text: str = item[field]
    return text
