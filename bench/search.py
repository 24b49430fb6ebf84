"""Exact search over files of vectors, its speed and its memory: `python -m bench search`.

A child searches each file, so that its peak of resident memory is that of the search alone. CPU
time and time are those of the search, and memory is what it adds to that of Python with numpy. The
files are random unit vectors, written block by block, and removed. float16 and int8 are searched
with NumKong, if it is installed, and by numpy alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.process import ROOT
from unitvec_client.stored import estimates
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


def search_file(path: Path, *, dim: int, queries: int, by_numpy: bool) -> dict[str, float]:
    """Searches a file in this process."""
    if by_numpy:
        vars(estimates)["_find_cosines"] = lambda: None
    given = np.random.default_rng(8).standard_normal((queries, dim), np.float32)
    before_mib = _peak_mib()
    before_s = time.process_time()
    started_s = time.perf_counter()
    StoredSearch(open_rows(path), _TOP_K).run(given)
    took_s = time.perf_counter() - started_s
    cpu_s = time.process_time() - before_s
    return {"cpu_s": cpu_s, "took_s": took_s, "more_mib": _peak_mib() - before_mib}


def _peak_mib() -> float:
    """Peak of this program; `ru_maxrss` would be that of the one that started it, if larger."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def add_search_command(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("search", help="exact search over files of vectors")
    add = parser.add_argument
    add("--rows", type=int, default=1_000_000, help="(default %(default)s)")
    add("--dim", type=int, default=384, help="(default %(default)s)")
    add("--queries", type=int, default=1, help="asked together (default %(default)s)")
    add("--kinds", nargs="+", choices=KINDS, default=KINDS, help="types of values (default: all)")
    add("--folder", type=Path, help="where files are made and removed")
    add("--file", type=Path, help=argparse.SUPPRESS)
    add("--by-numpy", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(command=_search)


def _search(args: argparse.Namespace) -> None:
    how = {"dim": args.dim, "queries": args.queries}
    if args.file:
        print(json.dumps(search_file(args.file, **how, by_numpy=args.by_numpy)))
        return
    print(f"\n{args.rows:,} rows, {args.dim} dimensions, {args.queries} queries together\n")
    print("| values | file, MiB | by | CPU s | s | memory, MiB |\n|---|---|---|---|---|---|")
    for kind in args.kinds:
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            path = Path(name) / "vectors.npy"
            make_file(path, rows=args.rows, dim=args.dim, kind=kind)
            size_mib = path.stat().st_size / _MIB
            for flags in ((), ("--by-numpy",)) if kind in ("float16", "int8") else ((),):
                found = _search_apart(path, *flags, **how)
                by = "NumKong" if kind in ("float16", "int8") and not flags else "numpy"
                figures = (f"{found['cpu_s']:.2f}", f"{found['took_s']:.2f}")
                row = (kind, f"{size_mib:,.0f}", by, *figures, f"{found['more_mib']:.0f}")
                print(f"| {' | '.join(row)} |", flush=True)


def _search_apart(path: Path, *flags: str, dim: int, queries: int) -> dict[str, float]:
    """Searches a file in a process of its own, whose memory is of that search alone."""
    given = ("--file", str(path), "--dim", str(dim), "--queries", str(queries), *flags)
    command = (sys.executable, "-m", "bench", "search", *given)
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found
