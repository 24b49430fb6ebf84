"""What the command writes: tables, JSON lines or .npy; to standard output or a whole file."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from unitvec_client.errors import InputError

FORMATS = ("table", "jsonl", "npy")
_SUFFIXES = {".npy": "npy", ".jsonl": "jsonl", ".ndjson": "jsonl"}
# A fixed place for a version 1.0 header, so that the number of rows can be filled in last;
# numpy itself pads headers to a multiple of 64.
_NPY_HEADER_BYTES = 128
_CELL_WIDTH = 32


def choose_format(name: str | None, output: str | None) -> str:
    """Return the output format: as named, else by the file's suffix, else a table.

    Raises:
        InputError: If .npy has no regular file to go to; its header is written last.
    """
    chosen = name or _SUFFIXES.get(Path(output or "").suffix, "table")
    if chosen == "npy" and (output is None or _is_special(Path(output))):
        raise InputError("--format npy needs --output FILE, and a regular file")
    return chosen


@contextmanager
def open_output(path: str | None) -> Iterator[IO[bytes]]:
    """Open standard output, or a file that appears whole or not at all.

    A symbolic link stays, and the file that it leads to is written. What is there and is no
    regular file (a pipe, a device) is written as it is, piece by piece.

    Args:
        path: The file; None for standard output.

    Raises:
        InputError: If the file cannot be written.
    """
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with _open_special(path) if _is_special(Path(path)) else _replace_file(path) as file:
        yield file


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()


def _open_special(path: str) -> IO[bytes]:
    try:
        return Path(path).open("wb")
    except OSError as exc:
        raise InputError(f"cannot write {path}: {exc.strerror}") from exc


@contextmanager
def _replace_file(path: str) -> Iterator[IO[bytes]]:
    try:
        target = Path(path).resolve()
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except (OSError, RuntimeError) as exc:  # RuntimeError: links that lead in a circle.
        raise InputError(f"cannot write {path}: {getattr(exc, 'strerror', exc)}") from exc
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


def write_json(file: IO[bytes], record: dict[str, Any]) -> None:
    """Write one JSON line."""
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A lone surrogate from the input has no UTF-8; as an escape it is still JSON.
    file.write(text.encode("utf-8", "backslashreplace") + b"\n")


def write_text(file: IO[bytes], text: str) -> None:
    """Write one line of text."""
    file.write(text.encode("utf-8", "replace") + b"\n")


class NpyWriter:
    """Writes rows to a .npy file as they come; only the row at hand is in memory.

    A row that is missing is NaN (zeros in a file of whole numbers), so that rows stay in step
    with the input.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._dtype: np.dtype[Any] | None = None
        self._width = 0
        self._rows = 0
        self._missing_first = 0
        file.write(b"\0" * _NPY_HEADER_BYTES)

    def write(self, row: NDArray[Any] | None) -> None:
        """Write one row (D,); None for a missing one."""
        self._rows += 1
        if row is None and self._dtype is None:
            self._missing_first += 1
            return
        if row is not None and self._dtype is None:
            self._begin(row)
        self._put(self._missing_row() if row is None else row)

    def finish(self, like: NDArray[Any]) -> None:
        """Write the header.

        Args:
            like: (0, D): shape and type of a row, in case no row was written.
        """
        if self._dtype is None:
            self._begin(np.empty(like.shape[1], like.dtype))
        self._file.seek(0)
        self._file.write(self._header())

    def _begin(self, row: NDArray[Any]) -> None:
        self._dtype, self._width = row.dtype.newbyteorder("<"), len(row)
        for _ in range(self._missing_first):
            self._put(self._missing_row())

    def _put(self, row: NDArray[Any]) -> None:
        self._file.write(row.astype(self._dtype, copy=False).tobytes())

    def _missing_row(self) -> NDArray[Any]:
        fill = np.nan if self._dtype is not None and self._dtype.kind == "f" else 0
        return np.full(self._width, fill, self._dtype)

    def _header(self) -> bytes:
        descr = np.lib.format.dtype_to_descr(np.dtype(self._dtype))
        fields = {"descr": descr, "fortran_order": False, "shape": (self._rows, self._width)}
        start = np.lib.format.magic(1, 0)
        room = _NPY_HEADER_BYTES - len(start) - 2
        text = repr(fields).ljust(room - 1) + "\n"
        return start + room.to_bytes(2, "little") + text.encode("latin1")


def save_npy(file: IO[bytes], array: NDArray[Any]) -> None:
    """Write a whole array."""
    np.lib.format.write_array(file, array, allow_pickle=False)


def clip(text: str, width: int = _CELL_WIDTH) -> str:
    """Return the text on one line, at most this wide."""
    line = "".join(c if c.isprintable() else "·" for c in " ".join(text.split()))
    return line if len(line) <= width else line[: width - 1] + "…"


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
