"""What became of a line, and what a format of such rows is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unitvec_client.console.records import Line
from unitvec_client.results import StreamItem, Window

SPAN = ("start", "end", "byte_start", "byte_end")
"""Columns of a row that is a window: its place in the text, in code points and in bytes."""


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one line, or of one window of its text.

    Attributes:
        index: Of the row, from 0.
        line: The line.
        item: The vector; None if there is none.
        problem: Why there is none.
        window: The part of the text that the vector is of; None for all of it.
    """

    index: int
    line: Line
    item: StreamItem | None = None
    problem: str = ""
    window: Window | None = None

    @property
    def text(self) -> str | None:
        """The text that the vector is of."""
        text, window = self.line.text, self.window
        return text if text is None or window is None else text[window.start : window.end]

    @property
    def span(self) -> list[int | None]:
        """Values of `SPAN`; None where there is no window."""
        return [None if self.window is None else getattr(self.window, name) for name in SPAN]

    @property
    def vector(self) -> NDArray[Any] | None:
        """The vector (D,), if there is one."""
        return None if self.item is None else self.item.vector

    @property
    def scale(self) -> np.float32 | None:
        """The factor of an int8 vector, if this is one."""
        return None if self.item is None or self.item.scales is None else self.item.scales[0]

    @property
    def codes(self) -> NDArray[np.int8] | None:
        """The 8-bit numbers (D,) of an int8 vector, if this is one: times `scale` they are it."""
        if self.vector is None or self.scale is None:
            return None
        divided = self.vector / self.scale if self.scale > 0 else self.vector
        return np.rint(divided).astype(np.int8)


@dataclass(frozen=True, slots=True)
class Columns:
    """What a row has beside its vector.

    Attributes:
        id: The line's own id.
        text: The text that the vector is of.
        span: The place of a window in its text.
    """

    id: bool = False
    text: bool = False
    span: bool = False


NO_COLUMNS = Columns()


class Rows(Protocol):
    """A format of rows."""

    def head(self) -> bytes:
        """Return what comes before all rows."""

    def encode(self, row: Row) -> bytes:
        """Return what to append for a row; it may be held back until `flush`."""

    def flush(self) -> bytes:
        """Return what was held back."""

    def tail(self) -> bytes:
        """Return what comes after all rows, where they go to a stream."""

    def finish(self, path: Path) -> Path:
        """Make a whole file, and return its path. Can be done again if that was cut short.

        Args:
            path: Of all that was appended, which stays as it is apart from its head.
        """


def id_text(value: Any) -> str | None:
    """Return an id for a column of strings: a string as it is, any other JSON value as JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
