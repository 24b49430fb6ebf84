"""Which texts of a sample run together.

A wrong mask shows where a text is padded. So some texts, spread over the sample, run beside others
of any length, in batches of every size. The rest run beside texts of about their own length:
they are padded as well, by a few tokens. To mix them all would more than double what a plain graph
computes, mostly of padding.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

_SIZES = (1, 4, 2, 8, 3, 16, 1)
"""Of consecutive batches: single texts, small and wide ones follow each other."""

MAX_SHARED_TOKENS = 1024
"""Longer texts run alone."""


def make_batches(lengths: Sequence[int]) -> list[list[int]]:
    """Puts each text into one batch.

    Args:
        lengths: Tokens of each text.

    Returns:
        Batches of indices of texts.
    """
    stride = max(1, len(lengths) // sum(_SIZES))
    mixed = range(0, len(lengths), stride)
    alike = sorted(set(range(len(lengths))).difference(mixed), key=lambda index: lengths[index])
    return [*_split(mixed, lengths), *_split(alike, lengths)]


def _split(indices: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    sizes = itertools.cycle(_SIZES)
    batch: list[int] = []
    size = next(sizes)
    for index in indices:
        is_alone = any(lengths[other] > MAX_SHARED_TOKENS for other in (index, *batch[:1]))
        if batch and (is_alone or len(batch) == size):
            yield batch
            batch, size = [], next(sizes)
        batch.append(index)
    if batch:
        yield batch
