"""A small server over real sockets, whose failures are chosen by the test."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable

import grpc
import numpy as np
import pytest

from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_protos.v1.embedding_pb2_grpc import (
    EmbeddingServiceServicer,
    add_EmbeddingServiceServicer_to_server,
)

DIM = 8
TIMINGS = pb.Timings(tokenize_ns=1_000, queue_ns=2_000, infer_ns=3_000, total_ns=6_500)


def vector_of(text: str) -> np.ndarray:
    """A unit vector (8,) that depends on the text alone."""
    digest = hashlib.sha256(text.encode()).digest()
    values = np.frombuffer(digest, dtype=np.uint32).astype(np.float64) - 2.0**31
    return (values / np.linalg.norm(values)).astype(np.float32)


class SmallServicer(EmbeddingServiceServicer):
    """Embeds by hashing. Tests set the attributes; nothing fails unless they do."""

    def __init__(self) -> None:
        self.calls = 0
        self.texts: list[str] = []
        self.peers: set[str] = set()
        self.tokens: Counter[str] = Counter()
        self.streams = 0
        self.fail_when: Callable[[int], bool] = lambda call: False
        self.refuse_all: tuple[grpc.StatusCode, str] | None = None
        self.refuse_when: Callable[[int], bool] = lambda call: True
        self.wrong_when: Callable[[int], bool] = lambda call: False
        self.end_stream_after: int | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self._milestones: list[tuple[int, asyncio.Event]] = []

    async def reached(self, calls: int) -> None:
        """Waits until that many calls have come in."""
        milestone = asyncio.Event()
        self._milestones.append((calls, milestone))
        self._announce()
        await milestone.wait()

    def _announce(self) -> None:
        for calls, milestone in self._milestones:
            if self.calls >= calls:
                milestone.set()

    async def Embed(self, request, context):
        """Answers one request."""
        call = await self._enter(request.texts, context)
        await self.gate.wait()
        if self.fail_when(call):
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"queue is full at {call}")
        return self._embed(request, call)

    async def ListModels(self, request, context):
        """Two models, the second one the default."""
        one = pb.ModelInfo(name="one", model_id="org/one", dim=DIM, precision="fp32")
        two = pb.ModelInfo(
            name="two",
            model_id="org/two",
            revision="c5f2",
            dim=DIM,
            precision="int8",
            provider="cpu",
            is_default=True,
        )
        return pb.ListModelsResponse(models=[one, two], server_version="1.2")

    async def StreamEmbed(self, request_iterator, context):
        """Answers each message, in order, until `end_stream_after` of them."""
        self.streams += 1
        answered = 0
        async for message in request_iterator:
            call = await self._enter(message.request.texts, context)
            await self.gate.wait()
            if self.fail_when(call):
                error = pb.Error(code=8, message=f"queue is full at {call}")
                yield pb.StreamEmbedResponse(id=message.id, error=error)
            else:
                response = self._embed(message.request, call)
                yield pb.StreamEmbedResponse(id=message.id, response=response)
            answered += 1
            if answered == self.end_stream_after:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "draining")

    async def Similarity(self, request, context):
        """Compares queries with documents by cosine."""
        queries = list(request.cross.queries.texts.texts)
        documents = list(request.cross.documents.texts.texts)
        call = await self._enter(queries + documents, context)
        await self.gate.wait()
        if self.fail_when(call):
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"queue is full at {call}")
        left = np.stack([vector_of(text) for text in queries])
        right = np.stack([vector_of(text) for text in documents])
        scores = left @ right.T + self.wrong_when(call) * 0.5
        return pb.SimilarityResponse(
            scores=_matrix(scores), usage=_usage(queries + documents), timings=TIMINGS
        )

    async def _enter(self, texts, context) -> int:
        self.calls += 1
        self._announce()
        self.texts.extend(texts)
        self.peers.add(context.peer())
        self.tokens[dict(context.invocation_metadata()).get("authorization", "")] += 1
        call = self.calls
        if self.refuse_all is not None and self.refuse_when(call):
            await context.abort(*self.refuse_all)
        return call

    def _embed(self, request, call: int) -> pb.EmbedResponse:
        rows = np.stack([vector_of(text) for text in request.texts])
        if self.wrong_when(call):
            rows = np.roll(rows, 1, axis=1)
        return pb.EmbedResponse(
            embeddings=_matrix(rows), usage=_usage(request.texts), timings=TIMINGS
        )


def _matrix(rows: np.ndarray) -> pb.Matrix:
    data = rows.astype("<f4").tobytes()
    return pb.Matrix(rows=rows.shape[0], dim=rows.shape[1], dtype=pb.DTYPE_FLOAT32, data=data)


def _usage(texts) -> pb.Usage:
    tokens = [len(text.split()) + 2 for text in texts]
    return pb.Usage(tokens=tokens, total_tokens=sum(tokens))


class SmallServer:
    """A `SmallServicer` on a port of its own."""

    def __init__(self) -> None:
        self.servicer = SmallServicer()
        self.server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        add_EmbeddingServiceServicer_to_server(self.servicer, self.server)
        self.target = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"


@pytest.fixture
async def small_server() -> AsyncIterator[SmallServer]:
    """A running server, stopped at the end of the test."""
    server = SmallServer()
    await server.server.start()
    yield server
    server.servicer.gate.set()
    await server.server.stop(None)
    # Handlers of calls that their clients left may still end, which they cannot in a closed loop.
    if handlers := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(handlers, timeout=10)
