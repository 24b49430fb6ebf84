"""Texts -> encodings. No padding here; the prompt and the truncation side are applied here.

A `tokenizers.Tokenizer` is never changed after construction: changing truncation on one that
another thread uses panics ("Already borrowed"), so there is one for each truncation side.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tokenizers

from unitvec_server.errors import ArtifactError


class Truncation(enum.Enum):
    """Which side of a too long text is cut off."""

    END = "right"
    START = "left"


class Encoding(NamedTuple):
    """One text as its model sees it.

    Attributes:
        input_ids: (S,) int64, special tokens included, at most `max_seq_length` long.
        full_length: Number of tokens before truncation.
    """

    input_ids: npt.NDArray[np.int64]
    full_length: int

    @property
    def truncated(self) -> bool:
        """Whether something was cut off."""
        return self.full_length > len(self.input_ids)


class TokenizedText(NamedTuple):
    """One text split into tokens, nothing cut off.

    Attributes:
        ids: Token ids, special tokens included.
        tokens: The tokens.
        offsets: (start, end) of each token in code points; (0, 0) for special tokens.
        kept_tokens: Number of tokens that `encode` would keep.
        kept_span: (start, end) of the text that `encode` would keep, in code points.
    """

    ids: list[int]
    tokens: list[str]
    offsets: list[tuple[int, int]]
    kept_tokens: int
    kept_span: tuple[int, int]


class Tokenizer:
    """Splits texts for one model. Safe to call from many threads.

    Args:
        path: A `tokenizer.json`. Its own padding and truncation settings are ignored.
        max_seq_length: Longest encoding in tokens, special tokens included.

    Raises:
        ArtifactError: The file cannot be loaded, or has more special tokens than fit.
    """

    def __init__(self, path: Path, *, max_seq_length: int) -> None:
        self.max_seq_length = max_seq_length
        self._whole = _load(path)
        special_tokens = self._whole.num_special_tokens_to_add(is_pair=False)
        if max_seq_length <= special_tokens:
            raise ArtifactError(
                f"{path} adds {special_tokens} special tokens to each text, which leaves no room "
                f"in a max_seq_length of {max_seq_length}; export the model again"
            )
        self._cutting = {
            side: _load(path, max_seq_length=max_seq_length, side=side) for side in Truncation
        }

    def encode(
        self, texts: Sequence[str], *, prompt: str = "", side: Truncation = Truncation.END
    ) -> list[Encoding]:
        """Encodes texts, each cut at `max_seq_length`.

        Args:
            texts: n texts; an empty one is legal.
            prompt: Put before each text.
            side: Which side of a too long text is cut off.

        Returns:
            n encodings, in order.
        """
        prompted = [prompt + text for text in texts] if prompt else list(texts)
        return [
            Encoding(np.array(encoding.ids, np.int64), _full_length(encoding))
            for encoding in self._cutting[side].encode_batch_fast(prompted)
        ]

    def tokenize(
        self, texts: Sequence[str], *, prompt: str = "", side: Truncation = Truncation.END
    ) -> list[TokenizedText]:
        """Splits texts without cutting, and tells what `encode` would keep of each."""
        prompted = [prompt + text for text in texts]
        whole = self._whole.encode_batch(prompted)
        cut = self._cutting[side].encode_batch(prompted)
        return [
            TokenizedText(full.ids, full.tokens, full.offsets, len(kept), _span(kept.offsets))
            for full, kept in zip(whole, cut, strict=True)
        ]


def _load(
    path: Path, *, max_seq_length: int | None = None, side: Truncation = Truncation.END
) -> tokenizers.Tokenizer:
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as exc:  # the library raises bare Exception for a bad file
        raise ArtifactError(f"{path} is not a tokenizer file: {exc}; export it again") from exc
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if max_seq_length is not None:
        tokenizer.enable_truncation(max_seq_length, direction=side.value)
    return tokenizer


def _full_length(encoding: tokenizers.Encoding) -> int:
    """Length before truncation: each overflowing part repeats the special tokens."""
    overflowing = encoding.overflowing
    if not overflowing:
        return len(encoding)
    special = sum(encoding.special_tokens_mask)
    parts = (encoding, *overflowing)
    length: int = sum(len(part) - sum(part.special_tokens_mask) for part in parts) + special
    return length


def _span(offsets: Sequence[tuple[int, int]]) -> tuple[int, int]:
    spans = [(start, end) for start, end in offsets if end > start]
    if not spans:
        return (0, 0)
    return (min(start for start, _ in spans), max(end for _, end in spans))
