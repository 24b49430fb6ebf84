"""Pieces as chunks: the rows that one worker embeds and writes as one shard.

Where a chunk ends depends on the rows alone, never on who reads them or when, so that an attempt
that is repeated finds the same chunks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from unitvec_bulk.reading.formats import Read, read_file
from unitvec_bulk.reading.pieces import Piece
from unitvec_bulk.reading.rows import Layout


class ChunkLimits(NamedTuple):
    """Bounds of a chunk; a longer text is a chunk by itself.

    Attributes:
        rows: Most rows.
        size_bytes: Most bytes of rows.
    """

    rows: int
    size_bytes: int


class Chunk(NamedTuple):
    """Rows of a piece.

    Attributes:
        piece: Number of the piece.
        number: Number of the chunk in it.
        rows: The rows; without any, this is the end of the piece, and no chunk.
        input_bytes: Bytes of the piece's files that were read for it.
    """

    piece: int
    number: int
    rows: pa.Table
    input_bytes: int


def read_piece(piece: Piece, layout: Layout, limits: ChunkLimits) -> Iterator[Chunk]:
    """The chunks of a piece, and its end, whose number is how many there were.

    Raises:
        OSError: A filesystem fails.
    """
    held = _Held(limits)
    number = 0
    for read, read_bytes in _reads(piece, layout):
        for rows, share in held.add(read.table, read_bytes):
            yield Chunk(piece.number, number, rows, share)
            number += 1
    if held.count:
        rows, share = held.take()
        yield Chunk(piece.number, number, rows, share)
        number += 1
    yield Chunk(piece.number, number, layout.schema.empty_table(), held.read_bytes)


def _reads(piece: Piece, layout: Layout) -> Iterator[tuple[Read, int]]:
    """What is read of all files, with the bytes of the files that it took."""
    for file in piece.files:
        seen = 0
        for read in read_file(file, layout):
            reached = int(read.part * file.found.size_bytes)
            yield read, max(0, reached - seen)
            seen = max(seen, reached)


class _Held:
    """Rows that are not a chunk yet."""

    def __init__(self, limits: ChunkLimits) -> None:
        self._limits = limits
        self._tables: list[pa.Table] = []
        self.count = self.size_bytes = self.read_bytes = 0

    def add(self, table: pa.Table, read_bytes: int) -> Iterator[tuple[pa.Table, int]]:
        """Takes rows in, and gives out the chunks that are full."""
        self.read_bytes += read_bytes
        for part in _split(table, self._limits.size_bytes):
            yield from self._add_part(part)

    def _add_part(self, part: pa.Table) -> Iterator[tuple[pa.Table, int]]:
        start = 0
        while start < part.num_rows:
            if self._is_full(part.nbytes):
                yield self.take()
            taken = part.slice(start, self._limits.rows - self.count)
            self._tables.append(taken)
            self.count += taken.num_rows
            self.size_bytes += taken.nbytes
            start += taken.num_rows

    def _is_full(self, more_bytes: int) -> bool:
        limits = self._limits
        too_large = self.size_bytes + more_bytes > limits.size_bytes
        return self.count > 0 and (self.count == limits.rows or too_large)

    def take(self) -> tuple[pa.Table, int]:
        """All rows that are held, and the bytes that were read for them."""
        rows, share = pa.concat_tables(self._tables).combine_chunks(), self.read_bytes
        self._tables = []
        self.count = self.size_bytes = self.read_bytes = 0
        return rows, share


def _split(table: pa.Table, most_bytes: int) -> Iterator[pa.Table]:
    """A table in halves, until each is small or a single row."""
    if table.nbytes <= most_bytes or table.num_rows < 2:
        yield table
        return
    half = table.num_rows // 2
    yield from _split(table.slice(0, half), most_bytes)
    yield from _split(table.slice(half), most_bytes)
