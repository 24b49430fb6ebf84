"""Where an engine splits texts: tiny requests at once, all others off the loop, or not at all."""

import asyncio
import itertools
import math
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.server.encoders import Sums
from unitvec_server.engine.admission import TokenGate
from unitvec_server.engine.counters import Work
from unitvec_server.engine.engine import Engine
from unitvec_server.engine.loading import load_engine
from unitvec_server.engine.requests import (
    Caller,
    Embedded,
    EncodeOptions,
    IdsList,
    Limits,
    Model,
    TextList,
    WindowOptions,
)
from unitvec_server.engine.scheduler import Rows, Scheduler
from unitvec_server.errors import InvalidRequest, Overloaded
from unitvec_server.flags import parse_config
from unitvec_server.model.artifact import load_artifact
from unitvec_server.model.tokenizer import Tokenizer

ALONE = EncodeOptions(prompt_name="")
UNSHAPED = EncodeOptions(prompt_name="", normalize=False)


class Counting(ThreadPoolExecutor):
    """Counts what it was given to do."""

    count = 0

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        self.count += 1
        return super().submit(*args, **kwargs)


@pytest.fixture(scope="module")
def served(prompted_artifact: Path) -> Iterator[tuple[Engine, Counting]]:
    """An engine and its executor. Its prompts are 7 and 9 characters long."""
    flags = ["--model", str(prompted_artifact), "--precision", "fp32", "--provider", "cpu"]
    config = parse_config([*flags, "--workers", "1", "--max-batch-tokens", "64"], {})
    with Counting(1) as executor, ThreadPoolExecutor(1) as comparing:
        engine, scheduler, _ = load_engine(config, executor=executor, comparing=comparing)
        try:
            yield engine, executor
        finally:
            scheduler.stop()


@pytest.mark.parametrize(
    ("texts", "options", "hops"),
    [
        ([""], ALONE, 0),
        (["a cat"] * 4, ALONE, 0),
        (["a cat"] * 5, ALONE, 1),
        (["x" * 256], ALONE, 0),
        (["x" * 257], ALONE, 1),
        (["x" * 128, "y" * 129], ALONE, 1),
        (["x" * 249], EncodeOptions(prompt_name="query"), 0),
        (["x" * 250], EncodeOptions(prompt_name="query"), 1),
        (["x" * 120, "y" * 120], EncodeOptions(prompt_name="passage"), 1),
    ],
)
async def test_only_tiny_requests_are_split_on_the_loop(
    served: tuple[Engine, Counting], texts: list[str], options: EncodeOptions, hops: int
) -> None:
    engine, executor = served
    before = executor.count
    wanted = [TextList(texts, options)]
    await engine.embed(engine.model(""), wanted, caller=Caller(object()))
    assert executor.count - before == hops


async def test_where_texts_are_split_changes_nothing(served: tuple[Engine, Counting]) -> None:
    engine, _ = served
    texts = ["", "a cat on a mat", "é 猫 🙂", "word " * 40, "the quick brown fox", "x" * 60]

    async def embed(texts: Sequence[str]) -> Any:
        wanted = [TextList(texts, ALONE)]
        [embedded] = await engine.embed(engine.model(""), wanted, caller=Caller(object()))
        return embedded

    together = await embed(texts)
    alone = await asyncio.gather(*(embed([text]) for text in texts))
    assert together.tokens == [part.tokens[0] for part in alone]
    assert {i: part.truncated[0] for i, part in enumerate(alone) if part.truncated} == {3: 58}
    assert together.truncated == {3: 58}
    np.testing.assert_allclose(
        together.vectors, np.concatenate([part.vectors for part in alone]), atol=1e-5
    )


