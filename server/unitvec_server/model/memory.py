"""Memory: what a run of a model adds, and whether all runs side by side fit into this machine.

A run is measured before the first caller, by the peak of the process, which Linux keeps and lets
a process set back. Runs of long texts take seconds, so texts over `MEASURED_TOKENS` are not run:
memory grows with the length, or with its square where an old graph holds all scores of attention
at once. Three measured lengths tell which: they lie on a line, but for the gaps of allocators, or
on a parabola.

Weights that lie in a file of their own are mapped: the process holds as much of them as was read
so far. What was not read yet is added to what it will hold, and what a run reads is no part of
what every further run takes.
"""

from __future__ import annotations

import ctypes
import dataclasses
import re
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from unitvec_server.errors import ConfigError
from unitvec_server.model import cgroups
from unitvec_server.model.cgroups import cgroup_folders, read_text

_T = TypeVar("_T")

MEASURED_TOKENS = 2048
"""Longest text that is run to measure."""

_MARGIN = 1.5
"""Allocators round up and leave gaps: runs side by side, in any order of lengths, took up to 1.33
times the sum of single ones."""

_GAPS_BYTES = 16 * 2**20
"""How far the longest may lie above the line through the shorter two: up to 12 MiB were seen where
growth was even. Even three heads of square attention in float32 are 36 MiB above it."""

_MIB = 2**20
_STATUS = Path("/proc/self/status")
_MEMORY_INFO = Path("/proc/meminfo")
_PEAK_RESET = Path("/proc/self/clear_refs")
_MAPPINGS = Path("/proc/self/smaps")
_MAPPING = re.compile(
    r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ +(/.*)\nSize: +(\d+) kB\n(?:.*\n)*?Rss: +(\d+) kB$",
    re.MULTILINE,
)
"""Path, size and resident size of a mapping of a file, as proc(5) lists them."""


