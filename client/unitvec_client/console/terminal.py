"""One line of a terminal that is written again and again, and always fits."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO

_USUAL_COLUMNS = 80
_ERASE = "\x1b[K"
"""To the end of the line, as ECMA-48 has it."""
_FIRST_S = 1.0
_EVERY_S = 0.25


class StatusLine:
    """A line on a terminal, or nothing where a file is none. Safe to use from several threads.

    Args:
        file: Where to, such as standard error.
        hidden: Whether to show nothing, as where rows go to the same terminal meanwhile.
    """

    def __init__(self, file: IO[str], *, hidden: bool = False) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._shown = False
        self.is_visible = file.isatty() and not hidden

    def show(self, *forms: str) -> None:
        """Write the first of these that fits into the terminal as it is now; else the last, cut.

        Args:
            forms: One message, from long to short.
        """
        if not self.is_visible:
            return
        # What reaches the last column makes some terminals begin a new line.
        room = _columns_of(self._file) - 1
        line = next((form for form in forms if len(form) <= room), forms[-1][:room])
        with self._lock:
            self._shown = True
            self._file.write(f"\r{line}{_ERASE}")
            self._file.flush()

    def say(self, text: str) -> None:
        """Print a line that stays, in place of this one."""
        with self._lock:
            self._clear()
            self._file.write(f"{text}\n")
            self._file.flush()

    def clear(self) -> None:
        """Take the line away."""
        with self._lock:
            self._clear()

    def _clear(self) -> None:
        if self._shown:
            self._shown = False
            self._file.write(f"\r{_ERASE}")
            self._file.flush()


Forms = Callable[[float], Sequence[str]]
"""Says what is being done, from long to short, after so many seconds."""


@contextmanager
def working(forms: Forms, file: IO[str], *, hidden: bool = False) -> Iterator[StatusLine]:
    """Show what is being done while it goes on, from the first second on.

    Args:
        forms: Asked again and again, from another thread.
        file: Where to; nothing is shown unless it is a terminal.
        hidden: As in `StatusLine`.

    Yields:
        The line, by which something else can be said meanwhile.
    """
    line = StatusLine(file, hidden=hidden)
    ended = threading.Event()
    ticker = threading.Thread(target=_tick, args=(line, forms, ended), daemon=True)
    if line.is_visible:
        ticker.start()
    try:
        yield line
    finally:
        ended.set()
        if line.is_visible:
            ticker.join()
        line.clear()


def waiting_for(what: str) -> Forms:
    """Return the forms for one long call that tells nothing of itself."""
    return lambda elapsed_s: (f"{clock_face(elapsed_s)}  {what}",)


def clock_face(seconds: float) -> str:
    """Return a time as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _tick(line: StatusLine, forms: Forms, ended: threading.Event) -> None:
    started_s = time.monotonic()
    pause_s = _FIRST_S
    while not ended.wait(pause_s):
        line.show(*forms(time.monotonic() - started_s))
        pause_s = _EVERY_S


def _columns_of(file: IO[str]) -> int:
    try:
        columns = os.get_terminal_size(file.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return columns or _USUAL_COLUMNS
