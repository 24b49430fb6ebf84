"""Shards: the rows of one chunk as a Parquet file that appears whole or not at all.

A shard's name tells its piece and chunk, and what it holds depends on nothing else, so that an
attempt that is repeated writes the same again. The file that appears last, that of the vectors, is
the commit: its footer tells what came of the chunk. Where a store takes the vectors, the file has
the other columns, and the chunk is noted before the store has any row of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs as fs
import pyarrow.parquet as pq

from unitvec_bulk.embedding.outcome import ModelFacts, Outcome, pack_matrix, packed_width
from unitvec_bulk.errors import UsageError
from unitvec_bulk.options import DtypeName, EmbedOptions
from unitvec_bulk.reading.rows import FIXED, Layout, Problem
from unitvec_bulk.reading.storage import Place
from unitvec_bulk.writing.stores import METADATA, Writer
from unitvec_client.stored.encoding import ELEMENTS, vector_encoding

_COUNTS = b"unitvec.counts"
_GROUP_BYTES = 16 * 2**20
_VALUES: Mapping[DtypeName, pa.DataType] = {
    "float32": pa.float32(),
    "float16": pa.float16(),
    "int8": pa.int8(),
    "binary": pa.uint8(),
}

ERRORS = pa.schema(
    [
        ("file", pa.string()),
        ("row", pa.int64()),
        ("id", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
    ]
)
"""Rows that have no vector."""


@dataclasses.dataclass(frozen=True)
class Counts:
    """What came of some chunks.

    Attributes:
        rows: Rows of the input.
        failed: Those of them that have no vector.
        vectors: Vectors that were written.
        tokens: Tokens that were encoded.
    """

    rows: int = 0
    failed: int = 0
    vectors: int = 0
    tokens: int = 0

    def __add__(self, other: Counts) -> Counts:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Counts(*(mine + yours for mine, yours in pairs))


def shard_schema(layout: Layout, options: EmbedOptions, facts: ModelFacts) -> pa.Schema:
    """Columns of the shards, with what made them as metadata.

    Raises:
        UsageError: A copied column has the name of one of ours.
    """
    ours = [] if layout.columns.id else [("file", pa.string()), ("row", pa.int64())]
    width = packed_width(facts.dim, options.dtype)
    results = [("vector", pa.list_(_VALUES[options.dtype], width))]
    results += [("scale", pa.float32())] if options.dtype == "int8" else []
    results += [("start", pa.int32()), ("end", pa.int32())] if options.has_window_rows else []
    results += [("tokens", pa.int32()), ("truncated", pa.bool_())]
    taken = {name for name, _ in [*ours, *results]} & set(layout.copied.names)
    if taken:
        raise UsageError(f"column {min(taken)} is one of the output's own; rename it or drop it")
    about = {**dataclasses.asdict(facts), **dataclasses.asdict(options)}
    return pa.schema(
        [*map(_field, ours), *layout.copied, *map(_field, results)],
        metadata={METADATA: json.dumps(about, sort_keys=True)},
    )


def _field(pair: tuple[str, pa.DataType]) -> pa.Field:
    return pa.field(*pair)


class Shard:
    """The shard of one chunk while it is made.

    Args:
        folder: Folder of the output.
        name: Name of the file.
        schema: Schema of the vectors.
        store: Takes the vectors, in place of the file.
    """

    def __init__(
        self, folder: Place, name: str, schema: pa.Schema, store: Writer | None = None
    ) -> None:
        self._folder = folder
        self._name = name
        self._schema = schema
        self._store = store
        self._sink = _open(folder)
        self._errors: list[dict[str, Any]] = []
        width = schema.field("vector").type
        row_bytes = width.list_size * width.value_type.bit_width // 8
        self._group_rows = max(1, _GROUP_BYTES // row_bytes)
        self._kept = [name for name in schema.names if store is None or name != "vector"]
        fields = [schema.field(name) for name in self._kept]
        self._writer = _writer(self._sink, pa.schema(fields, schema.metadata))
        self._note = folder.child(f"_unitvec/begun/{name}")
        self._is_repeated = store is not None and _exists(self._note)
        if store is not None:
            with self._note.filesystem.open_output_stream(self._note.path):
                pass
        self._held: list[pa.Table] = []
        self.counts = Counts()

    def add(self, rows: pa.Table, outcome: Outcome, options: EmbedOptions) -> None:
        """Takes in rows of a chunk and what came of those that have a text.

        Args:
            rows: Rows as they were read.
            outcome: What came of them, by their places among `rows`.
            options: How they were embedded.
        """
        self._held.append(_results(rows, outcome, options, self._schema))
        if sum(table.num_rows for table in self._held) >= self._group_rows:
            self._flush()
        self._errors += _error_rows(rows, outcome, has_id="file" not in self._schema.names)
        self.counts += Counts(
            rows.num_rows,
            rows.num_rows - len(set(outcome.texts)),
            len(outcome.texts),
            sum(outcome.tokens),
        )

    def commit(self) -> None:
        """Lets the errors appear, then the vectors."""
        if self._errors:
            self._write_errors()
        self._flush()
        self._writer.add_key_value_metadata(
            {_COUNTS: json.dumps(dataclasses.asdict(self.counts)).encode()}
        )
        self._writer.close()
        _appear(self._sink, self._folder.child(self._name))
        if self._store is not None:
            self._note.filesystem.delete_file(self._note.path)

    def abandon(self) -> None:
        """Leaves nothing behind."""
        with contextlib.suppress(Exception):
            self._writer.close()
        if isinstance(self._sink, Path):
            self._sink.unlink(missing_ok=True)

    def _flush(self) -> None:
        if not self._held:
            return
        rows, self._held = pa.concat_tables(self._held), []
        if self._store is not None and rows.num_rows:
            self._store.add(rows, is_repeated=self._is_repeated)
        self._writer.write_table(rows.select(self._kept))

    def _write_errors(self) -> None:
        sink = _open(self._folder)
        with _writer(sink, ERRORS) as writer:
            writer.write_table(pa.Table.from_pylist(self._errors, schema=ERRORS))
        _appear(sink, self._folder.child(f"_errors/{self._name}"))


def shard_name(piece: int, chunk: int) -> str:
    """Name of the shard of a chunk."""
    return f"part-{piece:06}-{chunk:06}.parquet"


def read_counts(folder: Place, name: str) -> Counts | None:
    """What came of a chunk that was committed; None if it was not."""
    place = folder.child(name)
    if not _exists(place):
        return None
    with place.filesystem.open_input_file(place.path) as file:
        metadata = pq.read_metadata(file).metadata
    return Counts(**json.loads(metadata[_COUNTS]))


def _exists(place: Place) -> bool:
    return bool(place.filesystem.get_file_info(place.path).type != fs.FileType.NotFound)


def _results(
    rows: pa.Table, outcome: Outcome, options: EmbedOptions, schema: pa.Schema
) -> pa.Table:
    matrix, scales = pack_matrix(outcome.vectors, options.dtype)
    taken = rows.take(pa.array(outcome.texts, pa.int64()))
    columns: dict[str, Any] = {
        **{name: taken.column(name) for name in taken.column_names},
        "file": taken.column("_file"),
        "row": taken.column("_row"),
        "vector": _lists(matrix, schema.field("vector").type),
        "scale": scales,
        "start": [span.start for span in outcome.spans],
        "end": [span.end for span in outcome.spans],
        "tokens": outcome.tokens,
        "truncated": outcome.truncated,
    }
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def as_lists(
    outcome: Outcome, options: EmbedOptions, *, rows: int
) -> tuple[pa.Array, pa.Array | None]:
    """Vectors as a column of so many rows, those that failed null; and the factors of int8."""
    matrix, scales = pack_matrix(outcome.vectors, options.dtype)
    kind = pa.list_(_VALUES[options.dtype], matrix.shape[1])
    spread = np.zeros((rows, matrix.shape[1]), matrix.dtype)
    spread[outcome.texts] = matrix
    missing = np.ones(rows, bool)
    missing[outcome.texts] = False
    flat = pa.array(spread.reshape(-1), kind.value_type)
    lists = pa.FixedSizeListArray.from_arrays(flat, type=kind, mask=pa.array(missing))
    if options.dtype != "int8":
        return lists, None
    factors = np.zeros(rows, np.float32)
    factors[outcome.texts] = scales
    return lists, pa.array(factors, pa.float32(), mask=missing)


def _lists(matrix: npt.NDArray[Any], kind: pa.FixedSizeListType) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(matrix).reshape(-1), kind.value_type)
    return pa.FixedSizeListArray.from_arrays(flat, type=kind)


def _error_rows(rows: pa.Table, outcome: Outcome, *, has_id: bool) -> list[dict[str, Any]]:
    has_vector = set(outcome.texts)
    failed = [index for index in range(rows.num_rows) if index not in has_vector]
    if not failed:
        return []
    records = rows.drop_columns(["_text"]).take(pa.array(failed, pa.int64())).to_pylist()
    id_column = rows.column_names[len(FIXED)] if has_id else None
    return [
        _error_row(record, outcome.problems.get(index), id_column)
        for index, record in zip(failed, records, strict=True)
    ]


def _error_row(
    record: Mapping[str, Any], problem: Problem | None, id_column: str | None
) -> dict[str, Any]:
    reason, message = problem or (record["_reason"], record["_message"])
    given = record[id_column] if id_column else None
    return {
        "file": record["_file"],
        "row": record["_row"],
        "id": None if given is None else str(given),
        "reason": reason,
        "message": message,
    }


def _writer(sink: Path | pa.BufferOutputStream, schema: pa.Schema) -> pq.ParquetWriter:
    # Vectors of floats are as good as random: compressing them is wasted.
    plain = {ELEMENTS: "none"}
    names = [field.name for field in schema if field.name != "vector"]
    packed = dict.fromkeys(names, "zstd")
    where = str(sink) if isinstance(sink, Path) else sink
    dictionary = [name for name in ("file", "reason", "truncated") if name in names]
    if "vector" in schema.names:
        values = schema.field("vector").type.value_type.to_pandas_dtype()
        dictionary += vector_encoding(np.dtype(values))["use_dictionary"]
    return pq.ParquetWriter(
        where, schema, compression=packed | plain, use_dictionary=dictionary, write_statistics=names
    )


def _open(folder: Place) -> Path | pa.BufferOutputStream:
    """Where a file is written before it appears: beside it, or in memory for object stores."""
    if folder.is_local:
        return Path(folder.path) / "_unitvec" / "tmp" / uuid.uuid4().hex
    return pa.BufferOutputStream()


def _appear(sink: Path | pa.BufferOutputStream, place: Place) -> None:
    if isinstance(sink, Path):
        with sink.open("rb") as file:
            os.fsync(file.fileno())
        sink.replace(place.path)
        return
    with place.filesystem.open_output_stream(place.path) as stream:
        stream.write(sink.getvalue())
