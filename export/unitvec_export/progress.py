"""Step lines: what runs, and how long it took."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TextIO


class Progress:
    """Prints `[1/6] loading the model ... 3.2 s` lines.

    Args:
        stream: Where to.
        steps: How many steps there will be.
    """

    def __init__(self, stream: TextIO, *, steps: int) -> None:
        self._stream = stream
        self._steps = steps
        self._done = 0

    def expect(self, steps: int) -> None:
        """Says anew how many steps there will be."""
        self._steps = steps

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Announces a step at once, and its duration when the block ends."""
        self._done += 1
        self._write(f"[{self._done}/{self._steps}] {name} ... ")
        started_s = time.monotonic()
        try:
            yield
        except BaseException:
            self._write("failed\n")
            raise
        self._write(f"{time.monotonic() - started_s:.1f} s\n")

    def note(self, text: str) -> None:
        """Prints a line of its own."""
        self._write(f"      {text}\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
