"""A job on a cluster of Ray that is there already."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

pytestmark = pytest.mark.deep

ROWS = 300
_TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""What Ray starts with by itself where an earlier start left a token in the home directory."""
_START = ["start", "--head", "--block", "--node-ip-address", "127.0.0.1", "--port", "0"]
_START += ["--num-cpus", "2", "--include-dashboard=false", "--disable-usage-stats"]


@pytest.fixture
def address() -> Iterator[str]:
    """Address of a head node in processes of its own; paths of its sockets must be short."""
    ray = Path(sys.executable).with_name("ray")
    with (
        tempfile.TemporaryDirectory(prefix="ray-") as folder,
        subprocess.Popen(
            [str(ray), *_START, "--temp-dir", folder],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | _TOKEN,
        ) as head,
    ):
        assert head.stdout is not None
        try:
            told = (re.search(r"--address='([\d.:]+)'", line) for line in head.stdout)
            yield next(found[1] for found in told if found)
        finally:
            head.terminate()
            head.communicate()


def test_a_job_runs_on_a_cluster(address: str, fused_artifact: Path, tmp_path: Path) -> None:
    lines = (json.dumps({"id": n, "text": f"text {n}"}) for n in range(ROWS))
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    command = [sys.executable, "-m", "unitvec_bulk", str(tmp_path / "corpus.jsonl")]
    command += ["-o", str(tmp_path / "out"), "--model", str(fused_artifact), "--json"]
    command += ["--id-column", "id", "--address", address]
    done = _run(command, os.environ | _TOKEN)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["workers"] == 2
    rows = pl.read_parquet(f"{tmp_path}/out/*.parquet")
    assert sorted(map(int, rows["id"])) == list(range(ROWS))
    refused = _run(command, {**os.environ, "RAY_AUTH_MODE": "disabled"})
    assert refused.returncode == 3
    assert "RAY_AUTH_MODE=token" in refused.stderr


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
