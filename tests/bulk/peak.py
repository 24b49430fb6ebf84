"""Reads an input as a job does, and prints by how many bytes its memory peaked above its start.

`python -m tests.bulk.peak FORMAT SMALL LARGE`: the small input is read first, so that what is
loaded at first use does not count.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from unitvec_bulk.job import find_layout
from unitvec_bulk.options import Columns
from unitvec_bulk.reading.chunks import ChunkLimits, read_piece
from unitvec_bulk.reading.pieces import InputFile, find_files, make_pieces
from unitvec_bulk.workers import pickled, to_block

LIMITS = ChunkLimits(65_536, 2**24)
"""The largest that a job has."""


def resident_bytes(name: str) -> int:
    """VmRSS, or VmHWM: its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


def read(files: Sequence[InputFile]) -> int:
    """Reads all rows, as blocks that travel to workers."""
    layout = find_layout(files, Columns())
    pieces = make_pieces(files)
    pickled(pieces)
    blocks = (to_block(chunk) for piece in pieces for chunk in read_piece(piece, layout, LIMITS))
    return sum(1 for block in blocks if block.nbytes)


def main() -> None:
    """Prints it."""
    kind, small, large = sys.argv[1:]
    read(find_files([small], format_name=kind))  # type: ignore[arg-type]
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before_bytes = resident_bytes("VmRSS")
    read(find_files([large], format_name=kind))  # type: ignore[arg-type]
    print(resident_bytes("VmHWM") - before_bytes)


if __name__ == "__main__":
    main()
