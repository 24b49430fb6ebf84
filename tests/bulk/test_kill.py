"""Jobs that are killed at any moment, again and again: what is there at the end is the same.

`UNITVEC_KILL_ROUNDS=20 pytest -m deep tests/bulk/test_kill.py` is the long form.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

pytestmark = [pytest.mark.deep, pytest.mark.timeout(1800)]

ROUNDS = int(os.environ.get("UNITVEC_KILL_ROUNDS", "1"))
LINES = 3000


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Lines of JSON, of which every 500th is none."""
    path = tmp_path / "corpus.jsonl"
    lines = [
        "{" if n % 500 == 499 else f'{{"id": {n}, "text": "text {n} {"word " * (n % 40)}"}}'
        for n in range(LINES)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@contextlib.contextmanager
def job(corpus: Path, output: Path, artifact: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "unitvec_bulk", str(corpus), "-o", str(output)]
    command += ["--id-column", "id", "--model", str(artifact), "--cpus", "2", "--shard-rows", "100"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def shards(output: Path) -> int:
    return len(list(output.glob("*.parquet")))


def descendants(pid: int) -> list[int]:
    """Processes below one, the nearest first."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            if parent == pid:
                child = int(path.parent.name)
                found += [child, *descendants(child)]
    return found


def kill_at_random(process: subprocess.Popen[str], output: Path, chance: random.Random) -> None:
    """Waits for some shards more, then kills the driver, or one of its workers and then it."""
    goal = shards(output) + chance.randint(1, 4)
    while process.poll() is None and shards(output) < goal:
        time.sleep(chance.uniform(0.01, 0.1))
    workers = [pid for pid in descendants(process.pid) if _is_worker(pid)]
    if workers and chance.random() < 0.5:
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(workers), signal.SIGKILL)
        goal = shards(output) + 2
        while process.poll() is None and shards(output) < goal:
            time.sleep(0.05)
    process.kill()


def _is_worker(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"ShardWorker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def wait_until_gone(pids: list[int]) -> None:
    """Waits for those that work. Two agents of Ray live on for a minute, and do nothing."""
    deadline_s = time.monotonic() + 300
    while living := [pid for pid in pids if _is_worker(pid)]:
        assert time.monotonic() < deadline_s, f"workers of a killed job live on: {living}"
        time.sleep(0.1)


def content(output: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    vectors = pl.read_parquet(f"{output}/*.parquet").sort("id")
    return vectors, pl.read_parquet(f"{output}/_errors/*.parquet").sort("row")


def test_nothing_is_lost_doubled_or_half_written(
    corpus: Path, fused_artifact: Path, tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with job(corpus, tmp_path / "calm", fused_artifact) as process:
        process.communicate(timeout=600)
    assert process.returncode == 1  # some rows failed, as they should
    wanted = content(tmp_path / "calm")
    assert (len(wanted[0]), len(wanted[1])) == (LINES - 6, 6)

    for number in range(ROUNDS):
        output = tmp_path / f"killed-{number}"
        for _ in range(2):
            with job(corpus, output, fused_artifact) as process:
                kill_at_random(process, output, chance)
                below = descendants(process.pid)
            wait_until_gone(below)
        with job(corpus, output, fused_artifact) as process:
            said = process.communicate(timeout=600)[1]
        assert process.returncode == 1, said
        for found, expected in zip(content(output), wanted, strict=True):
            assert found.select(expected.columns).equals(expected), f"round {number}, seed {seed}"
        assert not list((output / "_unitvec" / "tmp").iterdir())
    assert not list(Path("/tmp").glob(f"unitvec-ray-{process.pid}-*"))
