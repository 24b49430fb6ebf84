"""Vectors in .npy: a matrix, or records with a field ``vector``; mapped, never read whole."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from unitvec_client.errors import InputError
from unitvec_client.stored.rows import Block, block_rows, value_kind

_VECTOR = "vector"


class NpyRows:
    """The rows of a .npy file.

    Args:
        path: The file.
        about: How they were made, as far as that is known.

    Raises:
        InputError: If it is no whole .npy file of vectors.
        OSError: If it cannot be read.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.name, self.about = str(path), about
        with path.open("rb") as file:
            dtype, count, start = self._read_header(file)
            size_bytes = path.stat().st_size
            if size_bytes < start + count * dtype.itemsize:
                raise InputError(f"{path} is cut short: {size_bytes} bytes for {count} rows")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._start = start
        self._rows: NDArray[Any] = np.frombuffer(self._map, dtype, count, start)

    def _read_header(self, file: IO[bytes]) -> tuple[np.dtype[Any], int, int]:
        """Return the type of a row, the number of rows and where they start."""
        try:
            version = np.lib.format.read_magic(file)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, is_fortran, dtype = read(file)
        except (ValueError, KeyError) as exc:
            raise InputError(f"{self.name} is no .npy file: {exc}") from exc
        if dtype.names is not None:
            self._check_records(dtype, shape)
        elif len(shape) != 2 or not shape[1] or is_fortran or dtype.hasobject:
            order = " in Fortran order" if is_fortran else ""
            raise InputError(f"{self.name} is no matrix of vectors: {dtype} {shape}{order}")
        else:
            dtype = np.dtype([(_VECTOR, dtype, shape[1:])])
        value_kind(dtype[_VECTOR].base, self.name)
        return dtype, shape[0], file.tell()

    def _check_records(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        has_vector = _VECTOR in (dtype.names or ()) and len(dtype[_VECTOR].shape) == 1
        if len(shape) != 1 or dtype.hasobject or not has_vector:
            raise InputError(f"{self.name} holds records without a field {_VECTOR}: {dtype}")

    def blocks(self, group_by: str | None, most_rows: int | None = None) -> Iterator[Block]:
        """Yield all rows in order; pages that were read are given back."""
        fields = self._rows.dtype.names or ()
        if group_by is not None and (group_by not in fields or group_by == _VECTOR):
            known = ", ".join(name for name in fields if name != _VECTOR) or "none"
            raise InputError(f"{self.name} has no field {group_by!r} to group by; it has {known}")
        step = block_rows(self._rows.dtype[_VECTOR].shape[0], most_rows)
        for start in range(0, len(self._rows), step):
            rows = self._rows[start : start + step]
            groups = None if group_by is None else rows[group_by].tolist()
            yield Block(start, rows[_VECTOR], groups)
            self._give_back(start + len(rows))

    def _give_back(self, rows: int) -> None:
        """Let go of the pages of the first rows, so that memory stays bounded."""
        end_bytes = self._start + rows * self._rows.dtype.itemsize
        whole_bytes = end_bytes - end_bytes % mmap.PAGESIZE
        if whole_bytes and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED, 0, whole_bytes)

    def describe(self, indices: Sequence[int]) -> Mapping[int, Mapping[str, Any]]:
        """Return the other fields of records."""
        names = [name for name in self._rows.dtype.names or () if name != _VECTOR]
        return {
            index: {name: self._rows[name][index].item() for name in names} for index in indices
        }
