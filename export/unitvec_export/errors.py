"""What can go wrong in an export. Each is one line for the person at the terminal.

ExportError               the export failed: exit code 1
├── ParityError           the artifact does not reproduce the model
└── InputError            the command line or the model cannot be used: exit code 2
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class ExportError(Exception):
    """The export failed; nothing was left behind."""

    exit_code = 1


class ParityError(ExportError):
    """The artifact's vectors or token ids are not the model's."""


class InputError(ExportError):
    """The command line, the model or the output folder cannot be used as given."""

    exit_code = 2


@contextlib.contextmanager
def in_route(folder: str) -> Iterator[None]:
    """Lets a `ParityError` name the route that it is about; empty is the model itself."""
    try:
        yield
    except ParityError as exc:
        raise ParityError(f"{folder}: {exc}" if folder else str(exc)) from exc


def first_line(exc: BaseException) -> str:
    """The first line of an exception's text that says something, or its class name."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    if not lines:
        return type(exc).__name__
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
