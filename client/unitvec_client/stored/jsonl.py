"""Vectors in JSON lines: an object a line, with a list of numbers under ``vector``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unitvec_client.errors import InputError
from unitvec_client.stored.rows import Block, block_rows

_VECTOR = "vector"


class JsonlRows:
    """The rows of a file of JSON lines. Lines without a vector, which have an error, are missing.

    Args:
        path: The file.
        about: How they were made, as far as that is known: a list of numbers does not tell
            whether they are packed signs.

    Raises:
        OSError: If it cannot be read.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.name, self.about = str(path), about
        self._path = path
        path.open("rb").close()

    def blocks(self, group_by: str | None, most_rows: int | None = None) -> Iterator[Block]:
        """Yield all rows in order."""
        start, width = 0, 0
        held: list[tuple[Any, Any]] = []
        for record in self._records():
            vector = record.get(_VECTOR)
            width = width or len(vector or ())
            if vector is not None and len(vector) != width:
                row = f"row {start + len(held)}"
                raise InputError(f"{self.name}: {row} has {len(vector)} dimensions, not {width}")
            held.append((vector, None if group_by is None else self._key(record, group_by)))
            if len(held) >= block_rows(width or 1024, most_rows):
                yield self._block(start, held, width, is_grouped=group_by is not None)
                start += len(held)
                held = []
        if held:
            yield self._block(start, held, width, is_grouped=group_by is not None)

    def _key(self, record: Mapping[str, Any], group_by: str) -> Any:
        if group_by not in record:
            known = ", ".join(name for name in record if name != _VECTOR)
            raise InputError(f"{self.name} has no {group_by!r} to group by; it has {known}")
        return json.dumps(record[group_by])

    def _block(
        self, start: int, held: list[tuple[Any, Any]], width: int, *, is_grouped: bool
    ) -> Block:
        missing = np.array([vector is None for vector, _ in held])
        dtype = np.uint8 if self.about.get("dtype") == "binary" else np.float32
        values = np.zeros((len(held), max(1, width)), dtype)
        try:
            for place, (vector, _) in zip(values, held, strict=True):
                if vector is not None:
                    place[:] = vector
        except (TypeError, ValueError, OverflowError) as exc:
            raise InputError(f"{self.name}: a vector is no list of numbers: {exc}") from exc
        return Block(start, values, [key for _, key in held] if is_grouped else None, missing)

    def _records(self) -> Iterator[Mapping[str, Any]]:
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield self._record(number, line)

    def _record(self, number: int, line: bytes) -> Mapping[str, Any]:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise InputError(f"{self.name}: line {number} is no JSON: {exc}") from exc
        if not isinstance(record, dict) or not {_VECTOR, "error"} & record.keys():
            raise InputError(f"{self.name}: line {number} has no {_VECTOR}")
        if not isinstance(record.get(_VECTOR), list | None):
            raise InputError(f"{self.name}: line {number}: {_VECTOR} is no list")
        return record

    def describe(self, indices: Sequence[int]) -> Mapping[int, Mapping[str, Any]]:
        """Return what else these lines hold."""
        wanted, found = set(indices), {}
        for index, record in enumerate(self._records()):
            if index in wanted:
                found[index] = {name: each for name, each in record.items() if name != _VECTOR}
                if len(found) == len(wanted):
                    break
        return found
