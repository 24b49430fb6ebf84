"""Processor time and memory of a process group, from Linux's /proc."""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

_PROC = Path("/proc")
_OF_PROCESS = 2  # in the low bits of a clock's number: that of a process, in nanoseconds
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_IDLE_FIELDS = (3, 4)  # idle and iowait of the `cpu` line in proc(5)
_GUEST_FIELDS = 8  # guest time, from here on, is part of user time already


@dataclasses.dataclass(frozen=True)
class CpuTime:
    """Processor seconds so far.

    Attributes:
        group_s: Of this process's group.
        system_s: Of the whole machine, all processes and the kernel.
    """

    group_s: float
    system_s: float

    @classmethod
    def now(cls) -> Self:
        """Reads both."""
        group_s = sum(_cpu_ticks(folder) for folder in _group(os.getpgid(0))) / _TICKS_PER_S
        return cls(group_s, busy_ticks((_PROC / "stat").read_text()) / _TICKS_PER_S)

    def since(self, earlier: CpuTime) -> CpuTime:
        """Difference to an earlier reading."""
        return CpuTime(self.group_s - earlier.group_s, self.system_s - earlier.system_s)


def processor_s(pid: int) -> float:
    """Processor seconds of all threads of a process so far.

    The clock is that of clock_getcpuclockid(3), which Python lacks. The times in /proc count in
    ticks of 10 ms: a short measurement between two of them would have taken no time at all.
    """
    return time.clock_gettime(~pid << 3 | _OF_PROCESS)


def peak_rss_bytes() -> int:
    """Largest resident sets of the processes in this process's group, summed."""
    return sum(_peak_kib(folder) for folder in _group(os.getpgid(0))) * 1024


def processor_s_by_command(command: bytes) -> float:
    """Processor seconds so far of all processes whose command line holds this."""
    folders = [path.parent for path in _PROC.glob("[0-9]*/cmdline") if command in _read(path)]
    return sum(map(_cpu_ticks, folders)) / _TICKS_PER_S


def busy_ticks(stat: str) -> int:
    """Clock ticks that all CPUs were not idle, from the text of /proc/stat."""
    values = [int(word) for word in stat.partition("\n")[0].split()[1:]]
    return sum(values[:_GUEST_FIELDS]) - sum(values[index] for index in _IDLE_FIELDS)


def _group(group_id: int) -> Iterator[Path]:
    for folder in _PROC.glob("[0-9]*"):
        fields = _fields(folder)
        if len(fields) > 2 and int(fields[2]) == group_id:
            yield folder


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended meanwhile
        return b""


def _fields(folder: Path) -> list[str]:
    """Fields of `stat` from the third on: the command before them may hold anything."""
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:  # it ended meanwhile
        return []


def _cpu_ticks(folder: Path) -> int:
    fields = _fields(folder)
    return int(fields[11]) + int(fields[12]) if fields else 0


def _peak_kib(folder: Path) -> int:
    try:
        match = re.search(r"VmHWM:\s+(\d+) kB", (folder / "status").read_text())
    except OSError:
        return 0
    return int(match[1]) if match else 0
