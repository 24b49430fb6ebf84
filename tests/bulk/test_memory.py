"""Readers hold a bounded part of the input, whatever its rows, row groups and files are like."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.deep

MIB = 2**20


def large_row_group(path: Path) -> None:
    """One row group of 100 MiB."""
    texts = pa.array([f"{n} " * (1024 // len(f"{n} ")) for n in range(102_400)])
    pq.write_table(pa.table({"text": texts}), path, row_group_size=len(texts))


def large_values(path: Path) -> None:
    """One row group with 20 texts of 10 MiB, each a page: what is in one page is read at once."""
    texts = pa.array([f"{n}" * (10 * MIB // len(f"{n}")) for n in range(20)], pa.large_string())
    pq.write_table(pa.table({"text": texts}), path, use_dictionary=False, write_batch_size=1)


def large_lines(path: Path) -> None:
    """10 lines of 10 MiB."""
    with path.open("w") as file:
        for n in range(10):
            file.write(f"{n}" * (10 * MIB // len(f"{n}")) + "\n")


def endless_line(path: Path) -> None:
    """One line of 150 MiB, of which no text is made."""
    with path.open("w") as file:
        for _ in range(150):
            file.write("x" * MIB)


def tiny_files(folder: Path) -> None:
    """4,000 files of one byte."""
    folder.mkdir()
    for number in range(4_000):
        (folder / f"{number}.txt").write_text("x")


@pytest.mark.parametrize(
    ("kind", "write", "most_mib"),
    [
        ("parquet", large_row_group, 160),
        ("parquet", large_values, 160),
        ("text", large_lines, 160),
        ("text", endless_line, 224),
        ("file", tiny_files, 16),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_readers_hold_a_part_of_the_input(
    tmp_path: Path, kind: str, write: Callable[[Path], None], most_mib: int
) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    if kind == "parquet":
        pq.write_table(pa.table({"text": ["a"]}), small)
    else:
        small.write_text("a\n")
    write(large)
    command = [sys.executable, "-m", "tests.bulk.peak", kind, str(small), str(large)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    print(f"{int(done.stdout) / MIB:.0f} MiB")
    assert int(done.stdout) < most_mib * MIB
