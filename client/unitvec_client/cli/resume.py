"""Where rows go: standard output, or a file that a later run can go on with.

While FILE is being made there is a folder FILE.part: in it the rows so far and a journal of how
many of them count. Rows reach the disk before the journal counts them, so what lies beyond the
journal's count, torn or not, is cut off and done again; nothing is lost and nothing is doubled.
FILE itself appears whole, in one step, at the end.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol

from unitvec_client.cli.journal import Journal, Progressed, journal_of
from unitvec_client.cli.output import resolve_target
from unitvec_client.cli.rows import Row, Rows
from unitvec_client.console.records import Line
from unitvec_client.console.writing import OutputError, cannot_write, writing
from unitvec_client.core.backoff import Clock
from unitvec_client.errors import InputError, UnitvecError

_SUFFIX = ".part"
CHECKPOINT_S = 1.0
"""Work that a kill can cost, in seconds; an fsync a second costs next to nothing."""
CHECKPOINT_ROWS = 1024
"""Rows that a kill can cost. Bounds what a format holds back in memory, too."""


class Sink(Protocol):
    """Where rows go.

    Attributes:
        progressed: How far they have come, an earlier run's rows included.
    """

    progressed: Progressed

    def add(self, rows: Sequence[Row]) -> None:
        """Take the rows of the next line, at least one."""

    def finish(self) -> None:
        """All rows are there."""


class StreamSink:
    """Standard output, a pipe or a device.

    Args:
        file: Where to.
        rows: The format.
    """

    def __init__(self, file: IO[bytes], rows: Rows) -> None:
        self.progressed = Progressed()
        self._file = file
        self._rows = rows
        self._is_terminal = file.isatty()

    def add(self, rows: Sequence[Row]) -> None:
        """Write the rows of a line."""
        self._begin()
        self._file.writelines(map(self._rows.encode, rows))
        if self._is_terminal:
            self._file.flush()
        self.progressed.count(rows[0].line, rows=len(rows), failed=rows[0].item is None)

    def finish(self) -> None:
        """Write what comes after all rows."""
        self._begin()
        self._file.write(self._rows.flush() + self._rows.tail())

    def _begin(self) -> None:
        """Write what comes before all rows: only now, since nothing may come of the run."""
        if self.progressed.texts == 0:
            self._file.write(self._rows.head())


class PartSink:
    """A folder FILE.part, which becomes FILE. Use `open_part`.

    Args:
        folder: FILE.part; it must be locked.
        rows: The format.
        about: How vectors and rows are made.
        clock: Seconds.

    Attributes:
        progressed: How far it has come, an earlier run's rows included.
        counted: Texts that a later run would go on with.
    """

    def __init__(
        self, folder: Path, rows: Rows, about: Mapping[str, Any], *, clock: Clock = time.monotonic
    ) -> None:
        self.progressed = Progressed()
        self._folder = folder
        self._rows = rows
        self._about = about
        self._clock = clock
        self._file: IO[bytes] | None = None
        self.counted = self._counted_rows = 0
        self._due_s = 0.0

    @property
    def kept(self) -> bool:
        """Whether there is anything that a later run would go on with."""
        return self._journal_path.exists()

    @property
    def _rows_path(self) -> Path:
        return self._folder / "rows"

    @property
    def _journal_path(self) -> Path:
        return self._folder / "journal.json"

    def open(self, lines: Iterable[Line]) -> None:
        """Go on where the journal ends, or begin.

        Args:
            lines: The input; those that are done are read off it.

        Raises:
            InputError: If this is not the run that the journal tells of.
        """
        journal = Journal.load(self._journal_path)
        # Rows are gone and their journal is not where a run was killed just after its last step.
        if journal is None or not self._rows_path.exists():
            self.forget()
            self._file = self._rows_path.open("wb")
            self._write(self._rows.head())
        else:
            journal.check_about(self._about)
            self._file = self._go_on(journal, lines)
        self._note_counted()

    def add(self, rows: Sequence[Row]) -> None:
        """Write the rows of a line; now and then, count what was written."""
        for row in rows:
            self._write(self._rows.encode(row))
        self.progressed.count(rows[0].line, rows=len(rows), failed=rows[0].item is None)
        waiting = self.progressed.rows - self._counted_rows
        if waiting >= CHECKPOINT_ROWS or self._clock() >= self._due_s:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Put all rows on the disk, and then their count."""
        self._write(self._rows.flush())
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
        journal_of(self.progressed, self._about).save(self._journal_path)
        self._note_counted()

    def _note_counted(self) -> None:
        self.counted, self._counted_rows = self.progressed.texts, self.progressed.rows
        self._due_s = self._clock() + CHECKPOINT_S

    def finish(self) -> None:
        """Make FILE of the rows, unless all have failed; the folder is left without them."""
        if self.progressed.all_failed:
            self.forget()
            return
        self.checkpoint()
        self.close()
        whole = self._rows.finish(self._rows_path)
        _sync(whole)
        whole.replace(self._folder.with_name(self._folder.name.removesuffix(_SUFFIX)))
        _sync(self._folder.parent)
        self._journal_path.unlink()

    def forget(self) -> None:
        """Take away what an earlier run left."""
        self.close()
        for path in (self._journal_path, self._rows_path):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file of rows."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _write(self, data: bytes) -> None:
        if self._file is not None:
            self._file.write(data)
            self.progressed.size_bytes += len(data)

    def _go_on(self, journal: Journal, lines: Iterable[Line]) -> IO[bytes]:
        if self._rows_path.stat().st_size < journal.size_bytes:
            raise InputError(
                f"{self._rows_path} lacks rows that its journal counts; --restart begins anew"
            )
        self.progressed = journal.replay(lines)
        file = self._rows_path.open("r+b")
        file.truncate(journal.size_bytes)
        file.seek(journal.size_bytes)
        return file


