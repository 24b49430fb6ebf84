"""How many CPUs this process may really use, by affinity and cgroup quota, and what they can do."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from unitvec_server.model import cgroups
from unitvec_server.model.cgroups import cgroup_folders, read_text

CPUINFO = Path("/proc/cpuinfo")

_X86 = (
    "sse4_1 avx avx2 fma avx512f avx512bw avx512_vnni avx_vnni avx512_bf16 avx512_fp16 amx_tile "
    "amx_int8 amx_bf16"
)
_ARM = "asimd asimdhp asimddp i8mm bf16 sve sve2"
_FEATURES = frozenset(f"{_X86} {_ARM}".split())
"""Instruction sets by which onnxruntime chooses its code, as Linux names them."""
_THREADS = Path("/proc/self/task")
_INT8_DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "asimddp", "i8mm"})


def cpu_features(cpuinfo: Path = CPUINFO) -> tuple[str, ...]:
    """Instruction sets of the CPU that change how plain graphs are computed, sorted.

    Args:
        cpuinfo: As in proc(5). Where there is none, as on other systems than Linux, none are known.
    """
    names: set[str] = set()
    for line in read_text(cpuinfo).splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            names.update(value.split())
    return tuple(sorted(names & _FEATURES))


def lacks_int8(features: tuple[str, ...], machine: str = platform.machine()) -> bool:
    """Whether plain int8 graphs lose precision here: x86 CPUs without VNNI, as sums saturate."""
    is_x86 = machine.lower() in ("x86_64", "amd64")
    return is_x86 and bool(features) and not _INT8_DOT_PRODUCTS.intersection(features)


def waited_s(thread_id: int) -> float:
    """Time that a thread of this process has waited for a CPU while it could have run.

    Args:
        thread_id: Its native id.

    Returns:
        Seconds since it began: the second number of its ``schedstat``; 0 where the system does not
        tell.
    """
    fields = read_text(_THREADS / str(thread_id) / "schedstat").split()
    return int(fields[1]) / 1e9 if len(fields) > 1 else 0.0


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
