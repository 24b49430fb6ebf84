"""Vectors in Parquet: a column ``vector`` of lists, read group by group."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitvec_client.errors import InputError
from unitvec_client.stored.rows import Block, block_rows, value_kind
from unitvec_protos.installation import install_command

_VECTOR = "vector"
_SCALE = "scale"
_ABOUT = b"unitvec"
"""Key of the metadata that say how the vectors were made."""


class ParquetRows:
    """The rows of a Parquet file.

    Args:
        path: The file.

    Raises:
        InputError: If it is no Parquet file of vectors, or pyarrow is not installed.
        OSError: If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._pa, pq = _load_pyarrow()
        self.name = str(path)
        path.open("rb").close()  # whether it is there is told as for any other file
        try:
            self._file = pq.ParquetFile(path, memory_map=True)
        except (self._pa.ArrowInvalid, OSError) as exc:  # OSError: its metadata are damaged
            raise InputError(f"{path} is no Parquet file: {exc}") from exc
        self._names = [name for name in self._file.schema_arrow.names if name != _VECTOR]
        if _VECTOR not in self._file.schema_arrow.names:
            raise InputError(f"{path} has no column {_VECTOR}; it has {', '.join(self._names)}")
        self.about = self._read_about()

    def _read_about(self) -> Mapping[str, Any]:
        metadata = self._file.schema_arrow.metadata or {}
        try:
            about = json.loads(metadata.get(_ABOUT, b"{}"))
        except ValueError as exc:
            raise InputError(
                f"{self.name}: the metadata {_ABOUT.decode()} are no JSON: {exc}"
            ) from exc
        if not isinstance(about, dict):
            raise InputError(f"{self.name}: the metadata {_ABOUT.decode()} are no JSON object")
        return about

    def blocks(self, group_by: str | None, most_rows: int | None = None) -> Iterator[Block]:
        """Yield all rows in order."""
        if group_by is not None and group_by not in self._names:
            known = ", ".join(self._names)
            raise InputError(f"{self.name} has no column {group_by!r} to group by; it has {known}")
        kind = self._file.schema_arrow.field(_VECTOR).type
        width = getattr(kind, "list_size", None) or 1024
        columns = [_VECTOR, *([group_by] if group_by else []), *self._scale_columns(kind)]
        start = 0
        try:
            batches = self._file.iter_batches(block_rows(width, most_rows), columns=columns)
            for batch in batches:
                values, missing = self._matrix(batch.column(_VECTOR), start)
                groups = None if group_by is None else batch.column(group_by).to_pylist()
                if _SCALE in columns:
                    scales = batch.column(_SCALE).to_numpy(zero_copy_only=False)
                    values = values * scales[:, np.newaxis]
                yield Block(start, values, groups, missing)
                start += batch.num_rows
        except (self._pa.ArrowInvalid, OSError) as exc:
            raise InputError(f"{self.name} is damaged: {exc}") from exc

    def _scale_columns(self, kind: Any) -> list[str]:
        """Return the column of factors, where vectors are 8-bit numbers that have one."""
        if _SCALE not in self._names or getattr(kind, "value_type", None) != self._pa.int8():
            return []
        scale = self._file.schema_arrow.field(_SCALE).type
        return [_SCALE] if self._pa.types.is_floating(scale) else []

    def _matrix(self, column: Any, start: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return values (n, W) and which rows are null, whose values are 0."""
        missing = np.asarray(column.is_null())
        if not self._pa.types.is_list(column.type) and not hasattr(column.type, "value_type"):
            raise InputError(f"{self.name}: column {_VECTOR} holds {column.type}, not lists")
        flat = column.drop_null().flatten()
        if flat.null_count:
            raise InputError(f"{self.name}: a vector from row {start} on has values that are null")
        present = np.asarray(flat)
        rows = len(missing) - int(missing.sum())
        width = len(present) // rows if rows else 1
        lengths = column.drop_null().value_lengths() if rows else []
        if len(set(np.asarray(lengths).tolist())) > 1 or not width:
            raise InputError(f"{self.name}: vectors from row {start} on differ in length")
        value_kind(present.dtype, self.name)
        if rows == len(missing):
            return present.reshape(rows, width), missing
        values = np.zeros((len(missing), width), present.dtype)
        values[~missing] = present.reshape(rows, width)
        return values, missing

    def describe(self, indices: Sequence[int]) -> Mapping[int, Mapping[str, Any]]:
        """Return the other columns of these rows, from the groups that hold them."""
        if not self._names:  # a table of no columns has no rows, either
            return {index: {} for index in indices}
        found: dict[int, Mapping[str, Any]] = {}
        wanted, first = sorted(indices), 0
        for group in range(self._file.num_row_groups):
            count = self._file.metadata.row_group(group).num_rows
            here = [index for index in wanted if first <= index < first + count]
            if here:
                table = self._file.read_row_group(group, columns=self._names)
                rows = table.take([index - first for index in here]).to_pylist()
                found |= zip(here, rows, strict=True)
            first += count
        return found


def _load_pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as exc:
        raise InputError(
            f"Parquet needs pyarrow, which is not installed: {install_command('parquet')}"
        ) from exc
    return pa, pq