@contextmanager
def open_part(
    path: str, rows: Rows, *, about: Mapping[str, Any], lines: Iterable[Line], restart: bool
) -> Iterator[PartSink]:
    """Open a file that appears whole or not at all, and that a later run can go on with.

    Args:
        path: The file. A symbolic link stays, and the file that it leads to is made.
        rows: The format.
        about: How vectors and rows are made: names and JSON values. Another run must say the
            same to go on.
        lines: The input; those that an earlier run did are read off it.
        restart: Whether to forget an earlier run.

    Raises:
        InputError: If the file cannot be written, another process writes it, or an earlier run
            into it was not like this one.
        OutputError: If it cannot be written to its end. What the journal counts is kept.
    """
    target = resolve_target(path)
    folder = target.with_name(target.name + _SUFFIX)
    with ExitStack() as stack:
        try:
            stack.enter_context(_locked(folder))
        except OSError as exc:
            raise cannot_write(path, exc) from exc
        sink = PartSink(folder, rows, about)
        stack.callback(_leave, sink, folder)
        if restart:
            sink.forget()
        with writing(path):
            sink.open(lines)
        try:
            with writing(path):
                yield sink
        except OutputError:
            raise
        except UnitvecError:
            # It came between two rows, so all of them count. Ctrl-C can come within one.
            if sink.progressed.texts:
                with writing(path):
                    sink.checkpoint()
            raise
        finally:
            if sink.kept:
                done = f"{sink.counted:,} texts are done and kept"
                print(f"unitvec: {done}; the same command goes on from there", file=sys.stderr)


def _leave(sink: PartSink, folder: Path) -> None:
    """Close what is open; leave nothing behind that is of no use to a later run."""
    with suppress(OSError):  # What a full disk did not take is not counted, either.
        sink.close()
    if not sink.kept:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make the folder and hold it against other processes; the kernel lets go where one dies."""
    folder.mkdir(exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        if not _lock(handle, folder):
            raise InputError(f"another process is writing {folder}; wait for it, or end it")
        yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> bool:
    """Return whether the folder is ours now."""
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # Whoever held it before may have taken the folder away meanwhile.
    return folder.exists() and os.fstat(handle).st_ino == folder.stat().st_ino


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if sys.platform == "win32" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
