"""What the commands share: where results go, how they are named, and what is said meanwhile."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from bench.harness.machine import commit
from bench.harness.process import ROOT

RESULTS = ROOT / "bench" / "results"


def file_stem() -> str:
    """Name of a file of results: when and of which commit."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}-{commit(ROOT)}"


def say(line: str) -> None:
    """Prints a line with the time, apart from the report."""
    print(f"{datetime.now(UTC):%H:%M:%S} {line}", file=sys.stderr, flush=True)
