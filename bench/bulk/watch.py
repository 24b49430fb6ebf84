"""A thread that looks at a job again and again while it runs."""

from __future__ import annotations

import threading
from typing import Self

_EVERY_S = 0.25


class Watch:
    """Looks every quarter of a second, on a thread of its own, until the context ends."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def look(self) -> None:
        """Notes what there is to see now."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY_S):
            self.look()
