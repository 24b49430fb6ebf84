"""One line of a terminal that is written again and again, and always fits."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

_USUAL_COLUMNS = 80
_ERASE = "\x1b[K"
"""To the end of the line, as ECMA-48 has it."""
_EVERY_S = 1.0


class StatusLine:
    """A line on a terminal, or nothing where a file is none.

    Args:
        file: Where to, such as standard error.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._shown = False
        self.is_visible = file.isatty()

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
        self._shown = True
        self._file.write(f"\r{line}{_ERASE}")
        self._file.flush()

    def clear(self) -> None:
        """Take the line away, so that something else can be printed."""
        if self._shown:
            self._shown = False
            self._file.write(f"\r{_ERASE}")
            self._file.flush()


@contextmanager
def working(what: Callable[[], str], file: IO[str]) -> Iterator[StatusLine]:
    """Show what is being done, and for how long, during one long call.

    Args:
        what: Says what is being done; asked again each second, from another thread.
        file: Where to; nothing is shown unless it is a terminal.

    Yields:
        The line, to be cleared before something else is printed.
    """
    line = StatusLine(file)
    ended = threading.Event()
    ticker = threading.Thread(target=_tick, args=(line, what, ended), daemon=True)
    if line.is_visible:
        ticker.start()
    try:
        yield line
    finally:
        ended.set()
        if line.is_visible:
            ticker.join()
        line.clear()


def clock_face(seconds: float) -> str:
    """Return a time as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _tick(line: StatusLine, what: Callable[[], str], ended: threading.Event) -> None:
    started_s = time.monotonic()
    while not ended.wait(_EVERY_S):
        elapsed = clock_face(time.monotonic() - started_s)
        line.show(f"{elapsed}  {what()}")


def _columns_of(file: IO[str]) -> int:
    try:
        columns = os.get_terminal_size(file.fileno()).columns
    except (OSError, ValueError):
        columns = 0
    return columns or _USUAL_COLUMNS
