"""A worker as a real process: answers, sleep, failure, and nothing left behind."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.harness.adapter import Setup
from bench.harness.process import Command, Worker, WorkerFailed

ADAPTER = "bench.adapters.plain_onnxruntime:PlainOnnxruntime"


@pytest.fixture
def command(artifact: Path, tmp_path: Path) -> Callable[..., Command]:
    def build(adapter: str = ADAPTER) -> Command:
        setup = Setup(
            model_folder="",
            artifact=str(artifact),
            cache=str(tmp_path),
            threads=1,
            max_seq_length=64,
            dim=32,
            pooling="mean",
        )
        return Command(Path(sys.executable), adapter, setup, tmp_path / "worker.log")

    return build


def ask(worker: Worker, folder: Path, texts: list[str]) -> dict[str, object]:
    call = {"request_texts": 0, "concurrency": 1, "streamed": False}
    path = str(folder / "vectors.npy")
    return worker.ask(
        {"texts": texts, "call": call, "min_s": 0, "vectors_path": path}, timeout_s=60
    )


def states(group_id: int) -> set[str]:
    """Process states in a group, as in proc(5)."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group_id:
            found.add(fields[0])
    return found


def test_it_answers_with_vectors_and_sleeps_in_between(
    command: Callable[..., Command], tmp_path: Path
) -> None:
    worker = Worker(command())
    try:
        assert "onnxruntime" in worker.versions
        assert states(worker.process_id) == {"T"}
        answer = ask(worker, tmp_path, ["a cat", "two dogs and a bird"])
        assert states(worker.process_id) == {"T"}
        assert answer["passes"] == 1
        vectors = np.load(tmp_path / "vectors.npy")
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1], rtol=1e-5)
    finally:
        worker.close()
    assert not states(worker.process_id)


def test_what_it_cannot_load_is_told(command: Callable[..., Command]) -> None:
    with pytest.raises(WorkerFailed, match="no_such_adapter"):
        Worker(command("bench.no_such_adapter:Nothing"))


def test_a_worker_that_dies_is_noticed(command: Callable[..., Command], tmp_path: Path) -> None:
    worker = Worker(command())
    try:
        with pytest.raises(WorkerFailed, match="need at least one"):
            ask(worker, tmp_path, [])
    finally:
        worker.close()


def test_its_cpus_are_held_to_the_budget(command: Callable[..., Command]) -> None:
    worker = Worker(command())
    try:
        assert len(os.sched_getaffinity(worker.process_id)) == 1
    finally:
        worker.close()
