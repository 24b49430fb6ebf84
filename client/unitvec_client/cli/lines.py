"""Texts for the command: from arguments, files of lines, JSON lines, or standard input."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from unitvec_client.errors import InputError

_BOM = b"\xef\xbb\xbf"
_JSON_SUFFIXES = (".jsonl", ".ndjson")
_USUAL_FIELD = "text"


@dataclass(frozen=True, slots=True)
class Line:
    """One text to be, and where it came from.

    Attributes:
        number: From 1, in its file or among the arguments.
        text: None if it could not be read.
        problem: Why not.
        id: What the line itself says it is called, where that was asked for.
    """

    number: int
    text: str | None
    problem: str = ""
    id: str | int | None = None


@dataclass(frozen=True, slots=True)
class TextSource:
    """Where texts come from.

    Attributes:
        arguments: Texts given on the command line.
        path: A file, ``-`` for standard input, or None.
        field: Key that holds the text of a JSON line; None for ``text`` in files that are
            called .jsonl or .ndjson, and for plain lines in others.
        id_field: Key that holds what a JSON line is called; None where nobody asks.
    """

    arguments: tuple[str, ...] = ()
    path: str | None = None
    field: str | None = None
    id_field: str | None = None

    def lines(self) -> Iterator[Line]:
        """Yield the lines, reading as they are asked for.

        Raises:
            InputError: If the file cannot be read.
        """
        for number, text in enumerate(self.arguments, start=1):
            yield Line(number, text)
        if self.path is not None:
            yield from self._file_lines(self.path)

    def _file_lines(self, path: str) -> Iterator[Line]:
        keys = _keys_of(path, self.field, self.id_field)
        with ExitStack() as stack:
            for number, raw in enumerate(_open(path, stack), start=1):
                data = raw.removeprefix(_BOM) if number == 1 else raw
                line = parse_line(number, data.removesuffix(b"\n").removesuffix(b"\r"), keys)
                if line is not None:
                    yield line

    def texts(self) -> list[str]:
        """Return all texts.

        Raises:
            InputError: If one cannot be read; the message names its line.
        """
        found = []
        for line in self.lines():
            if line.text is None:
                raise InputError(f"{self.path}: line {line.number}: {line.problem}")
            found.append(line.text)
        return found


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys of a JSON line.

    Attributes:
        text: Holds the text.
        id: Holds what the line is called; None where nobody asks.
    """

    text: str
    id: str | None = None


def parse_line(number: int, data: bytes, keys: Keys | None) -> Line | None:
    """Return the line that these bytes are; None for a blank line between JSON lines.

    Args:
        number: Of the line.
        data: Without its line end.
        keys: Of a JSON object; None for a plain line.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        return Line(number, None, f"not UTF-8 (byte {exc.start})")
    if keys is None:
        return Line(number, text)
    if not text.strip():
        return None
    return _parse_json(number, text, keys)


def _keys_of(path: str, field: str | None, id_field: str | None) -> Keys | None:
    if field is None and Path(path).suffix in _JSON_SUFFIXES:
        field = _USUAL_FIELD
    if field is not None:
        return Keys(field, id_field)
    if id_field is not None:
        raise InputError("--id-field is for JSON lines: name the key of the text with --field")
    return None


def _parse_json(number: int, text: str, keys: Keys) -> Line:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as exc:
        return Line(number, None, f"not JSON: {exc}")
    if isinstance(record, str):
        return Line(number, record)
    if not isinstance(record, dict):
        return Line(number, None, f"no string under {keys.text!r}")
    name = record.get(keys.id) if keys.id is not None else None
    if isinstance(name, bool) or not isinstance(name, str | int):
        name = None
    if not isinstance(record.get(keys.text), str):
        return Line(number, None, f"no string under {keys.text!r}", name)
    return Line(number, record[keys.text], id=name)


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


def _open(path: str, stack: ExitStack) -> BinaryIO:
    if path == "-":
        return sys.stdin.buffer
    try:
        return stack.enter_context(Path(path).open("rb"))
    except OSError as exc:
        raise InputError(f"cannot read {path}: {exc.strerror}") from exc
