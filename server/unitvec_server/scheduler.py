"""The thin shell around `batching`: futures, worker threads, cancellation, drain.

Workers pull: each takes the lock, asks the policy for the next batch and runs it, so a worker
that finishes starts again without waiting for the event loop. Results are written straight
into the request's matrix; the loop hears of a request once, when all of it is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import math
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from unitvec_server.admission import Throughput
from unitvec_server.batching import BatchLimits, BatchQueue, Item
from unitvec_server.errors import DeadlineExpired, InferenceFailed, RequestError, Unavailable

logger = logging.getLogger(__name__)

Rows = Sequence[npt.NDArray[np.int64]]


class Encodes(Protocol):
    """What the scheduler needs of an encoder."""

    @property
    def dim(self) -> int:
        """Dimension D."""

    def encode(self, rows: Rows) -> npt.NDArray[np.float32]:
        """Token ids of B texts -> (B, D) float32. Called from many threads."""


@dataclasses.dataclass(frozen=True)
class Encoded:
    """What became of a request.

    Attributes:
        vectors: (n, D) float32.
        queue_ns: From submission to the first of its batches starting.
        infer_ns: From then to the last one done.
    """

    vectors: npt.NDArray[np.float32]
    queue_ns: int
    infer_ns: int


@dataclasses.dataclass(eq=False)
class _Job:
    """One request in work. Everything but `future` is guarded by the scheduler's lock."""

    lane: _Lane
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Encoded]
    vectors: npt.NDArray[np.float32]
    remaining: int
    submitted_ns: int
    items: list[Item] = dataclasses.field(default_factory=list)
    started_ns: int = 0
    settled: bool = False

    def finish(self, outcome: Encoded | Exception) -> None:
        """Settles the future from any thread, once."""
        self.settled = True

        def settle() -> None:
            if not self.future.done():
                if isinstance(outcome, Exception):
                    self.future.set_exception(outcome)
                else:
                    self.future.set_result(outcome)

        # A closed loop has nobody left to tell, and must not end the worker.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(settle)


@dataclasses.dataclass(eq=False, slots=True)
class _Row:
    """Payload of an item: one row of a job."""

    job: _Job
    index: int
    input_ids: npt.NDArray[np.int64]


@dataclasses.dataclass(eq=False)
class _Lane:
    """One model: its encoder and its waiting texts."""

    encoder: Encodes
    queue: BatchQueue


