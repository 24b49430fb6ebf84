"""Counters that cost next to nothing to keep, for whoever asks how the server fares.

Each is written by one thread at a time and may be read by any: a reader may see the last event
half counted, never a damaged number.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from unitvec_server.policy.items import Item

SECONDS = (
    *(step * 10.0**power for power in range(-4, 1) for step in (1, 2.5, 5)),
    *(10.0, 30.0),
)
"""Buckets of times: from a lone short text, which takes a millisecond, to the usual deadlines."""

BATCH_TEXTS = tuple(float(1 << power) for power in range(11))
BATCH_TOKENS = tuple(float(1 << power) for power in range(15))


class Buckets(NamedTuple):
    """A histogram as it is read.

    Attributes:
        counts: Values up to each bound and not up to the one before it; the last, beyond all.
        sum: Of the values.
    """

    counts: list[int]
    sum: float


class Histogram:
    """Counts values by size.

    Args:
        bounds: Ascending; a value counts for the first bound that is not below it.
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
    """What a model ran. Written by its workers."""

    def __init__(self) -> None:
        self.texts = Histogram(BATCH_TEXTS)
        self.tokens = Histogram(BATCH_TOKENS)
        self.seconds = Histogram(SECONDS)
        self.padding_tokens = 0
        self._lock = threading.Lock()

    def begin(self, batch: Sequence[Item]) -> None:
        """Counts a batch that a worker takes. Needs the scheduler's lock."""
        lengths = [item.length for item in batch]
        tokens = sum(lengths)
        self.texts.observe(len(lengths))
        self.tokens.observe(tokens)
        self.padding_tokens += len(lengths) * max(lengths) - tokens

    def end(self, busy_s: float) -> None:
        """Counts how long a batch took. Callable from any thread."""
        with self._lock:
            self.seconds.observe(busy_s)


class Work(NamedTuple):
    """One list of texts that was embedded.

    Attributes:
        model: Name of the model.
        texts: How many.
        tokens: Of all of them.
        started_ns: When it was begun, on the monotonic clock.
        tokenize_ns: Text to tokens.
        queue_ns: Tokenized to first batch starting.
        infer_ns: First batch starting to last one done.
    """

    model: str
    texts: int
    tokens: int
    started_ns: int
    tokenize_ns: int
    queue_ns: int
    infer_ns: int


class EmbedTally:
    """What a model answered. Written on the event loop."""

    def __init__(self) -> None:
        self.texts = self.tokens = self.truncated = 0
        self.tokenize_seconds = Histogram(SECONDS)
        self.queue_seconds = Histogram(SECONDS)
        self.infer_seconds = Histogram(SECONDS)

    def add(self, work: Work, *, truncated: int) -> None:
        """Counts a list of texts, so many of which were cut."""
        self.texts += work.texts
        self.tokens += work.tokens
        self.truncated += truncated
        self.tokenize_seconds.observe(work.tokenize_ns * 1e-9)
        self.queue_seconds.observe(work.queue_ns * 1e-9)
        self.infer_seconds.observe(work.infer_ns * 1e-9)
