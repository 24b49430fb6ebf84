"""How many CPUs this process may really use, by affinity and cgroup quota."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from unitvec_server.model import cgroups
from unitvec_server.model.cgroups import cgroup_folders, read_text


def usable_cpus(root: Path = cgroups.ROOT, own: Path = cgroups.OWN) -> int:
    """Number of CPUs by scheduler affinity, cut to the tightest cgroup quota; at least 1.

    Args:
        root: Where cgroups are mounted.
        own: This process's cgroups, as in proc(5).
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpus = [affinity or 1, *(math.ceil(quota) for quota in _quotas(root, own))]
    return max(1, min(cpus))


def _quotas(root: Path, own: Path) -> Iterator[float]:
    for folder in cgroup_folders("cpu", root, own):
        yield from _quota(folder)


def _quota(folder: Path) -> Iterator[float]:
    """v2 `cpu.max` holds "quota period" or "max period"; v1 has a file for each, -1 for none."""
    quota, _, period = read_text(folder / "cpu.max").partition(" ")
    if not quota:
        quota = read_text(folder / "cpu.cfs_quota_us")
        period = read_text(folder / "cpu.cfs_period_us")
    if quota.isdigit() and period.isdigit() and int(period):
        yield int(quota) / int(period)
