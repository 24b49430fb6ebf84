"""Notices an event loop that hangs, and with it everything that runs on it, the watchdog included.

The loop beats by setting a flag from time to time. A thread of its own looks whether it did: on a
loop that hangs nothing else could.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Self

_TICK_S = 0.5
"""Time between two beats, and between two looks."""

_LATE_S = 3.0
"""Silence after which the loop does not count as alive. Nothing that it does takes as long."""


class Heartbeat:
    """Watches the event loop that it is entered in, as a context manager.

    Args:
        stuck_after_s: Silence after which the loop counts as stuck.
        on_stuck: Function that is then called once, by the thread that watches, with words for the
            log.
        clock_s: Clock in seconds.
    """

    def __init__(
        self,
        *,
        stuck_after_s: float,
        on_stuck: Callable[[str], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stuck_after_s = stuck_after_s
        self._on_stuck = on_stuck
        self._clock_s = clock_s
        self._looked_s = clock_s()
        self._silent_s = 0.0
        self._beaten = False
        self._stopped = threading.Event()

    def is_beating(self) -> bool:
        """Whether the loop was alive a moment ago. Callable from any thread."""
        return self._silent_s < _LATE_S

    def __enter__(self) -> Self:
        self._beat()
        threading.Thread(target=self._watch, name="heartbeat", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Watches no more."""
        self._stopped.set()

    def _beat(self) -> None:
        self._beaten = True
        if not self._stopped.is_set():
            asyncio.get_running_loop().call_later(_TICK_S, self._beat)

    def look(self) -> str:
        """Says what is wrong, in words for the log; empty if nothing is."""
        now_s = self._clock_s()
        # A process that was stopped for a while has not hung: time counts by looks.
        elapsed_s = min(now_s - self._looked_s, 2 * _TICK_S)
        self._looked_s = now_s
        self._silent_s = 0.0 if self._beaten else self._silent_s + elapsed_s
        self._beaten = False
        if self._silent_s < self._stuck_after_s:
            return ""
        return f"the event loop hangs: it has done nothing for {self._silent_s:.0f} s"

    def _watch(self) -> None:
        while not self._stopped.wait(_TICK_S):
            if fault := self.look():
                self._on_stuck(fault)
                return
