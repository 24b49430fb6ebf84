"""Encoders that tests hold and release, and schedulers over them. No sleeps: only events."""

import asyncio
import threading

import numpy as np

from unitvec_server.engine.scheduler import Encoded, Rows, Scheduler

DIM = 4
POISON = 13
NAN = 17


class Sums:
    """Embeds a text as (first id, last id, length, sum). Ids POISON and NAN make it fail."""

    dim = DIM

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def encode(self, rows: Rows) -> np.ndarray:
        self.batches.append([int(row[0]) for row in rows])
        if any(POISON in row for row in rows):
            raise ValueError("poisoned")
        vectors = np.array([expected(row) for row in rows], np.float32)
        for row, vector in zip(rows, vectors, strict=True):
            if NAN in row:
                vector[1] = np.nan
        return vectors


class Held(Sums):
    """Waits before each batch until the test lets it go."""

    def __init__(self) -> None:
        super().__init__()
        self.started = threading.Semaphore(0)
        self.released = threading.Semaphore(0)

    def encode(self, rows: Rows) -> np.ndarray:
        self.started.release()
        self.released.acquire()
        return super().encode(rows)

    async def has_started(self) -> None:
        """Waits off the loop until one more batch runs."""
        await asyncio.to_thread(self.started.acquire)


def expected(row: np.ndarray) -> list[float]:
    """What `Sums` makes of a text."""
    return [row[0], row[-1], len(row), row.sum()]


def text(first: int, *, length: int = 1) -> np.ndarray:
    """A text whose ids start with `first`."""
    return np.full(length, first, np.int64)


def texts(first: int, count: int) -> list[np.ndarray]:
    """Different texts: `first` and the ids after it, none of which fails."""
    return [text(id_) for id_ in range(first, first + count)]


def submit(
    scheduler: Scheduler,
    rows: list[np.ndarray],
    *,
    model: str = "m0",
    deadline_s: float = 1e9,
    is_partial: bool = False,
) -> asyncio.Task[Encoded]:
    """A request of its own flow, in work."""
    work = scheduler.encode(
        scheduler.queues[model], rows, flow=object(), deadline_s=deadline_s, is_partial=is_partial
    )
    return asyncio.create_task(work)


async def queued(*_: object) -> None:
    """Lets requests that were just submitted reach the queue."""
    await asyncio.sleep(0)


def waiting(scheduler: Scheduler) -> int:
    """Texts in all queues."""
    with scheduler._changed:
        return sum(queue.batcher.waiting_items for queue in scheduler._turns)
