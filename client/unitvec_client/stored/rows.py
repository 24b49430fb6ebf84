"""Stored vectors as blocks of rows, whatever file they lie in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unitvec_client.errors import InputError

KINDS = {"f4": "float32", "f2": "float16", "f8": "float64", "i1": "int8", "u1": "binary"}
"""Types of values by numpy's name of them; bytes hold eight signs each."""

BLOCK_VALUES = 4_000_000
"""Values of a block (16 MB as float32): of this size a search holds a few at a time."""


@dataclass(frozen=True, slots=True)
class Block:
    """Successive rows.

    Attributes:
        start: Index of the first row.
        values: (n, W) as stored.
        groups: Key of each row (n,), where rows are grouped.
        missing: Whether a row has no vector (n,); None where the values themselves tell.
    """

    start: int
    values: NDArray[Any]
    groups: Sequence[Any] | None = None
    missing: NDArray[np.bool_] | None = None


class Rows(Protocol):
    """Stored vectors.

    Attributes:
        name: What they are called in errors.
        about: How they were made, where the file tells; see `unitvec embed`.
    """

    name: str
    about: Mapping[str, Any]

    def blocks(self, group_by: str | None, most_rows: int | None = None) -> Iterator[Block]:
        """Yield all rows in order.

        Raises:
            InputError: If the file is not what it should be, or has no such key.
        """

    def describe(self, indices: Sequence[int]) -> Mapping[int, Mapping[str, Any]]:
        """Return what the file says of these rows beside their vectors, by index."""


def value_kind(dtype: np.dtype[Any], name: str) -> str:
    """Return what values of this type are.

    Raises:
        InputError: If vectors cannot be made of it.
    """
    kind = KINDS.get(dtype.str[1:])
    if kind is None:
        kinds = "float32, float16, float64, int8, or uint8 of packed signs"
        raise InputError(f"{name} holds values of {dtype}, not {kinds}")
    return kind


def block_rows(width: int, most_rows: int | None) -> int:
    """Return how many rows of this width a block has."""
    rows = max(1, BLOCK_VALUES // max(1, width))
    return rows if most_rows is None else max(1, min(rows, most_rows))


class ArrayRows:
    """Vectors in memory: (n, W), or bytes of packed signs.

    Args:
        array: The vectors.
        name: What they are called in errors.

    Raises:
        InputError: If it is no matrix of vectors.
    """

    def __init__(self, array: NDArray[Any], name: str = "vectors") -> None:
        if array.ndim != 2 or not array.shape[1]:
            raise InputError(f"{name} has shape {array.shape}, not (rows, dimensions)")
        value_kind(array.dtype, name)
        self.name = name
        self.about: Mapping[str, Any] = {}
        self._array = array

    def blocks(self, group_by: str | None, most_rows: int | None = None) -> Iterator[Block]:
        """Yield all rows in order."""
        if group_by is not None:
            raise InputError(f"{self.name} is an array, which has no {group_by!r} to group by")
        step = block_rows(self._array.shape[1], most_rows)
        for start in range(0, len(self._array), step):
            yield Block(start, self._array[start : start + step])

    def describe(self, indices: Sequence[int]) -> Mapping[int, Mapping[str, Any]]:
        """Return nothing: an array has vectors alone."""
        return {index: {} for index in indices}
