"""What `unitvec embed` writes: rows as a table, JSON, CSV or .npy.

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

from unitvec_client.cli.output import (
    ARRAY_HEAD,
    ARRAY_TAIL,
    array_item,
    csv_line,
    json_line,
    text_line,
)
from unitvec_client.cli.parquet import ParquetRows, load_pyarrow
from unitvec_client.cli.rows import NO_COLUMNS, SPAN, Columns, Row, Rows, id_text
from unitvec_client.errors import InputError

# A fixed place for a version 1.0 header, so that the number of rows can be filled in last;
# numpy itself pads headers to a multiple of 64. That of records takes some 250 bytes.
_NPY_HEADER_BYTES = 384
_VALUES_SHOWN = 4


def check_rows(args: argparse.Namespace) -> None:
    """Check what the flags ask for before anything is read or sent.

    Raises:
        InputError: If a flag does not fit the format, or a package is missing.
    """
    if args.format in ("npy", "table") and (args.id_field is not None or args.with_text):
        raise InputError("--id-field and --with-text need --format jsonl, json, csv or parquet")
    if args.format == "parquet":
        load_pyarrow()


def make_rows(args: argparse.Namespace, like: NDArray[Any], about: Mapping[str, Any]) -> Rows:
    """Return the format that the flags ask for.

    Args:
        args: The flags.
        like: (0, D): shape and type of a row.
        about: How the vectors were made, for formats that can say so.
    """
    has_span = args.window is not None and not args.pooled
    columns = Columns(id=args.id_field is not None, text=args.with_text, span=has_span)
    if args.format == "npy":
        return WindowNpyRows(like) if has_span else NpyRows(like)
    if args.format == "table":
        return TableRows(has_span=has_span)
    if args.format == "csv":
        return CsvRows(like.shape[1], columns)
    if args.format == "parquet":
        return ParquetRows(like, about, columns)
    return JsonRows(columns, array=args.format == "json")


class _PlainRows:
    """A format that writes every row at once."""

    def head(self) -> bytes:
        return b""

    def flush(self) -> bytes:
        return b""

    def tail(self) -> bytes:
        return b""

    def finish(self, path: Path) -> Path:
        """Append what comes after all rows."""
        with path.open("ab") as file:
            file.write(self.tail())
        return path


class TableRows(_PlainRows):
    """For people: the first values of each vector; what failed is on standard error alone.

    Args:
        has_span: Whether each row is a window, and has its place in the text.
    """

    def __init__(self, *, has_span: bool = False) -> None:
        self._has_span = has_span

    def head(self) -> bytes:
        """Return the heads of the columns."""
        span = f"{'start':>8}  {'end':>8}  " if self._has_span else ""
        return text_line(f"{'line':>8}  {span}{'tokens':>6}  {'cut off':>7}  vector")

    def encode(self, row: Row) -> bytes:
        """Return the row as a line."""
        if row.item is None or row.item.vector is None:
            return b""
        cut = f"{row.item.left_out_tokens:,}" if row.item.truncated else "-"
        shown = _shorten(row.item.vector)
        span = "" if row.window is None else f"{row.window.start:>8}  {row.window.end:>8}  "
        return text_line(f"{row.line.number:>8}  {span}{row.item.tokens:>6}  {cut:>7}  {shown}")


class JsonRows(_PlainRows):
    """JSON lines, or one JSON array of the same objects.

    Args:
        columns: What each has beside its vector.
        array: Whether they are items of an array.
    """

    def __init__(self, columns: Columns = NO_COLUMNS, *, array: bool = False) -> None:
        self._columns = columns
        self._array = array

    def head(self) -> bytes:
        """Return what opens the array, if it is one."""
        return ARRAY_HEAD if self._array else b""

    def tail(self) -> bytes:
        """Return what closes the array, if it is one."""
        return ARRAY_TAIL if self._array else b""

    def encode(self, row: Row) -> bytes:
        """Return the row as an object."""
        record = self._record(row)
        return array_item(record, row.index) if self._array else json_line(record)

    def _record(self, row: Row) -> dict[str, Any]:
        record: dict[str, Any] = {"index": row.index, "line": row.line.number}
        if self._columns.id:
            record["id"] = row.line.id
        if self._columns.text:
            record["text"] = row.text
        if self._columns.span and row.window is not None:
            record |= zip(SPAN, row.span, strict=True)
        if row.item is None or row.item.vector is None:
            record["error"] = row.problem
        else:
            record["tokens"] = row.item.tokens
            record["truncated"] = row.item.truncated
            record["left_out_tokens"] = row.item.left_out_tokens
            record["vector"] = row.item.vector.tolist()
        return record


class CsvRows(_PlainRows):
    """A table with a head: a column for each value of the vector, ``v0`` and on.

    A row that failed has no values but an error.

    Args:
        width: Values in a vector.
        columns: What each has beside its vector; an id is JSON, if it is no string.
    """

    def __init__(self, width: int, columns: Columns) -> None:
        self._width = width
        self._columns = columns

    def head(self) -> bytes:
        """Return the names of the columns."""
        columns = self._columns
        given = ["id"] * columns.id + ["text"] * columns.text + [*SPAN] * columns.span
        values = [f"v{place}" for place in range(self._width)]
        counts = ["tokens", "truncated", "left_out_tokens"]
        return csv_line(["index", "line", *given, *counts, "error", *values])

    def encode(self, row: Row) -> bytes:
        """Return the row as a line of the table."""
        columns = self._columns
        given = [id_text(row.line.id)] * columns.id + [row.text] * columns.text
        cells = [row.index, row.line.number, *given, *row.span * columns.span]
        if row.item is None or row.item.vector is None:
            return csv_line([*cells, None, None, None, row.problem, *[None] * self._width])
        truncated = "true" if row.item.truncated else "false"
        counts = [row.item.tokens, truncated, row.item.left_out_tokens]
        return csv_line([*cells, *counts, None, *row.item.vector.tolist()])


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
        dtype, shape = self._shape(path.stat().st_size - _NPY_HEADER_BYTES)
        with path.open("r+b") as file:
            file.write(self._header(dtype, shape))
        return path

    def _shape(self, size_bytes: int) -> tuple[Any, tuple[int, ...]]:
        """Return the type and the shape of an array of this size."""
        rows = size_bytes // (self._width * self._dtype.itemsize)
        return self._dtype, (rows, self._width)

    @staticmethod
    def _header(dtype: Any, shape: tuple[int, ...]) -> bytes:
        descr = np.lib.format.dtype_to_descr(dtype)
        fields = {"descr": descr, "fortran_order": False, "shape": shape}
        start = np.lib.format.magic(1, 0)
        room = _NPY_HEADER_BYTES - len(start) - 2
        text = repr(fields).ljust(room - 1) + "\n"
        return start + room.to_bytes(2, "little") + text.encode("latin1")


class WindowNpyRows(NpyRows):
    """A .npy file of records: the place of a window in the input and in its text, and its vector.

    The fields are line, start, end, byte_start, byte_end, tokens and vector. A text that failed is
    one record, from 0 to 0, whose vector is as in `NpyRows`.

    Args:
        like: (0, D): shape and type of a vector.
    """

    def __init__(self, like: NDArray[Any]) -> None:
        super().__init__(like)
        names = ("line", *SPAN, "tokens")
        vector = ("vector", self._dtype, (self._width,))
        self._record = np.dtype([*((name, "<u4") for name in names), vector])

    def encode(self, row: Row) -> bytes:
        """Return the record."""
        record = np.zeros((), self._record)
        record["line"] = row.line.number
        record["vector"] = self._missing if row.vector is None else row.vector
        if row.window is not None:
            record["tokens"] = row.window.tokens
            for name, value in zip(SPAN, row.span, strict=True):
                record[name] = value
        return record.tobytes()

    def _shape(self, size_bytes: int) -> tuple[Any, tuple[int, ...]]:
        return self._record, (size_bytes // self._record.itemsize,)


def _shorten(vector: NDArray[Any]) -> str:
    values = "  ".join(f"{value:+.4f}" for value in vector[:_VALUES_SHOWN].tolist())
    more = "  …" if len(vector) > _VALUES_SHOWN else ""
    return f"[{values}{more}] ({len(vector)},) {vector.dtype}"
