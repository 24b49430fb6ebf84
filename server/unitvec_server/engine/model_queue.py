"""One served model as the scheduler sees it: encoder, waiting and running texts, speed."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from unitvec_server.engine.counters import BatchTally
from unitvec_server.engine.pending import Slot
from unitvec_server.policy.batching import Batcher, BatchLimits, Plan
from unitvec_server.policy.deadlines import NO_WARM_RUN, Deadlines, RunSpeed, WarmRun
from unitvec_server.policy.items import Item

Rows = Sequence[npt.NDArray[np.int64]]
"""Token ids of B texts, each (S,) int64."""

_PROBE_AFTER = 3
"""Texts that fail in a row before one that worked is tried: a poisoned text or two cost nothing,
and a model that is broken for good is noticed at the third."""

_PROBE = np.zeros(2, np.int64)  # of the warm-up, so every served graph has run it


class Encodes(Protocol):
    """What the scheduler needs of an encoder."""

    @property
    def dim(self) -> int:
        """Dimension D."""

    def encode(self, rows: Rows) -> npt.NDArray[np.float32]:
        """Token ids of B texts -> (B, D) float32. Called from many threads."""


class EncoderBroken(Exception):
    """The model fails on a text that it could do at the start."""


class ModelQueue:
    """One model. Guarded by the scheduler's lock, except for `encode` and `probe`.

    Args:
        number: Number that tells the cached vectors of this model from those of others.
        encoder: Runs the model.
        limits: Bounds of one batch.
        workers: Number of workers of the scheduler.
        warm_run: The longest run before the first caller.
        batches: Counts to go on with; None begins at 0.

    Attributes:
        number: Number of the model.
        encoder: Encoder of the model.
        dim: Dimension D of its vectors.
        speed: Record of how fast the runs have been.
        deadlines: Decides what can be done in time.
        batcher: Queue of the waiting texts.
        running: Running items by key.
        batches: Counts of what was run.
    """

    def __init__(
        self,
        number: int,
        encoder: Encodes,
        limits: BatchLimits,
        workers: int,
        *,
        warm_run: WarmRun = NO_WARM_RUN,
        batches: BatchTally | None = None,
    ) -> None:
        self.number = number
        self.dim = encoder.dim
        self.speed = RunSpeed(workers)
        self._warm_run = warm_run
        self.deadlines = Deadlines(self.speed, limits.max_batch_tokens)
        self.batcher = Batcher(limits, self.deadlines)
        self.running: dict[Hashable, Item] = {}
        self.batches = batches or BatchTally()
        self.encoder = encoder
        self._failed_in_a_row = 0

    def begin(self, plan: Plan) -> None:
        """Notes that a batch runs."""
        self.batches.begin(plan.batch, plan.tokens)
        now_ns = time.monotonic_ns()
        for item in plan.batch:
            self.running[item.key] = item
            for served in (item, *item.joined):
                request = served.payload.request
                request.started_ns = request.started_ns or now_ns

    def record(self, *, tokens: int, busy_s: float) -> None:
        """Notes how long a batch took."""
        self.batches.end(busy_s)
        self.speed.record(tokens=tokens, busy_s=busy_s)

    def expected_s(self, tokens: int) -> float:
        """Most time that a run should take on its one worker; 0 while nothing was measured."""
        lately_s = self.speed.workers * self.speed.seconds_for(tokens)
        return max(lately_s, self._warm_run.most_s(tokens))

    def is_running(self, item: Item) -> bool:
        """Whether requests with an equal text may join this item."""
        return self.running.get(item.key) is item

    def end(self, item: Item) -> None:
        """Notes that an item runs no more. One that was given up before stays given up."""
        if self.running.get(item.key) is item:
            del self.running[item.key]

    def encode(self, batch: list[Item]) -> npt.NDArray[np.float32]:
        """Runs a batch: (B, D) float32.

        Raises:
            Exception: The model failed, or did not return finite vectors of the right shape.
        """
        vectors = self._checked([item.payload.input_ids for item in batch])
        self._failed_in_a_row = 0
        return vectors

    def probe(self) -> None:
        """After a text failed: tells a bad text from a model on which nothing works any more.

        Raises:
            EncoderBroken: Nothing works any more.
        """
        self._failed_in_a_row += 1
        if self._failed_in_a_row < _PROBE_AFTER:
            return
        try:
            self._checked([_PROBE])
        except Exception as exc:
            raise EncoderBroken("it fails on a text that worked at the start") from exc
        self._failed_in_a_row = 0

    def _checked(self, rows: Rows) -> npt.NDArray[np.float32]:
        vectors = self.encoder.encode(rows)
        shape = (len(rows), self.dim)
        if vectors.shape != shape:
            raise ValueError(f"the model returned shape {vectors.shape} in place of {shape}")
        if not np.isfinite(vectors).all():
            raise FloatingPointError("the model returned values that are not finite")
        return vectors

    def oldest_ns(self) -> int | None:
        """Time at which the oldest waiting text came, on the monotonic clock; None if none waits.

        Callable from any thread, without a lock: a text that is taken meanwhile may still count.
        """
        payloads = [item.payload for item in self.batcher.snapshot() if item.is_waiting]
        since = (slot.request.submitted_ns for slot in payloads if isinstance(slot, Slot))
        return min(since, default=None)
