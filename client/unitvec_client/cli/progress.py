"""A progress line on standard error: for long input, on a terminal only."""

from __future__ import annotations

import time
from types import TracebackType
from typing import IO, Self

from unitvec_client.console.terminal import StatusLine, clock_face
from unitvec_client.core.backoff import Clock

_FIRST_S = 1.0
_EVERY_S = 0.2


class Progress:
    """Counts things and shows how many and how fast, from the first second on.

    Args:
        file: Where to; nothing is shown unless it is a terminal.
        total: How many there are; None if that is not known.
        done: How many of them were done before.
        noun: What they are called.
        clock: Seconds.
    """

    def __init__(
        self,
        file: IO[str],
        total: int | None,
        *,
        done: int = 0,
        noun: str = "texts",
        clock: Clock = time.monotonic,
    ) -> None:
        self._line = StatusLine(file)
        self._total = total
        self._noun = noun
        self._clock = clock
        self._before = done
        self._count = done
        self._started_s = clock()
        self._next_s = self._started_s + _FIRST_S if self._line.is_visible else float("inf")

    def advance(self) -> None:
        """Count one."""
        self._count += 1
        now_s = self._clock()
        if now_s >= self._next_s:
            self._next_s = now_s + _EVERY_S
            self._line.show(*self._forms(now_s - self._started_s))

    def clear(self) -> None:
        """Take the line off the terminal, so that something else can be printed."""
        self._line.clear()

    def _forms(self, elapsed_s: float) -> tuple[str, ...]:
        """The line, from long to short."""
        rate = (self._count - self._before) / elapsed_s
        speed = f"{rate:,.0f} {self._noun}/s"
        if not self._total:
            return f"{self._count:,} {self._noun}  {speed}", f"{self._count:,} {self._noun}"
        done = min(1.0, self._count / self._total)
        bar = ("█" * round(done * 20)).ljust(20, "░")
        left = f"{clock_face(max(0, self._total - self._count) / rate)} left"
        counts = f"{self._count:,} of {self._total:,} {self._noun}"
        return (
            f"{bar} {done:4.0%}  {counts}  {speed}  {left}",
            f"{done:.0%}  {counts}  {speed}  {left}",
            f"{done:.0%}  {counts}  {left}",
            f"{done:.0%}  {left}",
            f"{done:.0%}",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.clear()
