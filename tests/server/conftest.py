"""A tiny real model (embedding lookup, masked mean, L2 norm) and schedulers over fakes."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.server.encoders import Held, Sums
from unitvec_server.engine.scheduler import Scheduler
from unitvec_server.policy.batching import BatchLimits

VOCABULARY, DIM = 50, 6


@pytest.fixture(scope="session")
def table() -> np.ndarray:
    """The embedding table of the tiny graph: (VOCABULARY, DIM) float32."""
    return np.random.default_rng(0).normal(size=(VOCABULARY, DIM)).astype(np.float32)


@pytest.fixture
def graph_path(tmp_path: Path, table: np.ndarray) -> Path:
    """The tiny graph as a file."""
    path = tmp_path / "model.fp32.onnx"
    onnx.save(tiny_graph(table), path)
    return path


def tiny_graph(table: np.ndarray) -> onnx.ModelProto:
    """input_ids, attention_mask (B, S) int64 -> embeddings (B, D) float32."""
    constants = {
        "table": table,
        "sequence": np.array([1], np.int64),
        "last": np.array([2], np.int64),
        "least": np.array(1e-9, np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["tokens"], axis=0),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["weights"]),
        helper.make_node("Mul", ["tokens", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "sequence"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["weights", "sequence"], ["counted"], keepdims=0),
        helper.make_node("Max", ["counted", "least"], ["count"]),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("LpNormalization", ["mean"], ["embeddings"], axis=-1, p=2),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence_length"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["batch", DIM])]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., Scheduler]]:
    """Starts schedulers, and stops them at the end."""
    schedulers: list[Scheduler] = []

    def start(
        *encoders: Sums,
        workers: int = 1,
        max_batch_tokens: int = 64,
        cache_bytes: int = 0,
        clock_s: object = None,
    ) -> Scheduler:
        names = [f"m{index}" for index in range(len(encoders))]
        scheduler = Scheduler(
            dict(zip(names, encoders, strict=True)),
            limits={name: BatchLimits(max_batch_tokens) for name in names},
            workers=workers,
            cache_bytes=cache_bytes,
            **({"clock_s": clock_s} if clock_s else {}),  # type: ignore[arg-type]
        )
        scheduler.start()
        schedulers.append(scheduler)
        return scheduler

    yield start
    for scheduler in schedulers:
        for queue in scheduler._turns:
            if isinstance(queue.encoder, Held):
                queue.encoder.released.release(1000)
        await asyncio.to_thread(scheduler.stop)
        assert not any(worker.thread.is_alive() for worker in scheduler.workers)


@pytest.fixture
def nothing_is_left_behind(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No exception that nobody retrieved, no callback that failed, in any phase of the test.

    An exception in a reference cycle is reported when the cycle is collected. What was there
    before the test is frozen meanwhile, so that the collection looks at the test's objects alone.
    """
    gc.freeze()
    yield
    gc.collect()
    gc.unfreeze()
    logged = [each for when in ("setup", "call", "teardown") for each in caplog.get_records(when)]
    left = [each for each in logged if each.name == "asyncio" and each.levelno >= logging.ERROR]
    assert [each.getMessage() for each in left] == []
