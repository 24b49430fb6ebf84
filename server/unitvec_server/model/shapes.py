"""The few shapes that a graph compiler is asked for. Pure arithmetic.

OpenVINO compiles kernels for every new (B, S): some 10 ms and 1 MB each, and every worker has
its own. Free shapes would compile in traffic for hours, so batches are padded to shapes of a
closed set, all of which are compiled before the first caller.

Sizes keep their leading binary digits and round up, so padding is a bounded fraction of any
size: a batch of 1 to 8, 10, 12, 14, 16, 20, ... texts, a length of 4, 8, ..., 64, 72, 80, ...
tokens. Around 180 shapes cover runs of 256 tokens over texts of up to 256. On WordNet glosses
of 18 tokens on average they cost 15 % in padding, on paragraphs 4 %.
"""

from __future__ import annotations

_COUNT_DIGITS = 3
_LENGTH_DIGITS = 4
_LENGTH_UNIT_TOKENS = 4

Shape = tuple[int, int]
"""B and S."""


def padded_shape(count: int, longest: int) -> Shape:
    """The smallest shape of the set that holds `count` texts of up to `longest` tokens."""
    units = -(-max(1, longest) // _LENGTH_UNIT_TOKENS)
    return _round_up(count, _COUNT_DIGITS), _round_up(units, _LENGTH_DIGITS) * _LENGTH_UNIT_TOKENS


def all_shapes(*, max_seq_length: int, max_batch_tokens: int) -> list[Shape]:
    """Every shape that batches within the bounds are padded to.

    Args:
        max_seq_length: Longest text in tokens.
        max_batch_tokens: Most tokens in a batch; a longer text runs alone.
    """
    return sorted(
        {
            padded_shape(count, length)
            for length in range(1, max_seq_length + 1)
            for count in range(1, max(1, max_batch_tokens // length) + 1)
        }
    )


def _round_up(size: int, digits: int) -> int:
    """Up to a number whose binary form has zeros after its first `digits` digits."""
    step = 1 << max(0, size.bit_length() - digits)
    return -(-size // step) * step
