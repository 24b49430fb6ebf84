"""Requests in work: what the scheduler knows of each until it is answered."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from unitvec_server.policy.batching import BatchQueue
from unitvec_server.policy.items import Item


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
class Job:
    """One request in work. Everything but `future` is guarded by the scheduler's lock.

    Attributes:
        queue: Where its texts wait.
        loop: The caller's.
        future: Its outcome.
        vectors: (n, D) float32, filled row by row.
        submitted_ns: On the monotonic clock, like `started_ns`.
        items: Its distinct texts that are or were in work.
        remaining: How many of these are still to come.
        started_ns: When the first of them started; 0 before.
        settled: Whether it is answered, failed or given up.
    """

    queue: BatchQueue
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Encoded]
    vectors: npt.NDArray[np.float32]
    submitted_ns: int
    items: list[Item] = dataclasses.field(default_factory=list)
    remaining: int = 0
    started_ns: int = 0
    settled: bool = False

    def start(self, now_ns: int) -> None:
        """Notes that one of its texts runs."""
        self.started_ns = self.started_ns or now_ns

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

    def drop(self) -> None:
        """Takes what still waits of it out of the queue."""
        for item in self.queue.cancel(self.items):
            item.payload = None


@dataclasses.dataclass(eq=False, slots=True)
class Share:
    """Payload of an item: what a job has of its text.

    Attributes:
        job: The job.
        indices: Its rows of that text, at least one.
        input_ids: (S,) int64, the text.
    """

    job: Job
    indices: list[int]
    input_ids: npt.NDArray[np.int64]

    def fill(self, vector: npt.NDArray[np.float32]) -> None:
        """Copies a vector (D,) into the rows."""
        for index in self.indices:
            self.job.vectors[index] = vector

    def complete(self, now_ns: int) -> None:
        """Notes that they are filled; the last of a job answers it."""
        job = self.job
        job.remaining -= 1
        if job.remaining == 0 and not job.settled:
            queue_ns = job.started_ns - job.submitted_ns
            job.finish(Encoded(job.vectors, queue_ns, now_ns - job.started_ns))


def share_of(item: Item) -> Share:
    """The payload of an item that is not forgotten."""
    payload = item.payload
    assert isinstance(payload, Share)
    return payload


def served_by(item: Item) -> tuple[Item, ...]:
    """The item and the equal ones that its run answers too."""
    return (item, *item.joined)


def is_wanted(item: Item) -> bool:
    """Whether a job still waits for its run."""
    return any(not share_of(served).job.settled for served in served_by(item))


def forget(items: Iterable[Item]) -> None:
    """Frees the jobs of settled items, which the queue may hold on to for a while."""
    for item in items:
        for served in served_by(item):
            served.payload = None
        item.joined.clear()
