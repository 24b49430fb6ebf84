"""Memory of a job's processes over time, from Linux's /proc."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from bench.bulk.watch import Watch

_KIB, _MIB = 1024, 2**20
_KINDS = {b"ShardWorker": "worker", b"read_chunks": "reader"}
"""What Ray writes into the command line of a process while it works."""
_FEW = 8


@dataclasses.dataclass
class _Process:
    kind: str
    sizes_bytes: list[int] = dataclasses.field(default_factory=list)
    times_s: list[float] = dataclasses.field(default_factory=list)
    rows: list[int] = dataclasses.field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """Peak, and what the second half of its life gains or loses."""
        tenths = np.array_split(self.sizes_bytes, min(10, len(self.sizes_bytes)))
        return {
            "kind": self.kind,
            "peak_mib": round(max(self.sizes_bytes) / _MIB),
            "peak_mib_by_tenth": [round(int(part.max()) / _MIB) for part in tenths],
            "slope_mib_per_minute": self._slope(np.array(self.times_s) / 60),
            "slope_mib_per_million_rows": self._slope(np.array(self.rows) / 1e6),
        }

    def _slope(self, along: npt.NDArray[np.float64]) -> float | None:
        half = len(along) // 2
        along, sizes = along[half:], np.array(self.sizes_bytes[half:]) / _MIB
        if len(set(along)) < _FEW:
            return None
        return round(float(np.polyfit(along - along[0], sizes, 1)[0]), 2)


class MemoryWatch(Watch):
    """Looks at the workers, readers and this process until the context ends.

    Memory is what a process holds for itself: what lies in Ray's store, which all share, is left
    out. Shards are deleted as they come: those of ten million rows would take 15 GB.

    Args:
        output: Folder of the job.

    Attributes:
        rows: Vectors of those shards.
    """

    def __init__(self, output: Path) -> None:
        self.rows = 0
        self._output = output
        self._processes: dict[str, _Process] = {}
        super().__init__()

    def __exit__(self, *details: object) -> None:
        super().__exit__(*details)
        self._sweep()

    def report(self) -> list[dict[str, Any]]:
        """Peak and slope of each process, the largest first."""
        found = [process.report() for process in self._processes.values()]
        return sorted(found, key=lambda entry: -int(entry["peak_mib"]))

    def look(self) -> None:
        """Notes the size of each process, and takes away the shards that are whole."""
        for pid, kind in _found():
            size_bytes = _private_bytes(Path("/proc") / pid)
            if size_bytes:
                process = self._processes.setdefault(pid, _Process(kind))
                process.times_s.append(time.monotonic())
                process.sizes_bytes.append(size_bytes)
                process.rows.append(self.rows)
        self._sweep()

    def _sweep(self) -> None:
        for shard in self._output.glob("part-*.parquet"):
            self.rows += pq.read_metadata(shard).num_rows
            shard.unlink()


def _found() -> Iterator[tuple[str, str]]:
    yield "self", "driver"
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
            if os.getsid(int(path.parent.name)) != os.getsid(0):
                continue  # of another job
        except OSError:  # it ended meanwhile
            continue
        yield from ((path.parent.name, kind) for part, kind in _KINDS.items() if part in command)


def _private_bytes(folder: Path) -> int:
    """Resident memory without what is shared; 0 of a process that has ended."""
    try:
        lines = (folder / "status").read_text().splitlines()
    except OSError:
        return 0
    facts = dict(line.split(":", 1) for line in lines)
    if "VmRSS" not in facts:  # a zombie has none
        return 0
    return (int(facts["VmRSS"].split()[0]) - int(facts["RssShmem"].split()[0])) * _KIB
