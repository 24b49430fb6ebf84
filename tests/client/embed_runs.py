"""`unitvec embed` as a process of its own, and what it leaves beside its output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

WAIT_S = 120


def start(target: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "unitvec_client.cli.main", "embed", "--target", target]
    return subprocess.Popen(
        [*command, *map(str, arguments)], stderr=subprocess.PIPE, text=True, env=environment()
    )


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("UNITVEC_")}


def wait(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=WAIT_S)
    return process.returncode, said


def counted(output: Path) -> int:
    """The rows that the journal beside `output` counts."""
    try:
        return int(json.loads((part_of(output) / "journal.json").read_text())["rows"])
    except FileNotFoundError:
        return 0


def part_of(output: Path) -> Path:
    return output.with_name(output.name + ".part")
