"""Lines of texts, read from plain lines, JSON and tables."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from unitvec_client.console.files import OpenedFile
from unitvec_client.errors import InputError

_KEYS_SHOWN = 8
_USUAL_FIELD = "text"
# JSON on one line or many: an object, or an array of objects or strings.
_JSON_START = re.compile(rb'\s*(\{\s*("|$)|\[\s*([{"]|$))')
_OBJECT_OVER_LINES = re.compile(rb"\s*\{[ \t\r]*\n")


@dataclass(frozen=True, slots=True)
class Line:
    """One text to be, and where it came from.

    Attributes:
        number: Place from 1, in its file or among the arguments.
        text: The text; None if it could not be read.
        problem: Why it could not be read.
        id: What the record says it is called, any JSON value, where that was asked for.
        lacks_id: Whether that was asked for and the record has no such key.
    """

    number: int
    text: str | None
    problem: str = ""
    id: Any = None
    lacks_id: bool = False


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys of a record.

    Attributes:
        text: Key of the text.
        id: Key of what the record is called; None where nobody asks.
    """

    text: str = _USUAL_FIELD
    id: str | None = None


def looks_like_json(head: bytes) -> bool:
    """Return whether a file that begins like this is JSON rather than plain lines."""
    return _JSON_START.match(head) is not None


def looks_like_markup(head: bytes) -> bool:
    """Return whether a file that begins like this is HTML or XML: its lines are no texts."""
    return head.lstrip().lower().startswith((b"<?xml", b"<!doctype", b"<html"))


def is_array(head: bytes) -> bool:
    """Return whether JSON that begins like this is an array."""
    return head.lstrip().startswith(b"[")


def read_plain(file: OpenedFile) -> Iterator[Line]:
    """Yield each line as a text."""
    for number, raw in enumerate(file.lines(), start=1):
        try:
            yield Line(number, raw.removesuffix(b"\n").removesuffix(b"\r").decode())
        except UnicodeDecodeError as exc:
            yield Line(number, None, f"not UTF-8 (byte {exc.start})")


def read_json(file: OpenedFile, keys: Keys) -> Iterator[Line]:
    """Yield the records of an array, or of one JSON value a line; blank lines are left out.

    An array is held in memory whole.

    Raises:
        InputError: If it is one object, or an array that is not JSON.
    """
    if is_array(file.head):
        yield from _read_array(file, keys)
        return
    if _OBJECT_OVER_LINES.match(file.head):
        raise InputError(
            f"{file.name} holds a JSON object over several lines: write one object a line "
            "(jq -c), or an array of objects"
        )
    for line in read_plain(file):
        if line.text is None:
            yield line
        elif line.text.strip():
            yield _parse_json(line.number, line.text, keys)


def _read_array(file: OpenedFile, keys: Keys) -> Iterator[Line]:
    try:
        records = json.loads(file.content())
    except (ValueError, RecursionError) as exc:
        raise InputError(f"{file.name} begins like a JSON array and is not JSON: {exc}") from exc
    for number, record in enumerate(records, start=1):
        yield _to_line(number, record, keys)


def _parse_json(number: int, text: str, keys: Keys) -> Line:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as exc:
        return Line(number, None, f"not JSON: {exc}")
    return _to_line(number, record, keys)


def _to_line(number: int, record: Any, keys: Keys) -> Line:
    if isinstance(record, str):
        return Line(number, record, lacks_id=keys.id is not None)
    if not isinstance(record, dict):
        return Line(number, None, "neither a JSON object nor a string")
    text = record.get(keys.text)
    name = None if keys.id is None else record.get(keys.id)
    lacks_id = keys.id is not None and keys.id not in record
    if not _has_json(name):
        return Line(number, None, f"{keys.id!r} is a number that JSON does not have")
    if not isinstance(text, str):
        return Line(number, None, f"no string under {keys.text!r} ({_list(record)})", name)
    return Line(number, text, id=name, lacks_id=lacks_id)


def _has_json(value: Any) -> bool:
    """Return whether it can be written: Python reads NaN and Infinity, and JSON has neither."""
    if value is None or isinstance(value, str | int):
        return True
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def read_table(file: OpenedFile, keys: Keys, *, delimiter: str) -> Iterator[Line]:
    """Yield the rows of a table whose first row names the columns; blank rows are left out.

    Raises:
        InputError: If a column is missing, or a quote is never closed.
    """
    # Its bound of 128 KiB a cell is less than a text may have.
    csv.field_size_limit(sys.maxsize)
    lines = (raw.decode("utf-8", "surrogateescape") for raw in file.lines())
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        head = next(rows, None)
        if head is None:
            return
        text_at = _find(file.name, head, keys.text, flag="--field")
        id_at = None if keys.id is None else _find(file.name, head, keys.id, flag="--id-field")
        number = rows.line_num + 1
        for row in rows:
            if row:
                yield _row_to_line(number, row, text_at, id_at)
            number = rows.line_num + 1
    except csv.Error as exc:
        raise InputError(f"{file.name}: line {rows.line_num}: {exc}") from exc


def _find(name: str, head: list[str], key: str, *, flag: str) -> int:
    if key not in head:
        columns = _list(head, "columns")
        raise InputError(f"{name} has no column {key!r} ({columns}); {flag} names one")
    return head.index(key)


def _row_to_line(number: int, row: list[str], text_at: int, id_at: int | None) -> Line:
    if len(row) <= max(text_at, id_at or 0):
        return Line(number, None, f"only {len(row)} columns")
    text = row[text_at]
    name = None if id_at is None else row[id_at]
    if not all(_is_utf8(cell) for cell in (text, name or "")):
        return Line(number, None, "not UTF-8")
    return Line(number, text, id=name)


def _is_utf8(cell: str) -> bool:
    try:
        cell.encode()
    except UnicodeEncodeError:
        return False
    return True


def _list(keys: Iterable[str], what: str = "keys") -> str:
    names = [repr(key) for key in keys]
    more = ", …" if len(names) > _KEYS_SHOWN else ""
    return f"{what}: {', '.join(names[:_KEYS_SHOWN])}{more}" if names else f"it has no {what}"
