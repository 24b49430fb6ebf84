"""Callers: honest requests of every kind, each compared with what is known."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np

from tests.chaos.expected import Known
from tests.chaos.replica import Replica
from tests.chaos.tally import Tally
from unitvec_client import AsyncClient, ConnectionOptions, RetryPolicy

Ask = Callable[[AsyncClient, Known, random.Random], Awaitable[bool]]
"""Makes one request and says whether its answer is right."""


async def embed(client: AsyncClient, known: Known, choice: random.Random) -> bool:
    """One to eight texts at once."""
    indices = _choose(known, choice, most=8)
    return known.are_vectors(await client.embed(known.pick(indices)), indices)


async def embed_batch(client: AsyncClient, known: Known, choice: random.Random) -> bool:
    """All known texts, in a new order."""
    indices = list(range(len(known.texts)))
    choice.shuffle(indices)
    return known.are_vectors(await client.embed(known.pick(indices)), indices)


async def stream(client: AsyncClient, known: Known, choice: random.Random) -> bool:
    """A stream of texts in small messages, its items in order."""
    indices = _choose(known, choice, most=24)
    vectors = []
    async for item in client.embed_stream(known.pick(indices), chunk_texts=4, timeout_s=120):
        if item.error is not None:
            raise item.error
        vectors.append(np.asarray(item.vector))
    return known.are_vectors(np.stack(vectors), indices)


async def similarity(client: AsyncClient, known: Known, choice: random.Random) -> bool:
    """Every text of one list against every text of another."""
    rows, columns = _choose(known, choice, most=3), _choose(known, choice, most=5)
    scores = await client.similarity(known.pick(rows), known.pick(columns))
    return known.are_scores(scores, rows, columns)


async def search(client: AsyncClient, known: Known, choice: random.Random) -> bool:
    """A text among others, over a stream: it finds itself first."""
    indices = choice.sample(range(len(known.texts)), 12)
    hits = await client.search(known.texts[indices[5]], known.pick(indices), top_k=3)
    return hits[0][0].index == 5 and known.are_scores(
        np.array([[hit.score for hit in hits[0]]], np.float32),
        [indices[5]],
        [indices[hit.index] for hit in hits[0]],
    )


async def tokenize(client: AsyncClient, known: Known, choice: random.Random) -> bool:
    """Texts, and the number of tokens that embedding them took."""
    indices = _choose(known, choice, most=4)
    results = await client.tokenize(known.pick(indices))
    return [result.kept_tokens for result in results] == list(known.tokens[indices])


MIXED: Mapping[Ask, int] = {embed: 6, stream: 2, similarity: 2, search: 1, tokenize: 1}
"""Kinds of requests and how often each comes."""


def _choose(known: Known, choice: random.Random, *, most: int) -> list[int]:
    return [choice.randrange(len(known.texts)) for _ in range(choice.randint(1, most))]


@dataclass
class Callers:
    """Callers who ask, compare, and ask again, until the block ends.

    Attributes:
        client: Whom they share.
        known: What they ask for.
        tally: Where they count.
        count: How many of them.
        kinds: What they ask, with weights.
        seed: Of their choices.
    """

    client: AsyncClient
    known: Known
    tally: Tally
    count: int = 8
    kinds: Mapping[Ask, int] = field(default_factory=lambda: MIXED)
    seed: int = 0
    _stopping: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._call(number)) for number in range(self.count)]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Waits for what is in flight: no request is left without an outcome."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _call(self, number: int) -> None:
        choice = random.Random(f"{self.seed}-{number}")
        while not self._stopping:
            (ask,) = choice.choices(list(self.kinds), weights=list(self.kinds.values()))
            await self.tally.judge(ask(self.client, self.known, choice))


def balanced_client(
    replicas: Sequence[Replica], *, retry: RetryPolicy | None = None
) -> AsyncClient:
    """A client with the defaults that people use, balancing over these replicas itself."""
    target = "ipv4:" + ",".join(replica.target for replica in replicas)
    connection = ConnectionOptions(load_balancing="round_robin")
    return AsyncClient(target, connection=connection, retry=retry)
