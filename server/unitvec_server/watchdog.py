"""Notices workers that died or hang, so that the server never looks healthy and answers nothing.

A worker that died cannot be trusted to have left its work in order, and one that hangs inside a
run cannot be interrupted: the process must be replaced. Whoever asks here turns health to
NOT_SERVING and ends it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from unitvec_server.admission import Throughput

_TICK_S = 0.5
"""Between two looks: a dead worker is noticed in as much."""

_STUCK_FACTOR = 20
"""A run hangs once it takes so many times as long as measured: a long text, a page that comes
from the disk or a throttled CPU stretch a run by less."""


@dataclasses.dataclass(slots=True, eq=False)
class Run:
    """One run of a graph.

    Attributes:
        tokens: Its tokens.
        work: What runs, for whoever must give it up.
    """

    tokens: int
    work: Any


@dataclasses.dataclass(slots=True, eq=False)
class Worker:
    """One worker, as it is seen from outside. It alone writes; reading needs no lock.

    Attributes:
        name: Of its thread.
        thread: None before it starts.
        run: What it runs now, a new object for each run.
        fault: Why it died.
    """

    name: str
    thread: threading.Thread | None = None
    run: Run | None = None
    fault: str = ""

    @property
    def is_dead(self) -> bool:
        """Whether it will never work again, and has begun to."""
        return bool(self.fault) or (self.thread is not None and not self.thread.is_alive())


class Watched(Protocol):
    """What the watchdog needs of a scheduler."""

    throughput: Throughput

    @property
    def workers(self) -> Sequence[Worker]:
        """All of them."""

    @property
    def waiting_texts(self) -> int:
        """Texts that no worker has taken. Callable from any thread, without a lock."""

    def give_up(self, run: Run) -> None:
        """Fails the callers of a run that will never end."""


class Watchdog:
    """Looks at the workers from time to time.

    Args:
        watched: The scheduler.
        stuck_after_s: Least time after which a run, or a text that nobody takes, counts as stuck.
        clock_s: Seconds.
    """

    def __init__(
        self,
        watched: Watched,
        *,
        stuck_after_s: float,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watched = watched
        self._stuck_after_s = stuck_after_s
        self._clock_s = clock_s
        self._looked_s = clock_s()
        self._ages_s: dict[str, float] = {}
        self._runs: dict[str, Run | None] = {}
        self._idle_s = 0.0

    async def wait_for_fault(self) -> str:
        """Returns what is wrong, in words for the log, once something is."""
        while not (fault := self.look()):  # noqa: ASYNC110 - threads that hang set no event
            await asyncio.sleep(min(_TICK_S, self._stuck_after_s / 4))
        return fault

    def look(self) -> str:
        """What is wrong; empty if nothing is. Fails the callers of runs that hang."""
        now_s = self._clock_s()
        # A process that was stopped for a while has not hung: time counts by looks.
        elapsed_s = min(now_s - self._looked_s, 2 * _TICK_S)
        self._looked_s = now_s
        faults = [self._look_at(worker, elapsed_s) for worker in self._watched.workers]
        return next(filter(None, faults), "") or self._look_at_queue(elapsed_s)

    def _look_at(self, worker: Worker, elapsed_s: float) -> str:
        if worker.is_dead:
            return worker.fault or f"worker {worker.name} ended"
        run = worker.run
        if run is None or self._runs.get(worker.name) is not run:
            self._runs[worker.name], self._ages_s[worker.name] = run, 0.0
            return ""
        self._ages_s[worker.name] += elapsed_s
        if (age_s := self._ages_s[worker.name]) < self._limit_s(run):
            return ""
        self._watched.give_up(run)
        return f"worker {worker.name} hangs: a run of {run.tokens} tokens takes {age_s:.0f} s"

    def _limit_s(self, run: Run) -> float:
        workers = len(self._watched.workers)
        expected_s = workers * self._watched.throughput.seconds_for(run.tokens)
        return max(self._stuck_after_s, _STUCK_FACTOR * expected_s)

    def _look_at_queue(self, elapsed_s: float) -> str:
        idle = all(worker.run is None for worker in self._watched.workers)
        self._idle_s = self._idle_s + elapsed_s if idle and self._watched.waiting_texts else 0.0
        if self._idle_s < self._stuck_after_s:
            return ""
        return f"{self._watched.waiting_texts} texts wait and no worker takes them"
