"""Lines on their way: which of them were passed on as texts, and which are still open."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from unitvec_client.console.records import Line


class Feed:
    """Passes the good lines on as texts and remembers, in order, all that are still open."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = lines
        self._open: deque[Line] = deque()

    def texts(self) -> Iterator[str]:
        """Yield the texts that could be read."""
        for line in self._lines:
            self._open.append(line)
            if line.text is not None:
                yield line.text

    def take_bad(self) -> Iterator[Line]:
        """Yield and forget the unreadable lines before the next good one."""
        while self._open and self._open[0].text is None:
            yield self._open.popleft()

    def take_good(self) -> Line:
        """Return and forget the next good line; there must be one, after `take_bad`."""
        return self._open.popleft()
