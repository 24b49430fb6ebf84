"""What it means that a file cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from unitvec_client.errors import UnitvecError

STANDARD_OUTPUT = "standard output"


class OutputError(UnitvecError):
    """An output could be opened and not be written to its end: a full disk, a quota."""


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


def size_text(size_bytes: int) -> str:
    """Return a size as people read it."""
    size, unit = float(size_bytes), "bytes"
    for larger in ("KiB", "MiB", "GiB"):
        if size >= 1024:
            size, unit = size / 1024, larger
    return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