class Scheduler:
    """Batches the texts of all callers and runs them on worker threads.

    Args:
        encoders: Encoders by model name.
        limits: Bounds of one batch, by model name.
        workers: Runs side by side, over all models.
        clock_s: Seconds, the clock of deadlines.
    """

    def __init__(
        self,
        encoders: Mapping[str, Encodes],
        *,
        limits: Mapping[str, BatchLimits],
        workers: int,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lanes = {
            name: _Lane(encoder, BatchQueue(limits[name])) for name, encoder in encoders.items()
        }
        self._turns = list(self._lanes.values())
        self._workers = workers
        self._clock_s = clock_s
        self._changed = threading.Condition()
        self._idle_workers = 0
        self._stopping = False
        self._threads: list[threading.Thread] = []
        self.throughput = Throughput()

    def start(self) -> None:
        """Starts the workers."""
        for index in range(self._workers):
            thread = threading.Thread(target=self._work, name=f"encode-{index}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Ends the workers after their present batch; what still waits fails as UNAVAILABLE."""
        with self._changed:
            self._stopping = True
            for lane in self._turns:
                while plan := lane.queue.next_batch(now_s=-math.inf, free_workers=1).batch:
                    self._fail(plan, Unavailable("the server is shutting down; try another"))
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    async def encode(
        self, model: str, rows: Rows, *, flow: Hashable, deadline_s: float = math.inf
    ) -> Encoded:
        """Runs n encoded texts.

        Args:
            model: Name of the model.
            rows: Token ids of each text, at least one text.
            flow: Texts of one flow share its place in the queue.
            deadline_s: When they stop being worth running, on the scheduler's clock.

        Raises:
            DeadlineExpired: The deadline passed before all of it ran.
            InferenceFailed: The model failed on it.
            Unavailable: The scheduler was stopped.
        """
        lane = self._lanes[model]
        job = self._new_job(lane, len(rows))
        job.items = [
            # An empty encoding is padded to one token.
            Item(max(1, len(row)), flow, deadline_s, _Row(job, index, row))
            for index, row in enumerate(rows)
        ]
        with self._changed:
            if self._stopping:
                raise Unavailable("the server is shutting down; try another")
            lane.queue.add(job.items)
            self._changed.notify(len(job.items))
        try:
            return await job.future
        finally:
            if not job.settled:
                with self._changed:
                    job.settled = True
                    _drop(job)

    def _new_job(self, lane: _Lane, count: int) -> _Job:
        loop = asyncio.get_running_loop()
        vectors = np.empty((count, lane.encoder.dim), np.float32)
        return _Job(lane, loop, loop.create_future(), vectors, count, time.monotonic_ns())

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            lane, batch = taken
            started_s = self._clock_s()
            self._run(lane, batch)
            _forget(batch)
            self.throughput.record(
                tokens=sum(item.length for item in batch),
                busy_s=self._clock_s() - started_s,
                workers=self._workers,
            )

    def _take(self) -> tuple[_Lane, list[Item]] | None:
        """Waits for work; None when the scheduler stops."""
        with self._changed:
            self._idle_workers += 1
            try:
                while not self._stopping:
                    # Models take turns: the one that ran longest ago is asked first.
                    for lane in [lane for lane in self._turns if lane.queue.waiting_items]:
                        plan = lane.queue.next_batch(
                            now_s=self._clock_s(), free_workers=self._idle_workers
                        )
                        error = DeadlineExpired("the deadline passed in the queue; not run")
                        self._fail(plan.expired, error)
                        if plan.batch:
                            self._mark_started(plan.batch)
                            self._turns.remove(lane)
                            self._turns.append(lane)
                            return lane, plan.batch
                    self._changed.wait()
                return None
            finally:
                self._idle_workers -= 1

    def _mark_started(self, batch: list[Item]) -> None:
        now_ns = time.monotonic_ns()
        for item in batch:
            job = _row(item).job
            job.started_ns = job.started_ns or now_ns

    def _run(self, lane: _Lane, batch: list[Item]) -> None:
        """Runs a batch; if it fails, each text apart, so that one bad text harms no other."""
        try:
            vectors = lane.encoder.encode([_row(item).input_ids for item in batch])
            _check(vectors, (len(batch), lane.encoder.dim))
        except Exception as exc:
            if len(batch) > 1:
                logger.warning("a batch of %d texts failed, running each apart", len(batch))
                for item in batch:
                    if not _row(item).job.settled:
                        self._run(lane, [item])
                return
            logger.exception("inference failed on a text of %d tokens", batch[0].length)
            error = InferenceFailed("the model failed on this text; it is not retried")
            error.__cause__ = exc
            with self._changed:
                self._fail(batch, error)
            return
        self._deliver(batch, vectors)

    def _deliver(self, batch: list[Item], vectors: npt.NDArray[np.float32]) -> None:
        now_ns = time.monotonic_ns()
        for item, vector in zip(batch, vectors, strict=True):
            row = _row(item)
            row.job.vectors[row.index] = vector
        with self._changed:
            for item in batch:
                job = _row(item).job
                job.remaining -= 1
                if job.remaining == 0 and not job.settled:
                    queue_ns = job.started_ns - job.submitted_ns
                    job.finish(Encoded(job.vectors, queue_ns, now_ns - job.started_ns))

    def _fail(self, items: list[Item], error: RequestError) -> None:
        """Fails the jobs of these items and drops what else of them waits. Needs the lock."""
        for job in {_row(item).job for item in items}:
            if not job.settled:
                job.finish(error)
                _drop(job)
        _forget(items)


def _check(vectors: npt.NDArray[np.float32], shape: tuple[int, int]) -> None:
    if vectors.shape != shape:
        raise ValueError(f"the model returned shape {vectors.shape} in place of {shape}")
    if not np.isfinite(vectors).all():
        raise FloatingPointError("the model returned values that are not finite")


def _drop(job: _Job) -> None:
    """Takes what still waits of a job out of the queue. Needs the lock."""
    _forget(job.lane.queue.cancel(job.items))


def _forget(items: Sequence[Item]) -> None:
    """Frees the jobs of settled items, which the queue may hold on to for a while."""
    for item in items:
        item.payload = None


def _row(item: Item) -> _Row:
    payload = item.payload
    assert isinstance(payload, _Row)
    return payload
