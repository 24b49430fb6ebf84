"""`unitvec embed` killed by SIGKILL over a real server, and the memory that it takes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpora import load_words
from tests.client.embed_runs import WAIT_S, counted, environment, part_of, start, wait
from tests.serving import Server, serving
from unitvec_client import Client

REMEMBERS = ("--cache-bytes", str(2**26))
"""Then what a server answers twice is the same to the last bit."""


@pytest.fixture(scope="module")
def tiny(artifact: Path) -> Iterator[Server]:
    """A small model: the kills are what takes time."""
    with serving("--model", str(artifact), *REMEMBERS) as server:
        yield server


@pytest.fixture
def real(minilm_artifact: Path) -> Iterator[Server]:
    """A model whose rows are long."""
    with serving("--model", str(minilm_artifact), *REMEMBERS) as server:
        yield server


def kill_after(target: str, lines: list[str], output: Path, rows: int) -> None:
    """Kills an `embed` once more than `rows` count, at a time when it cannot be done.

    Its input is a pipe that stays open, so it waits for more.
    """
    pipe = output.with_suffix(".pipe")
    os.mkfifo(pipe)
    process = start(target, "-i", pipe, "--field", "text", "-o", output)
    try:
        with pipe.open("w") as file:
            writer = threading.Thread(target=feed, args=(file, lines))
            writer.start()
            deadline_s = time.monotonic() + WAIT_S
            while counted(output) <= rows:
                with suppress(subprocess.TimeoutExpired):
                    assert process.wait(0.02) is None, "it ended by itself"
                assert time.monotonic() < deadline_s
            process.kill()
            assert wait(process)[0] == -signal.SIGKILL
            writer.join()
    finally:
        process.kill()
        pipe.unlink()


def feed(file: Any, lines: list[str]) -> None:
    try:
        file.writelines(lines)
        file.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())  # For what is left to flush.


@pytest.mark.parametrize("kind", ["npy", "jsonl", "parquet"])
def test_killed_twice_it_ends_as_if_never_killed(tiny: Server, tmp_path: Path, kind: str) -> None:
    lines = [json.dumps({"text": word}) + "\n" for word in load_words(3600)]
    source = tmp_path / "big.jsonl"
    source.write_text("".join(lines))
    whole, output = tmp_path / f"whole.{kind}", tmp_path / f"out.{kind}"
    code, said = wait(start(tiny.target, "-i", source, "-o", whole))
    assert (code, "3,600 rows of 32 float32 values" in said, said.count("\n")) == (0, True, 1)
    if kind == "npy":
        with Client(tiny.target) as client:
            np.testing.assert_array_equal(np.load(whole), client.embed(load_words(3600)))
    kill_after(tiny.target, lines[:1700], output, 0)
    first = counted(output)
    kill_after(tiny.target, lines[:3400], output, first)
    assert 0 < first < counted(output) < len(lines)
    assert not output.exists()
    code, said = wait(start(tiny.target, "-i", source, "-o", output))
    assert (code, "texts were done before; going on" in said) == (0, True)
    assert output.read_bytes() == whole.read_bytes()
    assert not part_of(output).exists()


def test_memory_does_not_grow_with_the_input(real: Server, tmp_path: Path) -> None:
    """20,000 rows are 30 MB; a run of them takes hardly more memory than one of 2,000."""
    words = load_words(400)

    def peak_bytes(times: int) -> int:
        source = tmp_path / f"{times}.txt"
        source.write_text("\n".join(words * times))
        program = (
            "import resource, sys; from unitvec_client.cli.main import main\n"
            "assert main(sys.argv[1:]) == 0\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
        )
        output = tmp_path / f"{times}.npy"
        arguments = ["embed", "--target", real.target, "-i", str(source), "-o", str(output)]
        command = [sys.executable, "-c", program, *arguments]
        said = subprocess.run(command, capture_output=True, check=True, env=environment())
        assert np.load(output, mmap_mode="r").shape == (400 * times, 384)
        return int(said.stdout)

    assert peak_bytes(50) - peak_bytes(5) < 12 * 2**20
