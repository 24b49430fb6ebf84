"""Before the first caller: checks that a graph works, and measures how wide its runs should be.

How many tokens a run should hold depends on the model, its precision and the machine: too few
and each run costs more than its work, too many and it falls out of the cache. So it is
measured, with all workers running side by side as they will in traffic.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from unitvec_server.errors import ArtifactError
from unitvec_server.model.encoder import Encoder
from unitvec_server.model.memory import MEASURED_TOKENS

_LENGTHS = (16, 64)
"""A sentence and a paragraph, in tokens."""

_LEAST_ROUNDS, _MOST_ROUNDS, _ROUNDS_S = 2, 6, 2.5
"""On a machine that others share, 2 rounds chose runs twice as wide as the fastest at one start in
ten, behind which lone texts wait twice as long; 6 at one in fifty. Slow models take too long."""
_GOOD_ENOUGH = 0.97
"""The narrowest runs within 3 % of the best win: they keep lone callers waiting less."""


def warm_up(encoder: Encoder, *, max_seq_length: int, max_batch_tokens: int) -> tuple[int, float]:
    """Runs short, middling and long batches, so that no caller pays for first allocations.

    A text of more than `MEASURED_TOKENS` tokens would take seconds, so none is run.

    Returns:
        Tokens of each text of the last run, and the seconds that each token of it took.

    Raises:
        ArtifactError: The graph fails, or returns the wrong shape or values not finite.
    """
    longest = min(max_seq_length, MEASURED_TOKENS)
    for length in sorted({min(longest, tokens) for tokens in (2, 16, 64, longest)}):
        count = max(1, max_batch_tokens // length)
        started_s = time.perf_counter()
        try:
            embeddings = encoder.encode([np.zeros(length, np.int64)] * count)
        except Exception as exc:  # onnxruntime's own classes derive from bare Exception
            raise ArtifactError(
                f"the graph fails on {count} texts of {length} tokens: {exc}; export it again"
            ) from exc
        if embeddings.shape != (count, encoder.dim) or not np.isfinite(embeddings).all():
            raise ArtifactError(
                f"the graph returned shape {embeddings.shape} or values that are not finite for "
                f"{count} texts of {length} tokens; export it again"
            )
        s_per_token = (time.perf_counter() - started_s) / (count * length)
    return length, s_per_token


def measure_batch_tokens(
    encoder: Encoder, *, max_seq_length: int, workers: int, candidates: Sequence[int]
) -> int:
    """The narrowest of the candidate widths that is about as fast as the best, in tokens.

    Args:
        encoder: A warm encoder.
        max_seq_length: Longest text in tokens.
        workers: Runs side by side.
        candidates: Widths to try, ascending.
    """
    lengths = sorted({min(length, max_seq_length) for length in _LENGTHS})
    rates = np.zeros((len(candidates), len(lengths)))  # tokens/s, at best
    started_s = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        for number in range(_MOST_ROUNDS):
            if number >= _LEAST_ROUNDS and time.perf_counter() - started_s > _ROUNDS_S:
                break
            for rate, width in zip(rates, candidates, strict=True):  # a slow moment hits all
                rate[:] = [
                    max(best, _rate(encoder, pool, length, width, workers))
                    for best, length in zip(rate, lengths, strict=True)
                ]
    return choose_width(candidates, rates)


def choose_width(candidates: Sequence[int], rates: np.ndarray) -> int:
    """The first candidate that is good enough at all lengths, taken together.

    Args:
        candidates: Widths in tokens, ascending.
        rates: (candidates, lengths) tokens/s.
    """
    relative = (rates / rates.max(axis=0)).mean(axis=1)  # (candidates,)
    good = relative >= _GOOD_ENOUGH * relative.max()
    return candidates[int(np.argmax(good))]


def _rate(
    encoder: Encoder, pool: ThreadPoolExecutor, length: int, width: int, workers: int
) -> float:
    rows = [np.ones(length, np.int64)] * max(1, width // length)
    run: Callable[[int], object] = lambda _: encoder.encode(rows)  # noqa: E731
    started_s = time.perf_counter()
    list(pool.map(run, range(workers)))
    return workers * len(rows) * length / (time.perf_counter() - started_s)
