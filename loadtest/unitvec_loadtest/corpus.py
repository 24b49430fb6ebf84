"""The texts that requests carry, with their real mix of lengths."""

import random
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from unitvec_client.console.texts import TextSource
from unitvec_client.errors import InputError


@dataclass(frozen=True)
class Corpus:
    """Texts in the order in which requests use them; after the last comes the first again."""

    texts: tuple[str, ...]

    def draw(self, index: int, *, count: int) -> list[str]:
        """Returns the `count` texts of request number `index`, the same ones at every call."""
        first = index * count
        size = len(self.texts)
        return [self.texts[(first + offset) % size] for offset in range(count)]


def load_corpus(
    path: Path | None = None,
    *,
    field: str | None = None,
    input_format: str | None = None,
    seed: int = 0,
) -> Corpus:
    """Reads texts, as the command `unitvec` reads them, and shuffles them. Blank ones are left out.

    Args:
        path: The file; ``-`` for standard input. None: 200 English glosses from WordNet that come
            with the package.
        field: The key that holds the text in JSON, or its column.
        input_format: As for `TextSource`.
        seed: Of the shuffle; the same seed gives the same order.

    Raises:
        InputError: The file cannot be read, has no text, or a line is not as it should be.
    """
    bundled = str(resources.files(__package__) / "data/default_texts.jsonl")
    name = bundled if path is None else str(path)
    source = TextSource(path=name, field=field, input_format=input_format)
    texts = [text for text in source.texts() if text.strip()]
    if not texts:
        raise InputError(f"{path} has no texts")
    # A shuffle that can be repeated needs a seed, not secrecy.
    random.Random(seed).shuffle(texts)  # noqa: S311
    return Corpus(tuple(texts))
