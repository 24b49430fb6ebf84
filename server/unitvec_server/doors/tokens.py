"""Tokens as text-embeddings-inference shows them: with their text and their place in bytes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from unitvec_server.model.tokenizer import TokenizedText


class Token(NamedTuple):
    """One token.

    Attributes:
        id: Its id.
        text: The part of the text that it is; its name if the text does not have it.
        start: First byte of that part; None if the text does not have it.
        stop: The byte after the last.
    """

    id: int
    text: str
    start: int | None = None
    stop: int | None = None


def place_tokens(tokenized: TokenizedText, text: str, *, with_special: bool) -> Iterator[Token]:
    """Yields the tokens of a text.

    Args:
        tokenized: The text as its tokens.
        text: The text itself, with its prompt.
        with_special: Whether the special tokens around it are wanted.
    """
    sizes_bytes = (len(char.encode()) for char in text)
    places = [0, *itertools.accumulate(sizes_bytes)]  # of each code point, in bytes
    for number, token, (start, stop), special in zip(
        tokenized.ids, tokenized.tokens, tokenized.offsets, tokenized.special, strict=True
    ):
        if not special:
            yield Token(number, text[start:stop], places[start], places[stop])
        elif with_special:
            yield Token(number, token)
