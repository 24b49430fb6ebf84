"""What the harness asks of a contender: prepare a pass over some texts, then run it."""

from __future__ import annotations

import abc
import asyncio
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a worker is started with.

    Attributes:
        model_folder: The sentence-transformers model.
        artifact: The model as unitvec-export wrote it.
        cache: Folder for files that peers derive from the model.
        threads: CPUs that the contender may use; its affinity is set to as many.
        max_seq_length: Longest text of the model in tokens.
        dim: Dimension D of its vectors.
        pooling: ``mean`` or ``cls``.
        precision: Graph of the artifact, for unitvec's own layers.
        provider: Execution provider, for unitvec's own layers.
        flavour: Which of the ways that one adapter knows.
    """

    model_folder: str
    artifact: str
    cache: str
    threads: int
    max_seq_length: int
    dim: int
    pooling: str
    precision: str = "fp32"
    provider: str = "cpu"
    flavour: str = ""


@dataclasses.dataclass(frozen=True)
class Call:
    """How texts are handed over.

    Attributes:
        request_texts: Texts in one request; 0 for all in one.
        concurrency: Requests in flight.
        streamed: Over one stream rather than by unary calls.
    """

    request_texts: int = 0
    concurrency: int = 1
    streamed: bool = False

    def requests(self, texts: Sequence[str]) -> list[list[str]]:
        """Splits texts into requests, in order."""
        size = self.request_texts or max(1, len(texts))
        return [list(texts[start : start + size]) for start in range(0, len(texts), size)]


class Outcome(NamedTuple):
    """What a pass gave: (n, D) vectors and how long each request took."""

    vectors: Vectors
    latencies_ns: list[int]


Pass = Callable[[], Outcome]
"""Embeds all texts it was prepared for, once. Only this is timed."""


class Adapter(abc.ABC):
    """A contender inside its worker.

    Attributes:
        packages: Distributions whose versions are recorded.
        token_limit: Longest encoding it makes, in tokens.
    """

    packages: tuple[str, ...] = ()
    token_limit: int

    @abc.abstractmethod
    def prepare(self, texts: Sequence[str], call: Call) -> Pass:
        """Does what is not to be timed, such as connecting."""

    def close(self) -> None:  # noqa: B027 (most have nothing to close)
        """Frees what the process's end would not."""


class SequentialAdapter(Adapter):
    """A library that is called with lists, one call after the other."""

    @abc.abstractmethod
    def embed(self, texts: list[str]) -> Vectors:
        """N texts -> (n, D)."""

    def prepare(self, texts: Sequence[str], call: Call) -> Pass:
        """Splits the texts into requests."""
        requests = call.requests(texts)

        def run() -> Outcome:
            answers = [self._answer(request) for request in requests]
            return Outcome(
                np.concatenate([vectors for vectors, _ in answers]), [ns for _, ns in answers]
            )

        return run

    def _answer(self, texts: list[str]) -> tuple[Vectors, int]:
        started_ns = time.perf_counter_ns()
        vectors = self.embed(texts)
        return vectors, time.perf_counter_ns() - started_ns


class ConcurrentAdapter(Adapter):
    """Something awaited, with `Call.concurrency` requests in flight on an event loop."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner(loop_factory=_loop_factory())

    @abc.abstractmethod
    async def embed(self, texts: list[str]) -> Vectors:
        """N texts -> (n, D)."""

    async def connect(self) -> None:
        """Called before each pass, untimed."""

    def prepare(self, texts: Sequence[str], call: Call) -> Pass:
        """Splits the texts into requests and connects."""
        requests = call.requests(texts)
        self.runner.run(self.connect())
        return lambda: self.runner.run(self.run_requests(requests, call))

    async def run_requests(self, requests: list[list[str]], call: Call) -> Outcome:
        """Answers all requests, `call.concurrency` at a time."""
        answers: list[tuple[Vectors, int]] = [_NOTHING] * len(requests)
        waiting = iter(enumerate(requests))
        await asyncio.gather(*(self._take_turns(waiting, answers) for _ in range(call.concurrency)))
        return Outcome(
            np.concatenate([vectors for vectors, _ in answers]), [ns for _, ns in answers]
        )

    async def _take_turns(
        self, waiting: Iterator[tuple[int, list[str]]], answers: list[tuple[Vectors, int]]
    ) -> None:
        for index, request in waiting:
            started_ns = time.perf_counter_ns()
            vectors = await self.embed(request)
            answers[index] = (vectors, time.perf_counter_ns() - started_ns)


_NOTHING: tuple[Vectors, int] = (np.empty((0, 0), np.float32), 0)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop, as servers run it, where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def count_tokens(tokenizer_path: str, texts: Iterable[str], *, limit: int) -> int:
    """Tokens of texts, special ones included, padding left out, each text cut at `limit`."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(tokenizer_path)
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit)
    return sum(len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts)))