async def test_lists_of_one_request_keep_their_options(
    make: Callable[..., Scheduler], prompted_artifact: Path
) -> None:
    """They are one request: what is equal in both runs once. Each is shaped and counted apart."""
    scheduler = make(encoder := Sums())
    with ThreadPoolExecutor(1) as executor:
        engine = over(scheduler, prompted_artifact, executor)
        noted: list[Work] = []
        caller = Caller(object(), note=noted.append)
        first = TextList(["a cat", "a dog"], EncodeOptions(prompt_name="", dimensions=2))
        second = TextList(["a dog"], UNSHAPED)
        left, right = await engine.embed(engine.model(""), [first, second], caller=caller)
        uncut = EncodeOptions(prompt_name="", refuses_long=True)
        lists = [first, TextList(["a cat", "word " * 99], uncut, "pairs.b.texts")]
        with pytest.raises(InvalidRequest) as caught:
            await engine.embed(engine.model(""), lists, caller=caller)
    assert caught.value.field == "pairs.b.texts[1]"
    assert (left.vectors.shape, right.vectors.shape) == ((2, 2), (1, 4))
    np.testing.assert_allclose(np.linalg.norm(left.vectors, axis=1), 1, rtol=1e-6)
    assert right.vectors[0, 2] == right.tokens[0] == left.tokens[1]
    assert sum(map(len, encoder.batches)) == 2
    assert [work.texts for work in noted] == [2, 1]


POISONED = "the poisoned one"


class Poisoned(Sums):
    """Fails on `POISONED`, which no other text is as long as."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def encode(self, rows: Rows) -> np.ndarray:
        vectors = super().encode(rows)
        if any(len(row) == self.length for row in rows):
            raise ValueError("poisoned")
        return vectors


@pytest.mark.parametrize("more", [0, 8])
async def test_texts_of_a_partial_list_fail_one_by_one(
    make: Callable[..., Scheduler], prompted_artifact: Path, more: int
) -> None:
    """Too large, too long, refused by the model: all others have the vectors of a call of theirs.

    That holds where few texts are split on the loop, and where many are split off it.
    """
    uncut = EncodeOptions(prompt_name="", refuses_long=True, dimensions=3, normalize=False)
    texts = ["x" * (1 << 17), "cat", "word " * 99, POISONED, "dog", "cat", *["mat"] * more]
    bad, good = (0, 2, 3), ["cat", "dog", "cat", *["mat"] * more]
    with ThreadPoolExecutor(1) as executor:
        length = len(tokenizer_of(prompted_artifact).encode([POISONED])[0].input_ids)
        engine = over(make(encoder := Poisoned(length), workers=1), prompted_artifact, executor)
        partly = TextList(texts, uncut, is_partial=True)
        [embedded] = await engine.embed(engine.model(""), [partly], caller=Caller(object()))
        whole = TextList(good, uncut)
        [alone] = await engine.embed(engine.model(""), [whole], caller=Caller(object()))
    assert encoder.batches
    reasons = {index: (error.reason, error.field) for index, error in embedded.failures.items()}
    assert reasons == {
        0: ("TEXT_TOO_LARGE", "texts[0]"),
        2: ("TEXT_TOO_LONG", "texts[2]"),
        3: ("INFERENCE_FAILED", "texts[3]"),
    }
    assert np.isnan(embedded.vectors[list(bad)]).all()
    np.testing.assert_array_equal(np.delete(embedded.vectors, bad, axis=0), alone.vectors)
    assert np.delete(embedded.tokens, bad).tolist() == alone.tokens
    assert np.take(embedded.tokens, bad).tolist() == [0, 0, 0]
    assert engine.gate.queued_tokens == 0


async def test_ids_of_a_partial_list_fail_one_by_one(
    make: Callable[..., Scheduler], prompted_artifact: Path
) -> None:
    rows = [[1, 2], [1 << 30], [0] * (1 << 17), [1, 2]]
    with ThreadPoolExecutor(1) as executor:
        engine = over(make(Sums()), prompted_artifact, executor)
        partly = IdsList(rows, UNSHAPED, is_partial=True)
        [embedded] = await engine.embed(engine.model(""), [partly], caller=Caller(object()))
    reasons = {index: error.reason for index, error in embedded.failures.items()}
    assert reasons == {1: "UNKNOWN_TOKEN_ID", 2: "TEXT_TOO_LARGE"}
    assert np.isnan(embedded.vectors).any(axis=1).tolist() == [False, True, True, False]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("text", ["! " * 900, "word " * 900])
async def test_all_tokens_of_windows_are_admitted(
    make: Callable[..., Scheduler], prompted_artifact: Path, waits: bool, text: str
) -> None:
    """Those of marks are more than bytes tell, so that they are let in a second time."""
    held: list[int] = []

    class Counted(Sums):
        def encode(self, rows: Rows) -> np.ndarray:
            held.append(engine.gate.queued_tokens)
            return super().encode(rows)

    options = EncodeOptions(prompt_name="", normalize=False, windows=WindowOptions(16, 2))
    with ThreadPoolExecutor(1) as executor:
        engine = over(make(Counted()), prompted_artifact, executor)
        caller = Caller(object(), waits=waits)
        [embedded] = await engine.embed(
            engine.model(""), [TextList([text], options)], caller=caller
        )
    assert {*held} == {sum(max(window.tokens, 8) for window in embedded.windows)}
    assert engine.gate.queued_tokens == 0
    assert embedded.tokens == [sum(window.tokens for window in embedded.windows)]
    assert len(embedded.vectors) == len(embedded.windows) > 60


async def test_all_texts_of_a_partial_list_may_fail(
    make: Callable[..., Scheduler], prompted_artifact: Path
) -> None:
    texts = TextList(["x" * (1 << 17)] * 2, UNSHAPED, is_partial=True)
    with ThreadPoolExecutor(1) as executor:
        engine = over(make(Sums()), prompted_artifact, executor)
        [embedded] = await engine.embed(engine.model(""), [texts], caller=Caller(object()))
    assert list(embedded.failures) == [0, 1]
    assert np.isnan(embedded.vectors).all()
    assert embedded.vectors.shape == (2, 4)


class Closable(Sums):
    """Runs while it is open."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.open.set()

    def encode(self, rows: Rows) -> np.ndarray:
        self.open.wait()
        return super().encode(rows)


