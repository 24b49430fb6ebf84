"""Counters that cost next to nothing to keep, and histograms, for metrics and logs.

Each counter is written by one thread at a time, or under a lock, and may be read by any thread
without one. A reader may see the last event half counted, but never a damaged number.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from unitvec_server.policy.items import Item

SECONDS = (
    *(step * 10.0**power for power in range(-4, 1) for step in (1, 2.5, 5)),
    *(10.0, 30.0),
)
"""Buckets of times in seconds: from a lone short text, which takes a millisecond, to the usual
deadlines."""

BATCH_TEXTS = tuple(float(1 << power) for power in range(11))
BATCH_TOKENS = tuple(float(1 << power) for power in range(15))


class Buckets(NamedTuple):
    """A histogram as it is read.

    Attributes:
        counts: Number of values up to each bound and above the one before it; the last count is of
            the values beyond all bounds.
        sum: Sum of the values.
    """

    counts: list[int]
    sum: float


class Histogram:
    """Counts values by size.

    Args:
        bounds: Ascending upper bounds; a value counts for the first that is not below it.

    Attributes:
        bounds: Upper bounds.
    """

    __slots__ = ("_counts", "_sum", "bounds")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Counts a value."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self._sum += value

    def read(self) -> Buckets:
        """The counts as they stand."""
        return Buckets(self._counts.copy(), self._sum)


class BatchTally:
    """Counts of what a model ran. Guarded by the scheduler's lock.

    Attributes:
        texts: Histogram of the texts of a batch.
        tokens: Histogram of the tokens of a batch, without padding.
        seconds: Histogram of the time that a worker took for a batch.
        padding_tokens: Number of tokens of padding, if each batch is a rectangle.
    """

    def __init__(self) -> None:
        self.texts = Histogram(BATCH_TEXTS)
        self.tokens = Histogram(BATCH_TOKENS)
        self.seconds = Histogram(SECONDS)
        self.padding_tokens = 0

    def begin(self, batch: Sequence[Item], tokens: int) -> None:
        """Counts a batch of so many tokens that a worker takes."""
        self.texts.observe(len(batch))
        self.tokens.observe(tokens)
        self.padding_tokens += len(batch) * max([item.length for item in batch]) - tokens

    def end(self, busy_s: float) -> None:
        """Counts how long a batch took."""
        self.seconds.observe(busy_s)


class Work(NamedTuple):
    """One list of texts that was embedded.

    Attributes:
        model: Name of the model.
        texts: Number of texts.
        tokens: Number of tokens of all texts.
        started_ns: Time at which tokenization began, on the monotonic clock.
        tokenize_ns: Time from text to tokens.
        queue_ns: Time from submission to the start of the first run.
        infer_ns: Time from then to the end of the last run.
    """

    model: str
    texts: int
    tokens: int
    started_ns: int
    tokenize_ns: int
    queue_ns: int
    infer_ns: int


class EmbedTally:
    """Counts of what a model answered. Written on the event loop.

    Attributes:
        texts: Number of texts answered.
        tokens: Number of their tokens.
        truncated: Number of texts that were cut.
        last_ns: Time at which the last list of texts began, on the monotonic clock; 0 before any.
        tokenize_seconds: Histogram of the time from text to tokens.
        queue_seconds: Histogram of the time from submission to the start of the first run.
        infer_seconds: Histogram of the time from then to the end of the last run.
    """

    def __init__(self) -> None:
        self.texts = self.tokens = self.truncated = self.last_ns = 0
        self.tokenize_seconds = Histogram(SECONDS)
        self.queue_seconds = Histogram(SECONDS)
        self.infer_seconds = Histogram(SECONDS)

    def add(self, work: Work, *, truncated: int) -> None:
        """Counts a list of texts, so many of which were cut."""
        self.texts += work.texts
        self.tokens += work.tokens
        self.truncated += truncated
        self.last_ns = work.started_ns
        self.tokenize_seconds.observe(work.tokenize_ns * 1e-9)
        self.queue_seconds.observe(work.queue_ns * 1e-9)
        self.infer_seconds.observe(work.infer_ns * 1e-9)
