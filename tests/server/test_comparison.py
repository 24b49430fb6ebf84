"""Comparisons run beside the event loop, which must stay free for all the others."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.server.encoders import Held
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_server.config import FixedLimits
from unitvec_server.engine.admission import TokenGate
from unitvec_server.engine.engine import Engine
from unitvec_server.engine.requests import Caller, Limits
from unitvec_server.engine.requests import Model as ServedModel
from unitvec_server.engine.scheduler import Scheduler
from unitvec_server.engine.watchdog import run_off_loop
from unitvec_server.model.artifact import load_artifact
from unitvec_server.model.fingerprints import NO_FINGERPRINTS, Fingerprints
from unitvec_server.model.tokenizer import Tokenizer
from unitvec_server.rpc import comparison
from unitvec_server.rpc.comparison import compare
from unitvec_server.rpc.documents import Corpora, Corpus
from unitvec_server.rpc.messages import read_matrix, write_matrix
from unitvec_server.vectors.scores import Metric, cross_scores, prepare, top_k

LIMITS = FixedLimits(max_comparisons=10**9)
CALLER = Caller("flow")

Calls = dict[str, set[str]]


class Model(NamedTuple):
    """What is asked of the model of given vectors."""

    name: str = "m"
    identity: Fingerprints = NO_FINGERPRINTS


class Threads:
    """What comparing needs of an engine: its threads."""

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(1, thread_name_prefix="tokenize")
        self.comparing = ThreadPoolExecutor(1, thread_name_prefix="compare")

    def model(self, name: str) -> Model:
        """The default model."""
        return Model()


@pytest.fixture
def threads() -> Iterator[Threads]:
    """Ended after the test."""
    threads = Threads()
    with threads.executor, threads.comparing:
        yield threads


@pytest.fixture
def calls() -> Iterator[Calls]:
    """Names of all that is called, of C too, by the first word of the thread's name."""
    calls: Calls = {}

    def note(frame: FrameType, event: str, called: Any) -> None:
        thread = threading.current_thread().name.partition("_")[0]
        if event == "call":
            calls.setdefault(thread, set()).add(frame.f_code.co_name)
        elif event == "c_call":
            calls.setdefault(thread, set()).add(called.__qualname__)

    threading.setprofile(note)
    sys.setprofile(note)
    yield calls
    sys.setprofile(None)
    threading.setprofile(None)


def vectors(count: int, *, seed: int) -> np.ndarray:
    """(count, 8) float32."""
    return np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)


QUERIES, DOCUMENTS = vectors(7, seed=1), vectors(5, seed=2)
UNIT = [prepare(side, Metric.COSINE) for side in (QUERIES, DOCUMENTS)]
SIDES = [pb.Operand(vectors=write_matrix(side)) for side in (QUERIES, DOCUMENTS)]

COSTLY = {"prepare", "top_k", "cross_scores", "pair_scores", "concatenate"}
COSTLY |= {"write_rankings", "write_matrix", "RepeatedCompositeContainer.extend"}


def check_threads(calls: Calls, expected: set[str]) -> None:
    """All the costly work was done, by the thread that is there for it."""
    assert expected <= calls["compare"]
    assert not calls["MainThread"] & COSTLY


def check_reply(reply: pb.SimilarityResponse | pb.QueryResult, *, k: int, as_list: bool) -> None:
    """Holds rankings of k, or for 0 all scores, as the comparison itself has them."""
    scores = cross_scores(*UNIT, Metric.COSINE)
    if not k:
        assert bool(reply.scores.values) is as_list
        np.testing.assert_array_equal(read_matrix(reply.scores, field="scores"), scores)
        assert not reply.rankings
        return
    best = top_k(*UNIT, Metric.COSINE, k)
    assert [list(ranking.indices) for ranking in reply.rankings] == best.indices.tolist()
    assert [list(ranking.scores) for ranking in reply.rankings] == best.scores.tolist()
    assert not reply.HasField("scores")


RANKS = {"top_k", "cross_scores", "write_rankings", "RepeatedCompositeContainer.extend"}
SCORES = {"cross_scores", "concatenate", "write_matrix"}


