"""What it means that a file cannot be written."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unitvec_client.errors import InputError, UnitvecError

_FULL = (errno.ENOSPC, errno.EDQUOT)
STANDARD_OUTPUT = "standard output"


class OutputError(UnitvecError):
    """An output could be opened and not be written to its end: a full disk, a quota."""


def cannot_write(name: str, exc: OSError) -> UnitvecError:
    """Return the error for a file that cannot be opened or made.

    Args:
        name: What people call the file.
        exc: What the system says.
    """
    kind = OutputError if exc.errno in _FULL else InputError
    return kind(f"cannot write {name}: {exc.strerror or exc}")


@contextmanager
def writing(name: str) -> Iterator[None]:
    """Name the file in an error of the system that comes up while it is written.

    Args:
        name: What people call the file.

    Raises:
        OutputError: In place of an OSError; a reader that went away is still a BrokenPipeError.
    """
    try:
        yield
    except (BrokenPipeError, UnitvecError):  # A deadline that passed is a TimeoutError, too.
        raise
    except OSError as exc:
        raise OutputError(f"cannot write {name}: {exc.strerror or exc}") from exc


def say_written(program: str, path: str, what: str = "") -> None:
    """Say on standard error that a file is there, and what is in it.

    Args:
        program: Who says it.
        path: The file.
        what: What is in it; ends with ", ".
    """
    size = size_text(Path(path).stat().st_size)
    print(f"{program}: wrote {path}: {what}{size}", file=sys.stderr)


def drop_standard_output() -> None:
    """Send what is left to nowhere: Python flushes it at exit, and would complain again."""
    with suppress(OSError, ValueError):  # It has no number where something else stands in for it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def size_text(size_bytes: int) -> str:
    """Return a size as people read it."""
    size, unit = float(size_bytes), "bytes"
    for larger in ("KiB", "MiB", "GiB"):
        if size >= 1024:
            size, unit = size / 1024, larger
    return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
