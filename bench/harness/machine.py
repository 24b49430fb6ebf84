"""What a run was taken on, and what holds for all its lines."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.harness.process import ROOT
from bench.results import Run
from unitvec_server.model.artifact import load_artifact
from unitvec_server.model.cpus import usable_cpus

# Instruction sets that decide how fast which number type is.
_FLAGS = (
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
)


def describe_run(artifact: Path, *, threads: int, settings: Mapping[str, Any]) -> Run:
    """What holds for all lines of a run that begins now.

    Args:
        artifact: What is measured.
        threads: CPUs that each contender, or the server and its load, is held to.
        settings: Flags of the run.
    """
    return Run(
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit(ROOT),
        machine=describe(),
        threads=threads,
        model_id=load_artifact(artifact).manifest.model_id,
        settings=dict(settings),
    )


def describe(cpuinfo_path: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """Processor, its relevant instruction sets, CPUs, memory and system."""
    cpuinfo = cpuinfo_path.read_text(encoding="utf-8")
    flags = set(_field(cpuinfo, "flags|Features").split())
    return {
        "cpu": _field(cpuinfo, "model name") or platform.machine(),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "cpus": os.cpu_count(),
        "usable_cpus": usable_cpus(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "load_average": os.getloadavg()[0],
    }


def commit(folder: Path) -> str:
    """Commit of the working tree, with ``-dirty`` if it was changed; ``unknown`` outside git."""
    described = _git(folder, "rev-parse", "--short=7", "HEAD")
    if not described:
        return "unknown"
    return described + ("-dirty" if _git(folder, "status", "--porcelain") else "")


def _field(cpuinfo: str, name: str) -> str:
    match = re.search(rf"^(?:{name})\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    return match[1] if match else ""


def _git(folder: Path, *args: str) -> str:
    try:
        return subprocess.run(
            ["git", *args], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