@pytest.mark.parametrize("as_list", [False, True])
class TestThreads:
    """Where the work of each kind of comparison is done, and that it is right."""

    @pytest.mark.parametrize(("k", "work"), [(3, RANKS), (0, SCORES)])
    async def test_all_with_all(
        self, threads: Threads, calls: Calls, as_list: bool, k: int, work: set[str]
    ) -> None:
        cross = pb.CrossComparison(queries=SIDES[0], documents=SIDES[1], top_k=k)
        request = pb.SimilarityRequest(cross=cross, as_list=as_list)
        reply = await compare(threads, request, caller=CALLER, limits=LIMITS)  # type: ignore[arg-type]
        check_threads(calls, work | {"prepare"})
        check_reply(reply, k=k, as_list=as_list)

    async def test_pairs(self, threads: Threads, calls: Calls, as_list: bool) -> None:
        request = pb.SimilarityRequest(
            pairs=pb.PairComparison(a=SIDES[0], b=SIDES[0]), as_list=as_list
        )
        reply = await compare(threads, request, caller=CALLER, limits=LIMITS)  # type: ignore[arg-type]
        check_threads(calls, {"prepare", "pair_scores", "write_matrix"})
        scores = read_matrix(reply.scores, field="scores")
        np.testing.assert_allclose(scores, np.ones((7, 1)), rtol=1e-6)

    @pytest.mark.parametrize(("k", "work"), [(3, RANKS), (0, SCORES)])
    async def test_queries_of_a_stream(
        self, threads: Threads, calls: Calls, as_list: bool, k: int, work: set[str]
    ) -> None:
        corpus = Corpus(threads, CALLER, limits=LIMITS, corpora=Corpora(10**6))  # type: ignore[arg-type]
        add = pb.StreamSimilarityRequest(documents=SIDES[1])
        await corpus.apply(add, await corpus.read(add))
        query = pb.SimilarityQuery(queries=SIDES[0], top_k=k, as_list=as_list)
        ask = pb.StreamSimilarityRequest(query=query)
        reply = await corpus.apply(ask, await corpus.read(ask))
        check_threads(calls, work)
        check_reply(reply.result, k=k, as_list=as_list)


async def test_blocks_join_without_a_seam(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few queries are ranked in one go."""
    monkeypatch.setattr(comparison, "_BLOCK_QUERIES", 2)
    cross = pb.CrossComparison(queries=SIDES[0], documents=SIDES[1], top_k=3)
    request = pb.SimilarityRequest(cross=cross)
    reply = await compare(threads, request, caller=CALLER, limits=LIMITS)  # type: ignore[arg-type]
    best = top_k(*UNIT, Metric.COSINE, 3)
    assert [list(ranking.indices) for ranking in reply.rankings] == best.indices.tolist()


@pytest.mark.parametrize("kind", ["cross", "pairs"])
async def test_both_sides_of_a_call_are_one_request(
    make: Callable[..., Scheduler], prompted_artifact: Path, kind: str
) -> None:
    """Neither is refused because the other one waits: alone, the call can be done in time.

    At the measured speed each side takes one second, and the deadline is in 1.5 s. Alone it may
    count on full batches, which are faster; behind another request of its size it would be refused.
    """
    now_s = time.monotonic() + 1e6  # far ahead of the clock on which the engine sees it expire
    scheduler = make(encoder := Held(), clock_s=lambda: now_s)
    sides = [[f"{word} {n} " * 12 for n in range(8)] for word in ("left", "right")]
    with ThreadPoolExecutor(1) as executor:
        engine = engine_over(scheduler, prompted_artifact, executor)
        encode = engine.model("").tokenizer.encode
        tokens = [len(encoding.input_ids) for texts in sides for encoding in encode(texts)]
        assert sum(tokens) > 4 * 64  # some of each side waits while the first batch runs
        scheduler.queues["m0"].speed.record(tokens=sum(tokens), busy_s=2.0)
        options = pb.EncodeOptions(prompt_name="")
        left, right = (
            pb.Operand(texts=pb.TextList(texts=texts), options=options) for texts in sides
        )
        if kind == "cross":
            cross = pb.CrossComparison(queries=left, documents=right)
            request = pb.SimilarityRequest(cross=cross)
        else:
            request = pb.SimilarityRequest(pairs=pb.PairComparison(a=left, b=right))
        caller = Caller(object(), now_s + 1.5)
        comparing = asyncio.create_task(compare(engine, request, caller=caller, limits=LIMITS))
        await encoder.has_started()
        await run_off_loop(executor, int)  # all that was to be tokenized is by then
        for _ in range(10):
            await asyncio.sleep(0)
        encoder.released.release(1000)
        reply = await comparing
    assert list(reply.usage.tokens) == tokens
    assert reply.scores.rows * reply.scores.dim == (64 if kind == "cross" else 8)


def engine_over(scheduler: Scheduler, artifact: Path, executor: Executor) -> Engine:
    """An engine that tokenizes as the artifact says and runs the scheduler's encoder."""
    loaded = load_artifact(artifact)
    tokenizer = Tokenizer(loaded.tokenizer_path, max_seq_length=64)
    return Engine(
        {"m0": ServedModel("m0", loaded.manifest, tokenizer, "fp32", "cpu", 64)},
        scheduler=scheduler,
        gate=TokenGate(1 << 20, scheduler.seconds_for),
        executor=executor,
        comparing=executor,
        limits=Limits(1024, 1 << 16, 1 << 20),
    )
