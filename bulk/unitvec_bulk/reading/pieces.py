"""The input as pieces: what one reader reads from its beginning to its end.

A piece is one file, or many small ones together, so that a million tiny files are no million tasks.
Pieces depend on nothing but the list of files: a job that goes on has the same ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args

from unitvec_bulk.errors import UsageError
from unitvec_bulk.reading.storage import FoundFile, Place, find_place, list_files

Format = Literal["parquet", "jsonl", "csv", "tsv", "text", "file"]
FORMATS: tuple[Format, ...] = get_args(Format)
Packing = Literal["", "gzip", "zstd"]

_SUFFIXES: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "text",
    ".text": "text",
}
_PACKINGS: dict[str, Packing] = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}

_PIECE_BYTES = 8 * 2**20
_PIECE_FILES = 1024
"""Small files are joined to pieces of this size: some seconds of work for one core."""


class InputFile(NamedTuple):
    """One file of the input.

    Attributes:
        place: Where it is.
        found: Its size and time of change.
        format: How its content is read.
        packing: How it is compressed as a whole.
    """

    place: Place
    found: FoundFile
    format: Format
    packing: Packing


class Piece(NamedTuple):
    """Files that one reader reads, in order."""

    number: int
    files: Sequence[InputFile]

    @property
    def size_bytes(self) -> int:
        """Size of its files as they lie on disk."""
        return sum(file.found.size_bytes for file in self.files)


def find_files(
    names: Iterable[str], *, format_name: Format | None = None, output: Place | None = None
) -> list[InputFile]:
    """All files of the input, each once, in order.

    Args:
        names: Paths, folders, globs and URLs.
        format_name: Format of all files; None to tell by their suffixes.
        output: Folder of the output, whose files are no input.

    Raises:
        UsageError: A name leads to no file, or a file's suffix tells no format.
    """
    files: dict[str, InputFile] = {}
    for name in names:
        place = find_place(name)
        for found in list_files(place):
            at = place._replace(path=found.path)
            if output is not None and at.url.startswith(f"{output.url}/"):
                continue
            files.setdefault(at.url, InputFile(at, found, *_tell(at, format_name)))
    if not files:
        raise UsageError("there are no input files")
    return list(files.values())


def make_pieces(files: Sequence[InputFile]) -> list[Piece]:
    """Divides files into pieces: large ones alone, neighbours that are small together."""
    pieces: list[Piece] = []
    held: list[InputFile] = []
    held_bytes = 0
    for file in files:
        size_bytes = max(1, file.found.size_bytes)
        if held and (held_bytes + size_bytes > _PIECE_BYTES or len(held) == _PIECE_FILES):
            pieces.append(Piece(len(pieces), tuple(held)))
            held, held_bytes = [], 0
        held.append(file)
        held_bytes += size_bytes
    return [*pieces, Piece(len(pieces), tuple(held))]


def digest_of(files: Sequence[InputFile]) -> str:
    """Hex SHA-256 of names, sizes and times of change: another one means another input."""
    digest = hashlib.sha256()
    for file in files:
        found = file.found
        record = [file.place.url, found.size_bytes, found.changed_ns, file.format, file.packing]
        digest.update(json.dumps(record).encode())
    return digest.hexdigest()


def _tell(place: Place, format_name: Format | None) -> tuple[Format, Packing]:
    stem, dot, suffix = place.name.lower().rpartition(".")
    packing = _PACKINGS.get(dot + suffix, "")
    if packing:
        _, dot, suffix = stem.rpartition(".")
    kind = format_name or _SUFFIXES.get(dot + suffix)
    if kind is None:
        known = ", ".join(_SUFFIXES)
        raise UsageError(
            f"the suffix of {place.url} tells no format (known: {known}, and .gz and .zst after "
            "them); name it with --format"
        )
    if kind == "parquet" and packing:
        raise UsageError(f"{place.url} is a compressed Parquet file, which cannot be read in parts")
    return kind, packing
