"""What became of a line, and what a format of such rows is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from unitvec_client.console.records import Line
from unitvec_client.results import StreamItem


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one line.

    Attributes:
        index: Of the row, from 0.
        line: The line.
        item: The vector; None if there is none.
        problem: Why there is none.
    """

    index: int
    line: Line
    item: StreamItem | None = None
    problem: str = ""

    @property
    def vector(self) -> NDArray[Any] | None:
        """The vector (D,), if there is one."""
        return None if self.item is None else self.item.vector


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
