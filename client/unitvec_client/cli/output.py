"""Where the command writes, and how: tables, JSON and CSV; standard output or a whole file."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from unitvec_client.console.writing import STANDARD_OUTPUT, cannot_write, say_written, writing
from unitvec_client.errors import InputError
from unitvec_client.stored.files import ABOUT_SUFFIX

TEXT_FORMATS = ("table", "jsonl", "json")
_FILE_FORMATS = ("npy", "parquet")
_SUFFIXES = {
    ".npy": "npy",
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
}
_CELL_WIDTH = 32


def choose_format(
    name: str | None, output: str | None, formats: Sequence[str] = TEXT_FORMATS, *, usual: str
) -> str:
    """Return the output format: as named, else by the file's suffix.

    Args:
        name: The format asked for, if any.
        output: The file asked for, if any.
        formats: Those that the command can write.
        usual: The format where neither a name nor a suffix tells.

    Raises:
        InputError: If the suffix of a file tells no format that the command can write; or if .npy
            or Parquet has no regular file to go to, for a part of them is written last.
    """
    chosen = name or _format_of_file(output, formats, usual)
    if chosen not in formats:
        raise InputError(f"this command writes no {chosen}; --format is {' or '.join(formats)}")
    if chosen in _FILE_FORMATS and (output is None or is_special(output)):
        raise InputError(f"--format {chosen} needs --output FILE, and a regular file")
    return chosen


def _format_of_file(output: str | None, formats: Sequence[str], usual: str) -> str:
    suffix = Path(output or "").suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if output is None or is_special(output):
        return usual
    called = f"the suffix {suffix!r}" if suffix else "no suffix"
    known = ", ".join(known for known, kind in _SUFFIXES.items() if kind in formats)
    raise InputError(
        f"{output} has {called}, which tells no format: end it in {known}, or give --format"
    )


@contextmanager
def open_output(path: str | None) -> Iterator[IO[bytes]]:
    """Open standard output, or a file that appears whole or not at all.

    A symbolic link stays, and the file that it leads to is written. What is there and is no
    regular file (a pipe, a device) is written as it is, piece by piece.

    Args:
        path: The file; None for standard output.

    Raises:
        InputError: If the file cannot be opened.
        OutputError: If it cannot be written to its end.
    """
    if path is None:
        with writing(STANDARD_OUTPUT):
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        return
    special = is_special(path)
    with writing(path), _open_special(path) if special else _replace_file(path) as file:
        yield file
    if not special:
        say_written("unitvec", path)


def write_about(path: str | None, about: Mapping[str, Any]) -> None:
    """Write how the vectors of a file were made beside it, as FILE.unitvec.json.

    Args:
        path: FILE; nothing is written beside a pipe, a device or standard output.
        about: Names and JSON values.

    Raises:
        OutputError: If it cannot be written.
    """
    if path is None or is_special(path):
        return
    beside = f"{resolve_target(path)}{ABOUT_SUFFIX}"
    with writing(beside), _replace_file(beside) as file:
        file.write(json.dumps(about, indent=2).encode() + b"\n")


def is_special(path: str) -> bool:
    """Return whether a pipe, a device or a folder is there."""
    found = Path(path)
    return found.exists() and not found.is_file()


def is_same_file(first: str, second: str) -> bool:
    """Return whether two paths lead to the same regular file."""
    with suppress(OSError, ValueError):
        return Path(second).is_file() and Path(first).samefile(second)
    return False


def resolve_target(path: str) -> Path:
    """Return the file that a path leads to, past symbolic links.

    Raises:
        InputError: If links lead in a circle, or there is no such folder.
    """
    try:
        target = Path(path).resolve()
        target.parent.stat()
    except (OSError, RuntimeError) as exc:  # RuntimeError: links that lead in a circle.
        raise InputError(f"cannot write {path}: {getattr(exc, 'strerror', exc)}") from exc
    return target


def _open_special(path: str) -> IO[bytes]:
    try:
        return Path(path).open("wb")
    except OSError as exc:
        raise cannot_write(path, exc) from exc


@contextmanager
def _replace_file(path: str) -> Iterator[IO[bytes]]:
    target = resolve_target(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as exc:
        raise cannot_write(path, exc) from exc
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(file: IO[bytes], text: str) -> None:
    """Write one line of text."""
    file.write(text_line(text))


def write_records(file: IO[bytes], kind: str, records: Iterable[Mapping[str, Any]]) -> None:
    """Write records as JSON lines, or as one JSON array.

    Args:
        file: Where to.
        kind: ``jsonl`` or ``json``.
        records: Each becomes an object.
    """
    if kind == "jsonl":
        file.writelines(json_line(record) for record in records)
        return
    file.write(ARRAY_HEAD)
    file.writelines(array_item(record, index) for index, record in enumerate(records))
    file.write(ARRAY_TAIL)


def write_csv(file: IO[bytes], head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table with a head."""
    file.write(csv_line(head))
    file.writelines(csv_line(row) for row in rows)


ARRAY_HEAD, ARRAY_TAIL = b"[\n", b"\n]\n"


def array_item(record: Mapping[str, Any], index: int) -> bytes:
    """Return an item of a JSON array, and what parts it from the one before."""
    return (b",\n" if index else b"") + json_line(record).removesuffix(b"\n")


def csv_line(cells: Sequence[Any]) -> bytes:
    """Return one row of a table; None is an empty cell."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue().encode("utf-8", "replace")


def json_line(record: Mapping[str, Any]) -> bytes:
    """Return one JSON line."""
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A lone surrogate from the input has no UTF-8; as an escape it is still JSON.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def text_line(text: str) -> bytes:
    """Return one line of text."""
    return text.encode("utf-8", "replace") + b"\n"


def save_npy(file: IO[bytes], array: NDArray[Any]) -> None:
    """Write a whole array."""
    np.lib.format.write_array(file, array, allow_pickle=False)


def clip(text: str, width: int | None = _CELL_WIDTH) -> str:
    """Return the text on one line, at most this wide; None cuts nothing."""
    line = "".join(c if c.isprintable() else "·" for c in " ".join(text.split()))
    return line if width is None or len(line) <= width else line[: width - 1] + "…"


def format_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows under their heads, in columns; numbers to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [_format_row(head, widths)]
    lines += [_format_row(row, widths) for row in rows]
    return "\n".join(lines)


def _format_row(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.rjust(width) if _is_number(cell) else cell.ljust(width)
        for cell, width in zip(row, widths, strict=True)
    ]
    return "  ".join(cells).rstrip()


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).replace("-", "", 1).replace(",", "").isdecimal()
