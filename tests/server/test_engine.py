"""Where an engine splits texts: tiny requests at once, all others off the loop."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unitvec_server.config import parse_config
from unitvec_server.engine import Caller, EncodeOptions, Engine
from unitvec_server.loading import load_engine

ALONE = EncodeOptions(prompt_name="")


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
        engine, scheduler = load_engine(config, executor=executor, comparing=comparing)
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
    await engine.embed(engine.model(""), texts, options, caller=Caller(object()))
    assert executor.count - before == hops


async def test_where_texts_are_split_changes_nothing(served: tuple[Engine, Counting]) -> None:
    engine, _ = served
    texts = ["", "a cat on a mat", "é 猫 🙂", "word " * 40, "the quick brown fox", "x" * 60]

    async def embed(texts: Sequence[str]) -> Any:
        return await engine.embed(engine.model(""), texts, ALONE, caller=Caller(object()))

    together = await embed(texts)
    alone = await asyncio.gather(*(embed([text]) for text in texts))
    assert together.tokens == [part.tokens[0] for part in alone]
    assert together.truncated == [i for i, part in enumerate(alone) if part.truncated] == [3]
    np.testing.assert_allclose(
        together.vectors, np.concatenate([part.vectors for part in alone]), atol=1e-5
    )
