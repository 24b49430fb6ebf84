"""What `unitvec embed` writes: rows as a table, JSON lines or .npy.

A format turns rows into bytes to be appended, so that a file that was cut short can go on, and
may have something to do to the file once it is complete.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitvec_client.cli.output import json_line, text_line
from unitvec_client.cli.parquet import ParquetRows
from unitvec_client.cli.rows import Row, Rows
from unitvec_client.errors import InputError

# A fixed place for a version 1.0 header, so that the number of rows can be filled in last;
# numpy itself pads headers to a multiple of 64.
_NPY_HEADER_BYTES = 128
_VALUES_SHOWN = 4


def make_rows(args: argparse.Namespace, like: NDArray[Any], about: Mapping[str, Any]) -> Rows:
    """Return the format that the flags ask for.

    Args:
        args: The flags.
        like: (0, D): shape and type of a row.
        about: How the vectors were made, for formats that can say so.

    Raises:
        InputError: If a flag does not fit the format, or a package is missing.
    """
    extras = args.id_field is not None or args.with_text
    if args.format in ("npy", "table") and extras:
        raise InputError("--id-field and --with-text need --format jsonl or parquet")
    if args.format == "npy":
        return NpyRows(like)
    if args.format == "table":
        return TableRows()
    if args.format == "jsonl":
        return JsonRows(with_id=args.id_field is not None, with_text=args.with_text)
    return ParquetRows(like, about, with_id=args.id_field is not None, with_text=args.with_text)


class _PlainRows:
    """A format that writes every row at once and ends as it is."""

    def head(self) -> bytes:
        return b""

    def flush(self) -> bytes:
        return b""

    def finish(self, path: Path) -> Path:
        """Return the path: the file is whole."""
        return path


class TableRows(_PlainRows):
    """For people: the first values of each vector; what failed is on standard error alone."""

    def head(self) -> bytes:
        """Return the heads of the columns."""
        return text_line(f"{'line':>8}  {'tokens':>6}  cut  vector")

    def encode(self, row: Row) -> bytes:
        """Return the row as a line."""
        if row.item is None or row.item.vector is None:
            return b""
        cut = "yes" if row.item.truncated else "-"
        shown = _shorten(row.item.vector)
        return text_line(f"{row.line.number:>8}  {row.item.tokens:>6}  {cut:<3}  {shown}")


class JsonRows(_PlainRows):
    """JSON lines.

    Args:
        with_id: Whether each has the line's own id.
        with_text: Whether each has its text.
    """

    def __init__(self, *, with_id: bool = False, with_text: bool = False) -> None:
        self._with_id = with_id
        self._with_text = with_text

    def encode(self, row: Row) -> bytes:
        """Return the row as a line."""
        record: dict[str, Any] = {"index": row.index, "line": row.line.number}
        if self._with_id:
            record["id"] = row.line.id
        if self._with_text:
            record["text"] = row.line.text
        if row.item is None or row.item.vector is None:
            record["error"] = row.problem
        else:
            record["tokens"] = row.item.tokens
            record["truncated"] = row.item.truncated
            record["vector"] = row.item.vector.tolist()
        return json_line(record)


class NpyRows(_PlainRows):
    """A .npy file: a header that is filled in last, then the rows.

    A row that is missing is NaN (zeros in a file of whole numbers), so that rows stay in step
    with the input.

    Args:
        like: (0, D): shape and type of a row.
    """

    def __init__(self, like: NDArray[Any]) -> None:
        self._dtype = like.dtype.newbyteorder("<")
        self._width = like.shape[1]
        fill = np.nan if self._dtype.kind == "f" else 0
        self._missing = np.full(self._width, fill, self._dtype)

    def head(self) -> bytes:
        """Return room for the header."""
        return b"\0" * _NPY_HEADER_BYTES

    def encode(self, row: Row) -> bytes:
        """Return the values of the row."""
        values = self._missing if row.vector is None else row.vector
        return values.astype(self._dtype, copy=False).tobytes()

    def finish(self, path: Path) -> Path:
        """Fill in the header."""
        row_bytes = self._width * self._dtype.itemsize
        rows = (path.stat().st_size - _NPY_HEADER_BYTES) // row_bytes
        with path.open("r+b") as file:
            file.write(self._header(rows))
        return path

    def _header(self, rows: int) -> bytes:
        descr = np.lib.format.dtype_to_descr(self._dtype)
        fields = {"descr": descr, "fortran_order": False, "shape": (rows, self._width)}
        start = np.lib.format.magic(1, 0)
        room = _NPY_HEADER_BYTES - len(start) - 2
        text = repr(fields).ljust(room - 1) + "\n"
        return start + room.to_bytes(2, "little") + text.encode("latin1")


def _shorten(vector: NDArray[Any]) -> str:
    values = "  ".join(f"{value:+.4f}" for value in vector[:_VALUES_SHOWN].tolist())
    more = "  …" if len(vector) > _VALUES_SHOWN else ""
    return f"[{values}{more}] ({len(vector)},) {vector.dtype}"
