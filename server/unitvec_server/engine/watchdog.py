"""Threads that are watched, and the watchdog that notices when one died or hangs.

Without it a server could look healthy and answer nothing. A worker that died cannot be trusted to
have left its work in order, and a thread that hangs cannot be interrupted: only a new process
helps. Whoever asks the watchdog therefore turns health to NOT_SERVING and ends the process.

A thread that waits for a CPU does not hang, however long others keep it waiting: on a machine of
two CPUs with twenty busy threads a run takes ten times as long. That time is not counted, nor is
that in which the whole process stood still.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, InvalidStateError, ThreadPoolExecutor
from typing import Any, ParamSpec, Protocol, TypeVar

from unitvec_server.errors import InferenceFailed
from unitvec_server.model.cpus import waited_s

_P = ParamSpec("_P")
_T = TypeVar("_T")

_TICK_S = 0.5
"""Time between two looks, and so the time in which a dead worker is noticed."""

_STUCK_FACTOR = 20
"""Times as long as expected after which a run is taken to hang: pages that come from the disk, a
slow clock or full caches stretch a run by less."""


@dataclasses.dataclass(slots=True, eq=False)
class Run:
    """One run of a model on one batch.

    Attributes:
        tokens: Number of tokens of the batch.
        work: Object that tells the scheduler what to give up.
    """

    tokens: int
    work: Any


@dataclasses.dataclass(slots=True, eq=False)
class Worker:
    """A thread that runs batches, as it is seen from outside. It alone writes; reading is free.

    Attributes:
        name: Name of its thread.
        thread: Its thread; None before it starts.
        run: Run that it is busy with, a new object for each; None while it is idle.
        fault: Reason why it died; empty while it lives.
    """

    name: str
    thread: threading.Thread | None = None
    run: Run | None = None
    fault: str = ""

    @property
    def is_dead(self) -> bool:
        """Whether it has begun to work and will never work again."""
        return bool(self.fault) or (self.thread is not None and not self.thread.is_alive())


@dataclasses.dataclass(slots=True, eq=False)
class PoolTask:
    """Short work that a thread of a pool does now.

    Attributes:
        future: Future of its result; None for the moment until it is known.
        thread_id: Native id of the thread; 0 until it has begun.
    """

    future: Future[Any] | None = None
    thread_id: int = 0

    def give_up(self) -> None:
        """Fails the task, since it will never end. Callable from any thread."""
        if self.future is not None:
            with contextlib.suppress(InvalidStateError):  # it ended after all
                self.future.set_exception(
                    InferenceFailed("a thread hung on this request; it is not retried")
                )


class WatchedPool(ThreadPoolExecutor):
    """Threads for short work off the event loop, such as tokenization and comparisons.

    Args:
        threads: Number of threads.
        name: First part of their names.

    Attributes:
        tasks: Tasks in work by the name of their thread. Each thread writes its own entry; any
            thread may take a copy.
    """

    def __init__(self, threads: int, *, name: str) -> None:
        super().__init__(threads, thread_name_prefix=name)
        self.tasks: dict[str, PoolTask] = {}

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Runs a function on the next free thread."""
        task = PoolTask()
        task.future = future = super().submit(self._run, task, fn, *args, **kwargs)
        return future

    def _run(
        self, task: PoolTask, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        name = threading.current_thread().name
        task.thread_id = threading.get_native_id()
        self.tasks[name] = task
        try:
            return fn(*args, **kwargs)
        finally:
            del self.tasks[name]


async def run_off_loop(executor: Executor, work: Callable[[], _T]) -> _T:
    """Runs short work on a thread of a pool, so that the event loop goes on."""
    return await asyncio.get_running_loop().run_in_executor(executor, work)


class Watched(Protocol):
    """What the watchdog needs of a scheduler."""

    @property
    def workers(self) -> Sequence[Worker]:
        """All workers."""

    @property
    def waiting_texts(self) -> int:
        """Texts that no worker has taken. Callable from any thread, without a lock."""

    def expected_s(self, run: Run) -> float:
        """Time that a run should take; 0 while nothing was measured."""

    def give_up(self, run: Run) -> None:
        """Fails the callers of a run that will never end."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Sight:
    """What was seen of a thread at the last look.

    Attributes:
        doing: What it did.
        age_s: How long it was seen doing that, without the time that it waited for a CPU.
        waited_s: How long it had waited for a CPU since it began.
    """

    doing: object
    age_s: float
    waited_s: float


class Watchdog:
    """Looks at the workers and the threads of the pools from time to time.

    Args:
        watched: The scheduler.
        pools: Pools whose tasks are short.
        stuck_after_s: Least time after which a run, a task, or a text that nobody takes, counts as
            stuck.
        clock_s: Clock in seconds.
        waited_s: Function that tells how long a thread, by its native id, has waited for a CPU.
    """

    def __init__(
        self,
        watched: Watched,
        *,
        pools: Sequence[WatchedPool] = (),
        stuck_after_s: float,
        clock_s: Callable[[], float] = time.monotonic,
        waited_s: Callable[[int], float] = waited_s,
    ) -> None:
        self._watched = watched
        self._pools = pools
        self._stuck_after_s = stuck_after_s
        self._clock_s = clock_s
        self._waited_s = waited_s
        self._looked_s = clock_s()
        self._seen: dict[str, _Sight] = {}  # of each thread
        self._idle_s = 0.0

    async def wait_for_fault(self) -> str:
        """Returns what is wrong, in words for the log, once something is."""
        while not (fault := self.look()):  # noqa: ASYNC110 - threads that hang set no event
            await asyncio.sleep(min(_TICK_S, self._stuck_after_s / 4))
        return fault

    def look(self) -> str:
        """Says what is wrong; empty if nothing is. Fails the callers of runs that hang."""
        now_s = self._clock_s()
        elapsed_s, self._looked_s = now_s - self._looked_s, now_s
        faults = [self._look_at(worker, elapsed_s) for worker in self._watched.workers]
        faults += [self._look_at_pool(pool, elapsed_s) for pool in self._pools]
        return next(filter(None, faults), "") or self._look_at_queue(elapsed_s)

    def _look_at(self, worker: Worker, elapsed_s: float) -> str:
        if worker.is_dead:
            return worker.fault or f"worker {worker.name} ended"
        run, thread = worker.run, worker.thread
        thread_id = thread.native_id if thread is not None else None
        age_s = self._age_s(worker.name, run, thread_id, elapsed_s)
        if run is None or age_s < self._limit_s(run):
            return ""
        self._watched.give_up(run)
        return f"worker {worker.name} hangs: a run of {run.tokens} tokens takes {age_s:.0f} s"

    def _look_at_pool(self, pool: WatchedPool, elapsed_s: float) -> str:
        for name, task in pool.tasks.copy().items():
            age_s = self._age_s(name, task, task.thread_id, elapsed_s)
            if age_s >= self._stuck_after_s:
                task.give_up()
                return f"thread {name} hangs: it takes {age_s:.0f} s"
        return ""

    def _age_s(self, name: str, doing: object, thread_id: int | None, elapsed_s: float) -> float:
        """How long a thread was seen doing the same, without the time that it waited for a CPU."""
        waited_s = self._waited_s(thread_id) if thread_id else 0.0
        before, age_s = self._seen.get(name), 0.0
        if before is not None and before.doing is doing:
            age_s = before.age_s + _counted_s(elapsed_s - (waited_s - before.waited_s))
        self._seen[name] = _Sight(doing, age_s, waited_s)
        return age_s

    def _limit_s(self, run: Run) -> float:
        return max(self._stuck_after_s, _STUCK_FACTOR * self._watched.expected_s(run))

    def _look_at_queue(self, elapsed_s: float) -> str:
        is_idle = all(worker.run is None for worker in self._watched.workers)
        is_stuck = is_idle and self._watched.waiting_texts
        self._idle_s = self._idle_s + _counted_s(elapsed_s) if is_stuck else 0.0
        if self._idle_s < self._stuck_after_s:
            return ""
        return f"{self._watched.waiting_texts} texts wait and no worker takes them"


def _counted_s(elapsed_s: float) -> float:
    """Time between two looks that counts: a process that was stopped for a while has not hung."""
    return min(max(0.0, elapsed_s), 2 * _TICK_S)
