"""One served model as the scheduler sees it: its encoder, its texts, its measured speed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Hashable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from unitvec_server.engine.admission import Throughput, retry_delay_s
from unitvec_server.engine.counters import BatchTally
from unitvec_server.engine.jobs import Share, share_of
from unitvec_server.errors import DeadlineExpired, Overloaded
from unitvec_server.policy.batching import BEGIN_MARGIN, BatchQueue, Speed
from unitvec_server.policy.items import Item

Rows = Sequence[npt.NDArray[np.int64]]

_WAIT_MARGIN = 2.0
"""How much more time there must be than what is ahead takes at best. Machines drift, what comes a
moment too late was done in vain, and batches are the fuller the more time there is: at twice the
peak, 16 texts a call, 3 % of the calls were late with 1.5 and none with 2."""

_PROBE_AFTER = 3
"""Texts that fail in a row before one that worked is tried: a poisoned text or two cost nothing,
and a model that is broken for good is noticed at the third."""

_PROBE = np.zeros(2, np.int64)  # of the warm-up, so every served graph has run it

_OWN_SHARE = 0.5
"""Part of the measured time that a request's own texts may take where nothing is ahead of them:
full batches are faster by a third to a half than the lone texts that were perhaps measured."""


class Encodes(Protocol):
    """What the scheduler needs of an encoder."""

    @property
    def dim(self) -> int:
        """Dimension D."""

    def encode(self, rows: Rows) -> npt.NDArray[np.float32]:
        """Token ids of B texts -> (B, D) float32. Called from many threads."""


class EncoderBroken(Exception):
    """The model fails on what it could do at the start."""


@dataclasses.dataclass(eq=False)
class Lane:
    """One model. Guarded by the scheduler's lock, but for `encode`, `probe` and `record`.

    Attributes:
        space: Its number.
        encoder: Runs it.
        queue: Its waiting texts.
        workers: Of the scheduler.
        running: Its running texts by key.
        throughput: Of the whole machine while it runs nothing but this model.
        batches: Counts what it ran.
    """

    space: int
    encoder: Encodes
    queue: BatchQueue
    workers: int
    running: dict[Hashable, Item] = dataclasses.field(default_factory=dict)
    throughput: Throughput = dataclasses.field(default_factory=Throughput)
    batches: BatchTally = dataclasses.field(default_factory=BatchTally)
    _failed_in_a_row: int = 0

    def begin(self, batch: list[Item]) -> None:
        """Notes that a batch runs."""
        self.batches.begin(batch)
        now_ns = time.monotonic_ns()
        for item in batch:
            self.running[item.key] = item
            share_of(item).job.start(now_ns)
            for joined in item.joined:
                share_of(joined).job.start(now_ns)

    def is_running(self, item: Item) -> bool:
        """Whether callers of equal texts may join this one."""
        return self.running.get(item.key) is item

    def end(self, item: Item) -> None:
        """Notes that an item runs no more; one that has been given up before is no matter."""
        if self.is_running(item):
            del self.running[item.key]

    def encode(self, batch: list[Item]) -> npt.NDArray[np.float32]:
        """Runs a batch: (B, D) float32.

        Raises:
            Exception: The model failed, or returned what is no embedding.
        """
        rows = [share_of(item).input_ids for item in batch]
        vectors = self._checked(rows)
        self._failed_in_a_row = 0
        return vectors

    def probe(self) -> None:
        """After a text failed: is it the text, or does nothing work any more?

        Raises:
            EncoderBroken: The latter.
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
        shape = (len(rows), self.encoder.dim)
        if vectors.shape != shape:
            raise ValueError(f"the model returned shape {vectors.shape} in place of {shape}")
        if not np.isfinite(vectors).all():
            raise FloatingPointError("the model returned values that are not finite")
        return vectors

    def record(self, *, tokens: int, busy_s: float) -> None:
        """Notes how long a batch took."""
        self.batches.end(busy_s)
        self.throughput.record(tokens=tokens, busy_s=busy_s, workers=self.workers)

    def oldest_ns(self) -> int | None:
        """Since when the oldest waiting text waits, on the monotonic clock; None if none does.

        Callable from any thread, without a lock: what is taken meanwhile may still count.
        """
        payloads = [item.payload for item in self.queue.snapshot() if item.waiting]
        since = (share.job.submitted_ns for share in payloads if isinstance(share, Share))
        return min(since, default=None)

    @property
    def speed(self) -> Speed:
        """The better of the speeds of late and of a longer past; unknown before any."""
        return Speed(self.throughput.best_tokens_per_s, self.workers)

    def check_possible(self, tokens: int, *, remaining_s: float) -> None:
        """Refuses work that could not be done in time even if nothing were ahead of it.

        Args:
            tokens: Of the texts that must run, at least one.
            remaining_s: Until their deadline.

        Raises:
            DeadlineExpired: It could not.
        """
        if not self.is_possible(tokens, remaining_s=remaining_s):
            least_s, left_s = self._least_s(tokens), max(0.0, remaining_s)
            raise DeadlineExpired(
                f"{tokens} tokens take at least {least_s:.2f} s and the deadline is in "
                f"{left_s:.2f} s; not run",
                reason="DEADLINE_TOO_SHORT",
            )

    def is_possible(self, tokens: int, *, remaining_s: float) -> bool:
        """Whether so much can be done in time if nothing is ahead of it."""
        return self._least_s(tokens) <= remaining_s

    def _least_s(self, tokens: int) -> float:
        return self.throughput.least_seconds_for(_OWN_SHARE * tokens)

    def check_turn(self, lengths: Sequence[int], *, flow: Hashable, remaining_s: float) -> None:
        """Refuses work whose turn comes too late, before it takes the place of other work.

        Args:
            lengths: Tokens of the texts that must run, at least one text, of one request.
            flow: Theirs.
            remaining_s: Until their deadline.

        Raises:
            Overloaded: Too much is ahead of it.
        """
        if not self.queue.waiting_items:
            return
        tokens = sum(lengths)
        # By the same margin as when its turn comes, else it would wait in vain.
        own_s = self.throughput.least_seconds_for(BEGIN_MARGIN * tokens)
        run_s, left_over = self.queue.run_s(self.speed), 1 - self.queue.overtaken(tokens)
        if run_s + (own_s + self._wait_s(self.queue.waiting_tokens)) / left_over <= remaining_s:
            return
        # Smaller requests that come later overtake it, but no longer than sharing would have it.
        least_s = own_s + self._wait_s(self.queue.tokens_before(lengths, flow=flow))
        most_s = own_s + self._wait_s(self.queue.most_tokens_before(tokens, flow=flow))
        needed_s = run_s + max(least_s, min(least_s / left_over, most_s))
        if needed_s > remaining_s:
            delay_s = retry_delay_s(needed_s - remaining_s)
            raise Overloaded(
                f"with what is queued it may take {needed_s:.2f} s and the deadline is in "
                f"{remaining_s:.2f} s; not run; try another server, or again in {delay_s:.2f} s",
                retry_delay_s=delay_s,
                bound="deadline",
            )

    def _wait_s(self, tokens: float) -> float:
        """What to allow for tokens that are ahead."""
        least_s = self.throughput.least_seconds_for(tokens)
        return max(_WAIT_MARGIN * least_s, self.throughput.seconds_for(tokens))
