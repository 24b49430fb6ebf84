"""Files of each format as tables of rows, a little at a time.

What cannot be read becomes a row with a problem. A file that is damaged gives the rows before the
damage and one problem for all that is lost behind it. Failures of a remote filesystem are no
damage: they end the run, and the next one goes on.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from unitvec_bulk.reading.pieces import InputFile
from unitvec_bulk.reading.rows import Layout, Problem, Row

_BATCH_ROWS = 1024
_BATCH_BYTES = 2**20
_BUFFER_BYTES = 2**18
_LINE_BYTES = 64 * 2**20
"""A longer line is a problem: it could fill the memory."""
_FIELD_CHARS = 64 * 2**20

_DAMAGES = (EOFError, UnicodeDecodeError, csv.Error, zlib.error, pa.ArrowException, OSError)


class Read(NamedTuple):
    """Some rows of a file.

    Attributes:
        table: The rows.
        part: Part of the file that is read by now, from 0 to 1.
    """

    table: pa.Table
    part: float


def read_file(file: InputFile, layout: Layout) -> Iterator[Read]:
    """Reads a file from its beginning to its end.

    Raises:
        OSError: Its filesystem fails.
    """
    number = 0
    try:
        reader = _read_parquet if file.format == "parquet" else _read_rows
        for read in reader(file, layout):
            number += read.table.num_rows
            yield read
    except _DAMAGES as exc:
        if isinstance(exc, OSError) and not _is_damage(exc, file):
            raise
        problem = Problem("DAMAGED_FILE", f"nothing can be read from row {number} on: {exc}")
        yield Read(layout.table(file.place.url, [Row(number, problem)]), 1.0)


def _is_damage(error: OSError, file: InputFile) -> bool:
    """Whether the content is at fault: local filesystems number their own failures."""
    return isinstance(error, gzip.BadGzipFile) or (file.place.is_local and error.errno is None)


def _read_parquet(file: InputFile, layout: Layout) -> Iterator[Read]:
    with (
        file.place.filesystem.open_input_file(file.place.path) as source,
        pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False) as parquet,
    ):
        missing = [name for name in layout.read_columns if name not in parquet.schema_arrow.names]
        if missing:
            message = f"the file has no column {missing[0]}"
            yield Read(layout.table(file.place.url, [Row(0, Problem("NO_COLUMN", message))]), 1.0)
            return
        total, number = max(1, parquet.metadata.num_rows), 0
        rows = _batch_rows(parquet, layout.read_columns)
        for batch in parquet.iter_batches(rows, columns=layout.read_columns, use_threads=False):
            yield Read(
                _from_batch(file.place.url, number, batch, layout),
                (number + batch.num_rows) / total,
            )
            number += batch.num_rows


def _batch_rows(parquet: pq.ParquetFile, columns: list[str]) -> int:
    """Rows that take about `_BATCH_BYTES`, by the averages that the file's footer tells."""
    metadata = parquet.metadata
    most = 1.0
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group)
        chunks = [rows.column(at) for at in range(rows.num_columns)]
        size = sum(c.total_uncompressed_size for c in chunks if c.path_in_schema in columns)
        most = max(most, size / max(1, rows.num_rows))
    return max(1, min(_BATCH_ROWS, int(_BATCH_BYTES / most)))


def _from_batch(url: str, number: int, batch: pa.RecordBatch, layout: Layout) -> pa.Table:
    """A batch of Parquet; one column of texts is taken over as it is."""
    count, columns = batch.num_rows, layout.columns
    kind = batch.schema.field(layout.text_columns[0]).type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    text = None if columns.template or not is_text else batch.column(columns.text)
    if text is None or text.null_count:
        records = batch.to_pylist()
        rows = [
            Row(number + at, layout.text_of(record), [record[n] for n in layout.copied.names])
            for at, record in enumerate(records)
        ]
        return layout.table(url, rows)
    arrays = [
        pa.repeat(pa.scalar(url, pa.string()), count),
        pa.array(range(number, number + count), pa.int64()),
        text.cast(pa.large_string()),
        pa.nulls(count, pa.string()),
        pa.nulls(count, pa.string()),
        *(batch.column(field.name).cast(field.type) for field in layout.copied),
    ]
    return pa.Table.from_arrays(arrays, schema=layout.schema)


