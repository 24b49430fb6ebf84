"""Notices threads that died or hang, so that the server never looks healthy and answers nothing.

A worker that died cannot be trusted to have left its work in order, and a thread that hangs cannot
be interrupted: the process must be replaced. Whoever asks here turns health to NOT_SERVING and ends
it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from unitvec_server.engine.admission import Throughput
from unitvec_server.engine.helpers import Helpers

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
    """Looks at the workers and their helpers from time to time.

    Args:
        watched: The scheduler.
        helpers: Threads beside it, whose jobs are short.
        stuck_after_s: Least time after which a run, a job, or a text that nobody takes, counts as
            stuck.
        clock_s: Seconds.
    """

    def __init__(
        self,
        watched: Watched,
        *,
        helpers: Sequence[Helpers] = (),
        stuck_after_s: float,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watched = watched
        self._helpers = helpers
        self._stuck_after_s = stuck_after_s
        self._clock_s = clock_s
        self._looked_s = clock_s()
        self._ages_s: dict[str, float] = {}
        self._seen: dict[str, object] = {}  # what a thread did at the last look
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
        faults += [self._look_at_helpers(helpers, elapsed_s) for helpers in self._helpers]
        return next(filter(None, faults), "") or self._look_at_queue(elapsed_s)

    def _look_at(self, worker: Worker, elapsed_s: float) -> str:
        if worker.is_dead:
            return worker.fault or f"worker {worker.name} ended"
        run = worker.run
        age_s = self._age_s(worker.name, run, elapsed_s)
        if run is None or age_s < self._limit_s(run):
            return ""
        self._watched.give_up(run)
        return f"worker {worker.name} hangs: a run of {run.tokens} tokens takes {age_s:.0f} s"

    def _look_at_helpers(self, helpers: Helpers, elapsed_s: float) -> str:
        for name, job in helpers.jobs.copy().items():
            if (age_s := self._age_s(name, job, elapsed_s)) >= self._stuck_after_s:
                job.give_up()
                return f"thread {name} hangs: it takes {age_s:.0f} s"
        return ""

    def _age_s(self, name: str, doing: object, elapsed_s: float) -> float:
        """For how long a thread was seen doing the same."""
        if name not in self._seen or self._seen[name] is not doing:
            self._seen[name], self._ages_s[name] = doing, -elapsed_s
        self._ages_s[name] += elapsed_s
        return self._ages_s[name]

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
