"""The scheduler under any interleaving of requests, leavers, deadlines and failures."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import threading

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.encoders import DIM, POISON
from unitvec_server.engine.reuse import ENTRY_OVERHEAD_BYTES
from unitvec_server.engine.scheduler import Encoded, Rows, Scheduler
from unitvec_server.errors import DeadlineExpired, InferenceFailed, Overloaded, RequestError
from unitvec_server.policy.batching import BatchLimits
from unitvec_server.policy.deadlines import BEGIN_MARGIN

IDS = [1, 2, 3, POISON]
MAX_BATCH_TOKENS = 6


class Recorder:
    """Waits for the test before each run, and remembers which run gave which vector."""

    dim = DIM

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.held: list[tuple[list[bytes], threading.Event]] = []
        self.free = False
        self.given: dict[bytes, list[bytes]] = {}
        self.runs = 0
        self.twice_at_once = False

    def encode(self, rows: Rows) -> np.ndarray:
        if not rows[0].any():  # asked whether it still works
            return np.zeros((1, DIM), np.float32)
        texts = [row.tobytes() for row in rows]
        go = threading.Event()
        with self.lock:
            running = [*texts, *(text for batch, _ in self.held for text in batch)]
            self.twice_at_once |= len(set(running)) < len(running)
            self.held.append((texts, go))
            if self.free:
                go.set()
        go.wait()
        with self.lock:
            if any(POISON in row for row in rows):
                raise ValueError("poisoned")
            self.runs += 1
            vectors = np.array([[row[0], len(row), row.sum(), self.runs] for row in rows])
            for text, vector in zip(texts, vectors.astype(np.float32), strict=True):
                self.given.setdefault(text, []).append(vector.tobytes())
        return vectors.astype(np.float32)

    def release(self) -> None:
        """Lets the run that came first go on."""
        with self.lock:
            if self.held:
                self.held.pop(0)[1].set()

    def release_all(self) -> None:
        """Lets all runs go on, those to come too."""
        with self.lock:
            self.free = True
            for _, go in self.held:
                go.set()


@dataclasses.dataclass
class Request:
    """What was asked, and the task that waits for it."""

    rows: list[np.ndarray]
    deadline_s: float
    task: asyncio.Task[Encoded]
    cancelled: bool = False


class World:
    """A scheduler with its callers, in which nothing moves but by a step."""

    def __init__(self, *, workers: int, cache_entries: int) -> None:
        self.now_s = 0.0
        self.workers = workers
        self.encoder = Recorder()
        self.cache_bytes = cache_entries * (ENTRY_OVERHEAD_BYTES + 120)
        self.scheduler = Scheduler(
            {"m": self.encoder},
            limits={"m": BatchLimits(MAX_BATCH_TOKENS, max_padding=0.5)},
            workers=workers,
            cache_bytes=self.cache_bytes,
            clock_s=lambda: self.now_s,
        )
        self.requests: list[Request] = []

    async def submit(self, texts: list[tuple[int, int]], flow: int, lives_s: float) -> None:
        rows = [np.full(length, first, np.int64) for first, length in texts]
        deadline_s = self.now_s + lives_s
        work = self.scheduler.encode(
            self.scheduler.queues["m"], rows, flow=flow, deadline_s=deadline_s
        )
        self.requests.append(Request(rows, deadline_s, asyncio.create_task(work)))

    async def cancel(self, number: int) -> None:
        if self.requests:
            request = self.requests[number % len(self.requests)]
            request.cancelled |= request.task.cancel()

    async def wait(self, seconds: int) -> None:
        self.now_s += seconds

    async def release(self) -> None:
        self.encoder.release()

    async def settle(self) -> None:
        """Until every worker is in a run or has nothing to do, and callers have heard of it."""
        while not self._is_settled():  # noqa: ASYNC110 - worker threads, not the loop, count
            await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)

    def _is_settled(self) -> bool:
        with self.scheduler._changed, self.encoder.lock:
            idle, held = self.scheduler._idle_workers, len(self.encoder.held)
            (queue,) = self.scheduler._turns
            return idle + held == self.workers and not (idle and queue.batcher.waiting_items)

    def check(self) -> None:
        """What holds at any time."""
        assert not self.encoder.twice_at_once
        assert self.scheduler.reuse.held_bytes <= self.cache_bytes
        for request in self.requests:
            if request.task.done():
                self.check_outcome(request)

    def check_outcome(self, request: Request) -> None:
        """Exactly its own vectors, or its own error."""
        if request.task.cancelled():
            assert request.cancelled
            return
        error = request.task.exception()
        poisoned = any(POISON in row for row in request.rows)
        if error is None:
            assert not poisoned
            for row, vector in zip(request.rows, request.task.result().vectors, strict=True):
                assert vector.tobytes() in self.encoder.given[row.tobytes()]
        elif isinstance(error, InferenceFailed):
            assert poisoned
        elif isinstance(error, DeadlineExpired) and error.reason == "DEADLINE_EXPIRED_IN_QUEUE":
            # Its deadline had passed, or was too near: no token took longer than all that passed.
            tokens = max(MAX_BATCH_TOKENS, BEGIN_MARGIN * sum(map(len, request.rows)))
            assert request.deadline_s <= self.now_s + tokens * self.now_s
        else:  # refused, which needs a measured speed
            assert isinstance(error, DeadlineExpired | Overloaded)
            assert request.deadline_s < math.inf
            assert self.now_s > 0

    async def finish(self) -> None:
        """Lets everything run."""
        while not all(request.task.done() for request in self.requests):
            await self.settle()
            await self.release()
            await asyncio.sleep(0)
        await self.settle()
        while self.encoder.held:
            await self.release()
            await self.settle()


texts_ = st.lists(st.tuples(st.sampled_from(IDS), st.integers(1, 2)), min_size=1, max_size=5)
steps = st.one_of(
    st.tuples(
        st.just("submit"), texts_, st.integers(0, 2), st.sampled_from([1.0, 3.0, float("inf")])
    ),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(st.just("wait"), st.integers(1, 2)),
    st.tuples(st.just("release")),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(steps, max_size=40), st.integers(1, 3), st.sampled_from([0, 2, 100]))
def test_everyone_gets_exactly_their_own(
    script: list[tuple[object, ...]], workers: int, cache_entries: int
) -> None:
    """Vectors are those of one run, bit for bit; no text runs twice at a time or once cached."""

    async def play() -> None:
        world = World(workers=workers, cache_entries=cache_entries)
        world.scheduler.start()
        try:
            async with asyncio.timeout(60):
                for name, *arguments in script:
                    await getattr(world, str(name))(*arguments)
                    await world.settle()
                    world.check()
                await world.finish()
        finally:
            world.encoder.release_all()
            await asyncio.to_thread(world.scheduler.stop)
            await asyncio.gather(*(r.task for r in world.requests), return_exceptions=True)
        world.check()
        check_the_end(world, everything_fits=cache_entries == 100)

    asyncio.run(play())


def check_the_end(world: World, *, everything_fits: bool) -> None:
    """Nobody fails without a reason, nothing is left, and the counters add up."""
    (queue,) = world.scheduler._turns
    counts = world.scheduler.reuse
    assert (queue.running, queue.batcher.waiting_items, queue.batcher._equals) == ({}, 0, {})
    assert counts.encoded == sum(map(len, world.encoder.given.values()))
    outcomes = [r.task.exception() for r in world.requests if not r.task.cancelled()]
    assert all(error is None or isinstance(error, RequestError) for error in outcomes)
    if not any(outcomes) and len(outcomes) == len(world.requests):
        texts = sum(len(request.rows) for request in world.requests)
        assert counts.encoded + counts.joined + counts.hits == texts
    if everything_fits:
        assert all(len(runs) == 1 for runs in world.encoder.given.values())
