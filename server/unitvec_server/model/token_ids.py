"""Token ids that a caller gives in place of a text, made into what the model sees of that text.

Some callers split texts themselves and send the ids with the special tokens of the model, as our
Tokenize gives them, others without them, as OpenAI's clients do. Both mean the same text, so the
special tokens are added where they are missing. Ids that begin and end with them are complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import tokenizers


class Frame(NamedTuple):
    """The special tokens that a model puts around each text.

    Attributes:
        first: Ids before the text.
        last: Ids after it.
    """

    first: tuple[int, ...]
    last: tuple[int, ...]

    def surrounds(self, ids: Sequence[int]) -> bool:
        """Whether the special tokens are around these ids."""
        end = len(ids) - len(self.last)
        if end < len(self.first):
            return False
        return tuple(ids[: len(self.first)]) == self.first and tuple(ids[end:]) == self.last

    def strip(self, ids: Sequence[int]) -> Sequence[int]:
        """The ids without the special tokens around them, if these are there."""
        return ids[len(self.first) : len(ids) - len(self.last)] if self.surrounds(ids) else ids


def find_frame(tokenizer: tokenizers.Tokenizer) -> Frame:
    """The frame of a tokenizer, as it puts it around a short text."""
    encoding = tokenizer.encode("a")
    ids, specials = encoding.ids, encoding.special_tokens_mask
    inner = [index for index, special in enumerate(specials) if not special]
    start, end = (inner[0], inner[-1] + 1) if inner else (len(ids), len(ids))
    return Frame(tuple(ids[:start]), tuple(ids[end:]))


def count_ids(tokenizer: tokenizers.Tokenizer) -> int:
    """The number of token ids: each valid one is below it."""
    plain: int = tokenizer.get_vocab_size(with_added_tokens=False)
    added: dict[int, Any] = tokenizer.get_added_tokens_decoder()
    return max(plain, max(added, default=-1) + 1)