def _read_rows(file: InputFile, layout: Layout) -> Iterator[Read]:
    with file.place.filesystem.open_input_file(file.place.path) as raw:
        size_bytes = max(1, file.found.size_bytes)
        held: list[Row] = []
        held_bytes = 0
        try:
            for row in _ROWS[file.format](_unpacked(raw, file), layout):
                held.append(row)
                held_bytes += len(row.text) if isinstance(row.text, str) else 0
                if len(held) == _BATCH_ROWS or held_bytes >= _BATCH_BYTES:
                    table = layout.table(file.place.url, held)
                    held, held_bytes = [], 0
                    yield Read(table, min(1.0, raw.tell() / size_bytes))
        except _DAMAGES:
            yield Read(layout.table(file.place.url, held), 1.0)
            raise
        yield Read(layout.table(file.place.url, held), 1.0)


def _unpacked(raw: Any, file: InputFile) -> Any:
    if file.packing == "gzip":
        # It has a buffer of its own; another one would lose what comes just before a damage.
        return gzip.GzipFile(fileobj=raw)
    if file.packing == "zstd":
        return io.BufferedReader(pa.CompressedInputStream(raw, "zstd"), _BUFFER_BYTES)
    return io.BufferedReader(raw, _BUFFER_BYTES)


def _read_lines(stream: IO[bytes]) -> Iterator[str | Problem]:
    """Lines without their ends; a mark of byte order at the start is dropped."""
    is_first = True
    while line := stream.readline(_LINE_BYTES + 1):
        if len(line) > _LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = stream.readline(_LINE_BYTES)
            yield Problem("LINE_TOO_LONG", f"the line has more than {_LINE_BYTES} bytes")
            continue
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        try:
            text = line.decode()
        except UnicodeDecodeError as exc:
            yield Problem("NOT_UTF8", f"the line is not UTF-8: {exc.reason} at byte {exc.start}")
        else:
            yield text.removeprefix("\ufeff") if is_first else text
        is_first = False


def _text_rows(stream: IO[bytes], _: Layout) -> Iterator[Row]:
    for number, line in enumerate(_read_lines(stream)):
        yield Row(number, line)


def _whole_file(stream: IO[bytes], _: Layout) -> Iterator[Row]:
    content = stream.read(_LINE_BYTES + 1)
    if len(content) > _LINE_BYTES:
        yield Row(0, Problem("TEXT_TOO_LARGE", f"the file has more than {_LINE_BYTES} bytes"))
        return
    try:
        yield Row(0, content.decode("utf-8-sig"))
    except UnicodeDecodeError as exc:
        yield Row(0, Problem("NOT_UTF8", f"it is not UTF-8: {exc.reason} at byte {exc.start}"))


def _json_rows(stream: IO[bytes], layout: Layout) -> Iterator[Row]:
    for number, line in enumerate(_read_lines(stream)):
        if isinstance(line, Problem):
            yield Row(number, line)
        elif line and not line.isspace():
            yield _json_row(number, line, layout)


def _json_row(number: int, line: str, layout: Layout) -> Row:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as exc:
        return Row(number, Problem("NOT_JSON", f"the line is not JSON: {exc}"))
    if not isinstance(record, dict):
        found = type(record).__name__
        return Row(number, Problem("NOT_JSON", f"the line holds no JSON object but {found}"))
    return Row(number, layout.text_of(record), layout.copied_as_text(record))


def _table_rows(delimiter: str) -> Callable[[IO[bytes], Layout], Iterator[Row]]:
    def read(stream: IO[bytes], layout: Layout) -> Iterator[Row]:
        csv.field_size_limit(_FIELD_CHARS)
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        reader = csv.reader(text, delimiter=delimiter)
        head = next(reader, [])
        missing = [name for name in layout.read_columns if name not in head]
        if missing:
            yield Row(0, Problem("NO_COLUMN", f"the file has no column {missing[0]}"))
            return
        for number, cells in enumerate(row for row in reader if row):
            yield _table_row(number, head, cells, layout)

    return read


def _table_row(number: int, head: list[str], cells: list[str], layout: Layout) -> Row:
    if len(cells) != len(head):
        message = f"the row has {len(cells)} cells, the head {len(head)}"
        return Row(number, Problem("WRONG_CELLS", message))
    record = dict(zip(head, cells, strict=True))
    return Row(number, layout.text_of(record), layout.copied_as_text(record))


_ROWS: dict[str, Callable[[IO[bytes], Layout], Iterator[Row]]] = {
    "jsonl": _json_rows,
    "csv": _table_rows(","),
    "tsv": _table_rows("\t"),
    "text": _text_rows,
    "file": _whole_file,
}
