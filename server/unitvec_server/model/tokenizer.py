"""Texts -> encodings. No padding here; the prompt and the truncation are applied here.

A `tokenizers.Tokenizer` is never changed after construction: changing truncation on one that
another thread uses panics ("Already borrowed"). Ours never truncates. Too long texts are cut
here, because the library would cut the prompt first where the start of a text is cut off.
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
from unitvec_server.model.artifact import Artifact
from unitvec_server.model.token_ids import count_ids, find_frame


class Truncation(enum.Enum):
    """Which side of a too long text is cut off. The prompt before it is kept either way."""

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
        special: Whether each token is one that the model puts around the text.
        kept_tokens: Number of tokens that `encode` would keep.
        kept_span: (start, end) of the text that `encode` would keep, in code points. Where the
            start of the text is cut off, the prompt before it, which is kept, is left out.
    """

    ids: list[int]
    tokens: list[str]
    offsets: list[tuple[int, int]]
    special: list[bool]
    kept_tokens: int
    kept_span: tuple[int, int]


class Tokenizer:
    """Splits texts for one model. Safe to call from many threads.

    Args:
        path: A `tokenizer.json`. Its own padding and truncation settings are ignored.
        max_seq_length: Longest encoding in tokens, special tokens included.
        own_side: Side of a too long text that the model cuts off where nobody asks for one.
        split_special_tokens: Whether the name of a special token inside a text is plain text.

    Attributes:
        max_seq_length: Longest encoding in tokens.
        vocabulary_size: Number of token ids: each is from 0 to below it.

    Raises:
        ArtifactError: The file cannot be loaded, or has more special tokens than fit.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_seq_length: int,
        own_side: Truncation = Truncation.END,
        split_special_tokens: bool = False,
    ) -> None:
        self.max_seq_length = max_seq_length
        self._own_side = own_side
        self._whole = _load(path)
        self._whole.encode_special_tokens = split_special_tokens
        special_tokens = self._whole.num_special_tokens_to_add(is_pair=False)
        if max_seq_length <= special_tokens:
            raise ArtifactError(
                f"{path} adds {special_tokens} special tokens to each text, which leaves no room "
                f"in a max_seq_length of {max_seq_length}; export the model again"
            )
        self._frame = find_frame(self._whole)
        self.vocabulary_size = count_ids(self._whole)

    def encode(
        self, texts: Sequence[str], *, prompt: str = "", side: Truncation | None = None
    ) -> list[Encoding]:
        """Encodes texts, each cut at `max_seq_length`.

        Args:
            texts: n texts; an empty one is legal.
            prompt: Put before each text, and kept where the text is cut on a side asked for.
            side: Which side of a too long text is cut off; None means exactly as the model
                itself does, which takes a prompt for a part of the text.

        Returns:
            n encodings, in order.
        """
        prompted = [prompt + text for text in texts] if prompt else list(texts)
        side, prompt = self._choose(side, prompt)
        needs_offsets = bool(prompt) and side is Truncation.START
        split = self._whole.encode_batch if needs_offsets else self._whole.encode_batch_fast
        encodings = []
        for encoding in split(prompted):
            input_ids = np.array(encoding.ids, np.int64)
            if len(input_ids) > self.max_seq_length:
                kept = _cut(encoding, self.max_seq_length, side, prompt)
                encodings.append(Encoding(input_ids[kept.indices], len(input_ids)))
            else:
                encodings.append(Encoding(input_ids, len(input_ids)))
        return encodings

    def overhead_tokens(self, prompt: str) -> int:
        """Number of tokens around a text: special ones, and those of a prompt by itself."""
        special: int = self._whole.num_special_tokens_to_add(is_pair=False)
        if not prompt:
            return special
        return special + len(self._whole.encode(prompt, add_special_tokens=False))

    def offsets(self, text: str) -> npt.NDArray[np.int64]:
        """Start and end of each token in a text, (T, 2), in code points; without special tokens."""
        [encoding] = self._whole.encode_batch([text], add_special_tokens=False)
        return np.array(encoding.offsets, np.int64).reshape(-1, 2)

    def tokenize(
        self, texts: Sequence[str], *, prompt: str = "", side: Truncation | None = None
    ) -> list[TokenizedText]:
        """Splits texts without cutting, and tells what `encode` would keep of each."""
        found = []
        prompted = [prompt + text for text in texts]
        side, prompt = self._choose(side, prompt)
        for whole in self._whole.encode_batch(prompted):
            length, offsets = len(whole), whole.offsets
            if length > self.max_seq_length:
                kept = _cut(whole, self.max_seq_length, side, prompt)
                length, offsets = len(kept.indices), [offsets[i] for i in kept.text_indices]
            found.append(
                TokenizedText(
                    *(whole.ids, whole.tokens, whole.offsets),
                    [bool(special) for special in whole.special_tokens_mask],
                    *(length, _span(offsets)),
                )
            )
        return found

    def encode_ids(
        self, rows: Sequence[Sequence[int]], *, prompt: str = "", side: Truncation | None = None
    ) -> list[Encoding]:
        """Encodes texts that are given as token ids, as `encode` does the texts themselves.

        Args:
            rows: Ids of n texts, each below `vocabulary_size`, with or without special tokens.
            prompt: Put before each text as tokens of its own.
            side: As in `encode`.

        Returns:
            n encodings, in order.
        """
        first, last = self._frame
        prompt_ids = self._whole.encode(prompt, add_special_tokens=False).ids if prompt else []
        room = self.max_seq_length - len(first) - len(last)
        side, prompt = self._choose(side, prompt)
        head = room if side is Truncation.END else min(len(prompt_ids) if prompt else 0, room)
        encodings = []
        for row in rows:
            inner = [*prompt_ids, *self._frame.strip(row)]
            length = len(first) + len(inner) + len(last)
            if len(inner) > room:
                inner = inner[:head] + inner[len(inner) - (room - head) :]
            input_ids = np.array([*first, *inner, *last], np.int64)
            encodings.append(Encoding(input_ids, length))
        return encodings

    def has_special_tokens(self, row: Sequence[int]) -> bool:
        """Whether the special tokens of the model are around these ids; true if it has none."""
        return self._frame.surrounds(row)

    def decode(
        self, rows: Sequence[Sequence[int]], *, skip_special_tokens: bool = True
    ) -> list[str]:
        """Joins the tokens of n texts, ids below `vocabulary_size`, as the tokenizer writes them.

        What the tokenizer dropped, such as case or blanks, does not come back.
        """
        lists = [list(row) for row in rows]
        texts: list[str] = self._whole.decode_batch(lists, skip_special_tokens=skip_special_tokens)
        return texts

    def _choose(self, side: Truncation | None, prompt: str) -> tuple[Truncation, str]:
        """The side to cut, and the prompt to keep."""
        return (self._own_side, "") if side is None else (side, prompt)


def mark_unpooled(encodings: Sequence[Encoding], count: int) -> list[Encoding]:
    """Marks the first tokens of texts as left out of pooling, as `artifact` describes it.

    Args:
        encodings: n encodings.
        count: Number of tokens of their prompt; what a text was cut to may have fewer.

    Returns:
        n encodings, in order.
    """
    marked = []
    for input_ids, full_length in encodings:
        ids = input_ids.copy()
        ids[:count] = -1 - ids[:count]
        marked.append(Encoding(ids, full_length))
    return marked


def open_tokenizer(artifact: Artifact) -> Tokenizer:
    """The tokenizer of a model folder, set as its manifest says.

    Raises:
        ArtifactError: Its file cannot be loaded, or has more special tokens than fit.
    """
    manifest = artifact.manifest
    return Tokenizer(
        artifact.tokenizer_path,
        max_seq_length=manifest.max_seq_length,
        own_side=Truncation(manifest.truncation_side),
        split_special_tokens=manifest.split_special_tokens,
    )


class _Kept(NamedTuple):
    """What is kept of a too long text, as indices of its tokens, ascending.

    Attributes:
        indices: All tokens that are kept, special tokens included.
        text_indices: Those of the text in one piece, without a prompt that is apart from it.
    """

    indices: npt.NDArray[np.intp]
    text_indices: npt.NDArray[np.intp]


def _cut(
    encoding: tokenizers.Encoding, max_seq_length: int, side: Truncation, prompt: str
) -> _Kept:
    """Chooses the tokens of a too long text that are kept.

    The special tokens are always kept. At the start, the prompt is kept as far as there is
    room for it, and what is cut off lies between it and the text that is left.
    """
    special = np.array(encoding.special_tokens_mask, bool)
    inner = np.flatnonzero(~special)
    room = max_seq_length - (len(special) - len(inner))
    head = room
    if side is Truncation.START:
        head = min(_count_prompt_tokens(encoding.offsets, prompt), room)
    tail = inner[len(inner) - (room - head) :]
    indices = np.sort(np.concatenate([np.flatnonzero(special), inner[:head], tail]))
    return _Kept(indices, tail if len(tail) else inner[:head])


def _count_prompt_tokens(offsets: Sequence[tuple[int, int]], prompt: str) -> int:
    """Counts the tokens that start within the prompt.

    Blanks at its end belong to the text: many tokenizers join them with the word that follows.
    """
    end_of_prompt = len(prompt.rstrip())
    return sum(start < end_of_prompt and end > start for start, end in offsets)


def _load(path: Path) -> tokenizers.Tokenizer:
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as exc:  # the library raises bare Exception for a bad file
        raise ArtifactError(f"{path} is not a tokenizer file: {exc}; export it again") from exc
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _span(offsets: Sequence[tuple[int, int]]) -> tuple[int, int]:
    spans = [(start, end) for start, end in offsets if end > start]
    if not spans:
        return (0, 0)
    return (min(start for start, _ in spans), max(end for _, end in spans))