@pytest.mark.parametrize(("cache_bytes", "hops"), [(0, 0), (1 << 20, 1)])
async def test_what_comes_after_too_much_is_not_even_split(
    make: Callable[..., Scheduler], prompted_artifact: Path, cache_bytes: int, hops: int
) -> None:
    """Unless a cache may hold it."""
    seconds = itertools.count(time.monotonic())  # each look at the clock takes one
    encoder = Closable()
    scheduler = make(encoder, clock_s=lambda: next(seconds), cache_bytes=cache_bytes)
    with Counting(1) as executor:
        engine = over(scheduler, prompted_artifact, executor)

        def embed(word: str, deadline_s: float = math.inf) -> Coroutine[Any, Any, list[Embedded]]:
            texts = [f"{word} number {n} of many" for n in range(128)]
            caller = Caller(object(), deadline_s)
            wanted = [TextList(texts, UNSHAPED)]
            return engine.embed(engine.model(""), wanted, caller=caller)

        await embed("first")  # now the speed is known
        encoder.open.clear()
        ahead = asyncio.create_task(embed("second"))
        while not scheduler.waiting_texts:  # noqa: ASYNC110 - a thread splits them
            await asyncio.sleep(0)
        before = executor.count
        try:
            with pytest.raises(Overloaded):
                await embed("third", next(seconds) + 22)
        finally:
            encoder.open.set()
        assert executor.count - before == hops
        await ahead


def tokenizer_of(artifact: Path) -> Tokenizer:
    most = load_artifact(artifact).manifest.max_seq_length
    return Tokenizer(artifact / "tokenizer.json", max_seq_length=most)


def over(scheduler: Scheduler, artifact: Path, executor: Executor) -> Engine:
    """An engine with the tokenizer of an artifact."""
    manifest, tokenizer = load_artifact(artifact).manifest, tokenizer_of(artifact)
    return Engine(
        {"m0": Model("m0", manifest, tokenizer, "fp32", "cpu", 64)},
        scheduler=scheduler,
        gate=TokenGate(1 << 20, scheduler.seconds_for),
        executor=executor,
        comparing=executor,
        limits=Limits(1024, 1 << 16, 1 << 20),
    )