def run_bytes(
    encode: Callable[[int], object], *, max_seq_length: int, mapped: Collection[Path] = ()
) -> int:
    """Most memory that one run adds; 0 where the system does not tell.

    To be called before any other run: an arena that has grown hides what a run takes of it.

    Args:
        encode: Runs texts of so many tokens.
        max_seq_length: Longest text in tokens.
        mapped: Files with weights of the graph, which are shared by all runs.
    """
    longest = min(max_seq_length, MEASURED_TOKENS)
    # A curve is needed only where longer texts than these are to be foreseen.
    parts = (4, 2, 1) if max_seq_length > longest else (1,)
    lengths = [longest // part for part in parts]
    before_bytes = status_bytes("VmRSS") - read_bytes(mapped)
    grown = [_peak_bytes(encode, length) - read_bytes(mapped) - before_bytes for length in lengths]
    return int(_MARGIN * extrapolate(lengths, grown, to=max_seq_length))


def extrapolate(lengths: list[int], grown_bytes: list[int], *, to: int) -> float:
    """Growth at a length, by a line or a parabola through what was measured; never less than that.

    Args:
        lengths: Up to three lengths in tokens, ascending.
        grown_bytes: Growth at each.
        to: A length in tokens.
    """
    most = float(max(0, *grown_bytes))
    if to <= lengths[-1]:
        return most
    line = max(most * to / lengths[-1], _curve(lengths[-2:], grown_bytes[-2:], to))
    even_bytes = _curve(lengths[:-1], grown_bytes[:-1], lengths[-1])
    if grown_bytes[-1] <= even_bytes + _GAPS_BYTES:
        return line
    return max(line, _curve(lengths, grown_bytes, to))


def _curve(lengths: list[int], grown_bytes: list[int], to: int) -> float:
    """The polynomial through points, at a length."""
    curve = np.polynomial.Polynomial.fit(lengths, grown_bytes, deg=len(lengths) - 1)
    return float(curve(to))


def _peak_bytes(encode: Callable[[int], object], length: int) -> int:
    if not _reset_peak():
        return 0
    encode(length)
    return status_bytes("VmHWM")


def _reset_peak() -> bool:
    try:
        _PEAK_RESET.write_text("5", encoding="ascii")  # sets VmHWM back, see proc(5)
    except OSError:
        return False
    return True


def measure_growth(work: Callable[[], _T]) -> tuple[_T, int]:
    """Does work: its result, and the most memory that the process grew by meanwhile, in bytes.

    What other threads take counts as well. It is 0 where the system does not tell.
    """
    before_bytes, is_known = status_bytes("VmRSS"), _reset_peak()
    result = work()
    return result, max(0, status_bytes("VmHWM") - before_bytes) if is_known else 0


def status_bytes(name: str) -> int:
    """A size of this process, as proc(5) names it, such as ``VmRSS``; 0 where it is not known."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", read_text(_STATUS), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def read_bytes(paths: Collection[Path]) -> int:
    """Bytes of mapped files that this process holds in memory."""
    return sum(resident for _, resident in _mappings(paths))


def unread_bytes(paths: Collection[Path]) -> int:
    """Bytes of mapped files that this process does not hold yet, and will when they are read."""
    return sum(size - resident for size, resident in _mappings(paths))


def _mappings(paths: Collection[Path]) -> Iterator[tuple[int, int]]:
    """Size of each mapping of some files, and how much of it is held, in bytes."""
    if not paths:
        return  # to list all mappings takes milliseconds
    names = {str(path.resolve()) for path in paths}
    for name, size, resident in _MAPPING.findall(read_text(_MAPPINGS)):
        if name in names:
            yield int(size) * 1024, int(resident) * 1024


def trim_heap() -> None:
    """Gives memory that was freed back to the system, where the allocator can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def room_bytes(root: Path = cgroups.ROOT, own: Path = cgroups.OWN) -> int | None:
    """How much more this process may hold; None where nothing bounds it.

    The least of what the machine has free, what each cgroup allows and what the limits of the
    process (``ulimit -v``, ``ulimit -d``) leave.
    """
    rooms = [*_machine_rooms(), *_cgroup_rooms(root, own), *_limit_rooms()]
    return max(0, min(rooms)) if rooms else None


def _machine_rooms() -> Iterator[int]:
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", read_text(_MEMORY_INFO), re.MULTILINE)
    if found:
        yield int(found[1]) * 1024


def _cgroup_rooms(root: Path, own: Path) -> Iterator[int]:
    """v2 `memory.max` holds bytes or "max"; v1 has a huge number for none."""
    for folder in cgroup_folders("memory", root, own):
        for name in ("memory.max", "memory.limit_in_bytes"):
            if (limit := read_text(folder / name)).isdigit():
                yield int(limit) - status_bytes("VmRSS")


def _limit_rooms() -> Iterator[int]:
    if sys.platform == "win32":
        return
    import resource

    for limit, size in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY:
            yield soft - status_bytes(size)


@dataclasses.dataclass(frozen=True)
class Footprint:
    """The memory of one model, as measured.

    Attributes:
        graph_bytes: Size of the file of its graph.
        load_bytes: Most that the process grew by while it was loaded.
        run_bytes: Most that one run adds.
    """

    graph_bytes: int = 0
    load_bytes: int = 0
    run_bytes: int = 0

    def __add__(self, other: Footprint) -> Footprint:
        """That of two models together."""
        return Footprint(
            self.graph_bytes + other.graph_bytes,
            self.load_bytes + other.load_bytes,
            self.run_bytes + other.run_bytes,
        )

    def scaled(self, graph_bytes: int) -> Footprint:
        """The footprint to be expected of a like model with a graph of another size."""
        ratio = graph_bytes / self.graph_bytes if self.graph_bytes else 1.0
        load_bytes = max(graph_bytes, int(ratio * self.load_bytes))
        return Footprint(graph_bytes, load_bytes, int(ratio * self.run_bytes))

    def at_least(self, other: Footprint) -> Footprint:
        """This one, and where another of the same graph is larger that."""
        load_bytes = max(self.load_bytes, other.load_bytes)
        return Footprint(self.graph_bytes, load_bytes, max(self.run_bytes, other.run_bytes))


NO_FOOTPRINT = Footprint()
"""That of a model that was not measured."""


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """What a server with warm models holds.

    Attributes:
        now_bytes: Resident memory before the first caller.
        workers: Runs side by side that fit.
        runs_bytes: Most that those runs add.
        unread_bytes: Mapped weights that come into memory when they are first read.
    """

    now_bytes: int
    workers: int
    runs_bytes: int
    unread_bytes: int = 0

    @property
    def most_bytes(self) -> int:
        """Most that the models and their runs hold."""
        return self.now_bytes + self.unread_bytes + self.runs_bytes


def plan_runs(
    per_run_bytes: int, *, workers: int, room: int | None, mapped: Collection[Path] = ()
) -> MemoryPlan:
    """How many runs of the longest texts fit side by side.

    Mapped weights take no room from them: the system drops what it can read again.

    Args:
        per_run_bytes: Most that one run adds.
        workers: Runs side by side that are wanted.
        room: Bytes that the process may still take; None if nothing bounds it.
        mapped: Files with weights of the graphs.

    Raises:
        ConfigError: Not even one fits.
    """
    fitting = workers
    if room is not None and per_run_bytes:
        fitting = min(workers, room // per_run_bytes)
    if not fitting:
        raise ConfigError(
            f"one run of the longest text takes up to {per_run_bytes / _MIB:.0f} MiB and "
            f"{(room or 0) / _MIB:.0f} MiB are left here: give the process more memory, or export "
            "the model again where its attention is not yet in blocks"
        )
    runs_bytes = fitting * per_run_bytes
    return MemoryPlan(status_bytes("VmRSS"), fitting, runs_bytes, unread_bytes(mapped))
