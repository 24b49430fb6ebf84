"""`python -m bench.stored`: exact search over files of vectors, its speed and its memory.

A child searches each file, so that its peak of resident memory is that of the search alone. CPU
time and time are those of the search, without the start of Python. The files are random unit
vectors.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from unitvec_client.stored.files import open_rows
from unitvec_client.stored.search import StoredSearch

KINDS = ("float32", "float16", "int8", "binary")
_BLOCK_ROWS = 50_000
_TOP_K = 10
_MIB = 2**20


def make_file(path: Path, *, rows: int, dim: int, kind: str) -> None:
    """Writes random unit vectors, block by block."""
    generator = np.random.default_rng(7)
    width = dim // 8 if kind == "binary" else dim
    dtype = np.dtype("uint8" if kind == "binary" else kind)
    header = {"descr": dtype.str, "fortran_order": False, "shape": (rows, width)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, rows, _BLOCK_ROWS):
            values = generator.standard_normal((min(_BLOCK_ROWS, rows - start), dim), np.float32)
            values /= np.linalg.norm(values, axis=1, keepdims=True)
            if kind == "binary":
                file.write(np.packbits(values > 0, axis=1).tobytes())
            elif kind == "int8":
                file.write(np.rint(values * 127 / np.abs(values).max()).astype(np.int8).tobytes())
            else:
                file.write(values.astype(dtype).tobytes())


def search_file(path: Path, *, dim: int, queries: int) -> dict[str, float]:
    """Searches a file in this process."""
    given = np.random.default_rng(8).standard_normal((queries, dim), np.float32)
    before_mib = _peak_mib()
    before = resource.getrusage(resource.RUSAGE_SELF)
    started_s = time.perf_counter()
    StoredSearch(open_rows(path), _TOP_K).run(given)
    took_s = time.perf_counter() - started_s
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "took_s": took_s,
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_mib": _peak_mib(),
        "before_mib": before_mib,
    }


def _peak_mib() -> float:
    """Peak of this program; `ru_maxrss` would be that of the one that started it, if larger."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main(argv: list[str] | None = None) -> int:
    """Prints a line for each type of values."""
    parser = argparse.ArgumentParser(prog="python -m bench.stored", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--queries", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--folder", type=Path, help="where files are made and removed")
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    if asked.file:
        found = search_file(asked.file, dim=asked.dim, queries=asked.queries)
        print(json.dumps(found))
        return 0
    for kind in asked.kinds:
        with tempfile.TemporaryDirectory(dir=asked.folder) as name:
            path = Path(name) / "vectors.npy"
            make_file(path, rows=asked.rows, dim=asked.dim, kind=kind)
            options = ["--file", path, "--dim", asked.dim, "--queries", asked.queries]
            command = [sys.executable, "-m", "bench.stored", *map(str, options)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            size_mib = path.stat().st_size / _MIB
            print(f"{kind}: {asked.rows:,} rows, {size_mib:,.0f} MiB: {done.stdout.strip()}")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
