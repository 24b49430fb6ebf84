"""Rows as Parquet. Needs pyarrow, the extra ``parquet``.

A Parquet file has its table of contents at its end and cannot go on once cut short. So rows are
appended as Arrow record batches, which can, and written as Parquet when all are there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitvec_client.cli.rows import NO_COLUMNS, SPAN, Columns, Row, id_text
from unitvec_client.errors import InputError
from unitvec_client.stored.encoding import vector_encoding
from unitvec_protos.installation import install_command

_GROUP_BYTES = 16 * 2**20
_MAX_GROUP_ROWS = 16_384
# Texts can be long; no group grows past this, whatever its rows.
_MAX_GROUP_BYTES = 8 * _GROUP_BYTES


class ParquetRows:
    """Columns index, line, tokens, truncated, left_out_tokens, vector, error; or id, text and span.

    The vector is a list of fixed size, D. Vectors of int8 are 8-bit numbers, and a column more,
    scale, has what to multiply each by. A row that failed has no vector but an error. Row groups
    hold about 16 MiB of vectors, and at most 16,384 rows.

    Args:
        like: (0, D): shape and type of a row; int8 is of rows whose items have scales.
        about: How the vectors were made: the file's metadata under ``unitvec``, as JSON.
        columns: What else each row has: an id is a string, JSON if it was none; a span is start,
            end, byte_start and byte_end.

    Raises:
        InputError: If pyarrow is not installed.
    """

    def __init__(
        self,
        like: NDArray[Any],
        about: Mapping[str, Any],
        columns: Columns = NO_COLUMNS,
    ) -> None:
        self._pa, self._pq = load_pyarrow()
        self._dtype = like.dtype
        self._width = like.shape[1]
        fitting = _GROUP_BYTES // (like.itemsize * self._width)
        self._group_rows = max(1, min(_MAX_GROUP_ROWS, fitting))
        self._schema = self._make_schema(about, columns)
        self._held: list[Row] = []

    def head(self) -> bytes:
        """Return nothing: the schema is known."""
        return b""

    def encode(self, row: Row) -> bytes:
        """Hold the row back."""
        self._held.append(row)
        return b""

    def flush(self) -> bytes:
        """Return the rows held back as one record batch."""
        if not self._held:
            return b""
        held, self._held = self._held, []
        columns = {
            "index": [row.index for row in held],
            "line": [row.line.number for row in held],
            "id": [_encodable(id_text(row.line.id)) for row in held],
            "text": [_encodable(row.text) for row in held],
            **dict(zip(SPAN, zip(*(row.span for row in held), strict=True), strict=True)),
            "tokens": [None if row.item is None else row.item.tokens for row in held],
            "truncated": [None if row.item is None else row.item.truncated for row in held],
            "left_out_tokens": [row.item and row.item.left_out_tokens for row in held],
            "vector": self._vectors(held),
            "scale": [row.scale for row in held],
            "error": [None if row.item is not None else _encodable(row.problem) for row in held],
        }
        chosen = {field.name: columns[field.name] for field in self._schema}
        batch = self._pa.record_batch(chosen, schema=self._schema)
        return bytes(batch.serialize())

    def tail(self) -> bytes:
        """Return nothing: Parquet goes to no stream."""
        return b""

    def finish(self, path: Path) -> Path:
        """Write the record batches as Parquet beside them, group by group."""
        whole = path.with_suffix(".parquet")
        encoding = vector_encoding(self._dtype)
        with self._pq.ParquetWriter(whole, self._schema, compression="zstd", **encoding) as writer:
            for table in self._groups(path):
                writer.write_table(table, row_group_size=self._group_rows)
        return whole

    def _make_schema(self, about: Mapping[str, Any], columns: Columns) -> Any:
        vector = self._pa.list_(self._pa.from_numpy_dtype(self._dtype), self._width)
        fields = [("index", self._pa.int64()), ("line", self._pa.int64())]
        fields += [("id", self._pa.string())] if columns.id else []
        fields += [("text", self._pa.large_string())] if columns.text else []
        fields += [(name, self._pa.int32()) for name in SPAN] if columns.span else []
        fields += [("tokens", self._pa.int32()), ("truncated", self._pa.bool_())]
        fields += [("left_out_tokens", self._pa.int32())]
        fields += [("vector", vector)]
        fields += [("scale", self._pa.float32())] if self._dtype == np.int8 else []
        fields += [("error", self._pa.string())]
        return self._pa.schema(fields, metadata={"unitvec": json.dumps(about, ensure_ascii=True)})

    def _vectors(self, rows: list[Row]) -> Any:
        values = np.zeros((len(rows), self._width), self._dtype)
        for place, row in zip(values, rows, strict=True):
            vector = row.codes if self._dtype == np.int8 else row.vector
            if vector is not None:
                place[:] = vector
        missing = self._pa.array([row.vector is None for row in rows])
        flat = self._pa.array(values.reshape(-1))
        return self._pa.FixedSizeListArray.from_arrays(flat, self._width, mask=missing)

    def _groups(self, path: Path) -> Iterator[Any]:
        """Yield tables of one row group each: the same whatever the batches were."""
        held: list[Any] = []
        for batch in self._batches(path):
            held.append(batch)
            table = self._pa.Table.from_batches(held)
            while table.num_rows >= self._group_rows:
                yield table.slice(0, self._group_rows)
                table = table.slice(self._group_rows)
            held = table.to_batches()
            if table.nbytes > _MAX_GROUP_BYTES:
                yield table
                held = []
        if held:
            yield self._pa.Table.from_batches(held)

    def _batches(self, path: Path) -> Iterator[Any]:
        with self._pa.OSFile(str(path)) as file:
            while file.tell() < file.size():
                message = self._pa.ipc.read_message(file)
                yield self._pa.ipc.read_record_batch(message, self._schema)


def load_pyarrow() -> tuple[Any, Any]:
    """Return pyarrow and its Parquet module, which only this format needs.

    Raises:
        InputError: If pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as exc:
        raise InputError(
            f"--format parquet needs pyarrow, which is not installed: {install_command('parquet')}"
        ) from exc
    return pa, pq


def _encodable(value: str | None) -> str | None:
    """Return a string that has a UTF-8; lone surrogates have none."""
    return None if value is None else value.encode("utf-8", "replace").decode()
