"""A progress line on standard error: for long input, on a terminal only."""

from __future__ import annotations

import time
from types import TracebackType
from typing import IO, Self

from unitvec_client.core.backoff import Clock

_FIRST_S = 1.0
_EVERY_S = 0.2


class Progress:
    """Counts texts and shows how many and how fast, from the first second on.

    Args:
        file: Where to; nothing is shown unless it is a terminal.
        total: How many texts there are; None if that is not known.
        done: How many of them were done before.
        clock: Seconds.
    """

    def __init__(
        self,
        file: IO[str],
        total: int | None,
        *,
        done: int = 0,
        clock: Clock = time.monotonic,
    ) -> None:
        self._file = file
        self._total = total
        self._clock = clock
        self._shown = False
        self._before = done
        self._count = done
        self._started_s = clock()
        self._next_s = self._started_s + _FIRST_S if file.isatty() else float("inf")

    def advance(self) -> None:
        """Count one text."""
        self._count += 1
        now_s = self._clock()
        if now_s >= self._next_s:
            self._next_s = now_s + _EVERY_S
            self._shown = True
            self._file.write(f"\r\x1b[K{self._line(now_s - self._started_s)}")
            self._file.flush()

    def clear(self) -> None:
        """Take the line off the terminal, so that something else can be printed."""
        if self._shown:
            self._shown = False
            self._file.write("\r\x1b[K")
            self._file.flush()

    def _line(self, elapsed_s: float) -> str:
        rate = (self._count - self._before) / elapsed_s
        speed = f"{rate:,.0f} texts/s"
        if not self._total:
            return f"{self._count:,} texts  {speed}"
        done = min(1.0, self._count / self._total)
        bar = ("█" * round(done * 20)).ljust(20, "░")
        left = _clock_face(max(0, self._total - self._count) / rate)
        return f"{bar} {done:4.0%}  {self._count:,} of {self._total:,} texts  {speed}  {left} left"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.clear()


def _clock_face(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
