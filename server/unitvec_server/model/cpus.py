"""The CPUs: how many this process may really use, by affinity and cgroup quota, and their kind."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_CPU_INFO = Path("/proc/cpuinfo")


def usable_cpus(root: Path = _CGROUP_ROOT, own: Path = _OWN_CGROUPS) -> int:
    """Number of CPUs by scheduler affinity, cut to the tightest cgroup quota; at least 1.

    Args:
        root: Where cgroups are mounted.
        own: This process's cgroups, as in proc(5).
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpus = [affinity or 1, *(math.ceil(quota) for quota in _quotas(root, own))]
    return max(1, min(cpus))


def cpu_flags(info: Path = _CPU_INFO) -> frozenset[str]:
    """What the CPU can do, such as ``amx_bf16``; nothing where the system does not say.

    Args:
        info: Description of the CPUs, as in proc(5).
    """
    for line in _read(info).splitlines():
        name, _, words = line.partition(":")
        if name.strip() == "flags":
            return frozenset(words.split())
    return frozenset()


def _quotas(root: Path, own: Path) -> Iterator[float]:
    """CPU quotas of the process's cgroup and all above it (cgroup v2 and v1)."""
    for line in _read(own).splitlines() or ["0::/"]:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # The mount point of v1 may name its controllers in another order; `cpu` links to it.
        for hierarchy in (root / controllers, root / "cpu") if controllers else (root,):
            group = hierarchy / path.lstrip("/")
            for folder in (group, *group.parents):
                if folder.is_relative_to(hierarchy):
                    yield from _quota(folder)


def _quota(folder: Path) -> Iterator[float]:
    """v2 `cpu.max` holds "quota period" or "max period"; v1 has a file for each, -1 for none."""
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    if not quota:
        quota = _read(folder / "cpu.cfs_quota_us")
        period = _read(folder / "cpu.cfs_period_us")
    if quota.isdigit() and period.isdigit() and int(period):
        yield int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
