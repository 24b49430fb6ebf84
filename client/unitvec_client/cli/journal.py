"""The journal of a run: what it does, and how far it has come.

It says so much of the input that a later run can tell whether it has the same before it: a
digest of all lines that were done. What comes after them may have changed, or grown.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unitvec_client.console.records import Line
from unitvec_client.errors import InputError

_VERSION = 3


@dataclass(slots=True)
class Progressed:
    """How far a run has come.

    Attributes:
        texts: Lines done.
        rows: Their rows: one for each line, or for each window of its text.
        failed: Lines that have no vector.
        size_bytes: Of the rows in the file.
    """

    texts: int = 0
    rows: int = 0
    failed: int = 0
    size_bytes: int = 0
    _digest: Any = field(default_factory=hashlib.sha256)

    def count(self, line: Line, *, rows: int = 1, failed: bool = False) -> None:
        """Count a line as done, with so many rows."""
        self.texts += 1
        self.rows += rows
        self.failed += failed
        self._digest.update(json.dumps([line.number, line.text, line.problem, line.id]).encode())

    @property
    def all_failed(self) -> bool:
        """Whether there were lines and none of them has a vector."""
        return 0 < self.texts == self.failed

    @property
    def digest(self) -> str:
        """SHA-256 of the lines done, in hexadecimal."""
        return str(self._digest.hexdigest())


@dataclass(frozen=True, slots=True)
class Journal:
    """What lies on the disk about a run.

    Attributes:
        about: How its vectors and rows are made: names and JSON values.
        texts: As in `Progressed`.
        rows: As in `Progressed`.
        failed: As in `Progressed`.
        size_bytes: As in `Progressed`.
        digest: As in `Progressed`.
    """

    about: Mapping[str, Any]
    texts: int
    rows: int
    failed: int
    size_bytes: int
    digest: str

    @classmethod
    def load(cls, path: Path) -> Journal | None:
        """Return what lies there; None if nothing does.

        Raises:
            InputError: If it cannot be read.
        """
        try:
            record = json.loads(path.read_text("utf-8"))
            if record.pop("version") == _VERSION:
                return cls(**record)
            problem = "it is of another version of unitvec"
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as exc:
            problem = str(exc)
        raise InputError(f"cannot read {path}: {problem}; --restart begins anew")

    def save(self, path: Path) -> None:
        """Put it on the disk, whole or not at all, in place of what lies there.

        Raises:
            OSError: If that fails.
        """
        names = ("about", "texts", "rows", "failed", "size_bytes", "digest")
        record = {"version": _VERSION, **{name: getattr(self, name) for name in names}}
        new = path.with_suffix(".new")
        with new.open("w", encoding="utf-8") as file:
            json.dump(record, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)

    def check_about(self, about: Mapping[str, Any]) -> None:
        """Check that a run that is to go on does what this one did.

        Raises:
            InputError: If not; the message says what differs.
        """
        pairs = [(name, self.about.get(name), about.get(name)) for name in {**self.about, **about}]
        changes = [f"{name} was {old!r} and is {new!r}" for name, old, new in pairs if old != new]
        if changes:
            raise InputError(
                f"an earlier run into this file did {self.texts:,} texts, but not as this one: "
                f"{'; '.join(changes)}. Run it as before to go on, or with --restart to begin anew"
            )

    def replay(self, lines: Iterable[Line]) -> Progressed:
        """Read the lines that are done, and return how far that is.

        Args:
            lines: The input from its start; read up to the first line that is not done.

        Raises:
            InputError: If they are not what they were.
        """
        progressed = Progressed()
        for line in _take(lines, self.texts):
            progressed.count(line)
        if (progressed.texts, progressed.digest) != (self.texts, self.digest):
            raise InputError(
                f"the first {self.texts:,} texts of the input are not what they were when an "
                "earlier run into this file did them; --restart begins anew"
            )
        progressed.rows, progressed.failed = self.rows, self.failed
        progressed.size_bytes = self.size_bytes
        return progressed


def journal_of(progressed: Progressed, about: Mapping[str, Any]) -> Journal:
    """Return the journal of a run that has come this far."""
    return Journal(
        about,
        progressed.texts,
        progressed.rows,
        progressed.failed,
        progressed.size_bytes,
        progressed.digest,
    )


def _take(lines: Iterable[Line], count: int) -> Iterator[Line]:
    """Yield so many lines, if there are; no further one is read."""
    iterator = iter(lines)
    with suppress(StopIteration):
        for _ in range(count):
            yield next(iterator)
