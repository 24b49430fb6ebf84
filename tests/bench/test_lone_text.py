"""The count of what one text passes: run as people run it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.deep
def test_counts_the_frames_of_one_text(prompted_artifact: Path) -> None:
    command = [sys.executable, "-m", "bench.lone_text", str(prompted_artifact), "--path"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    counts = re.findall(
        r"^(\w+): (\d+) frames, (\d+) modules, (\d+) hops$", done.stdout, re.MULTILINE
    )
    assert [package for package, *_ in counts] == ["unitvec_server", "unitvec_client"]
    for _, *numbers in counts:
        frames, modules, hops = map(int, numbers)
        assert frames > hops >= modules > 5
    # Of ten calls, each function of the path is entered ten times, and in this order.
    names = [line.strip() for line in done.stdout.splitlines()]
    first = [
        names.index(f"unitvec_server.{name}")
        for name in (
            "rpc.servicer EmbeddingServicer.Embed",
            "engine.engine Engine.embed",
            "engine.scheduler Scheduler.encode",
            "policy.batching Batcher.add",
        )
    ]
    assert first == sorted(first)
    assert {names.count(names[index]) for index in first} == {10}
    assert names.count("unitvec_server.policy.batching Batcher.next_batch") == 10
