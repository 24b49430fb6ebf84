"""A protocol fake: a real gRPC server on a free port, with faults on request.

Vectors are made from the text alone, so every client result can be checked. Both clients run
through the same tests: the async one is driven by a loop of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from unitvec_client import AsyncClient, Client, RetryPolicy
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_protos.v1 import embedding_pb2_grpc as pb_grpc

DIM = 8
BAD = "<bad>"
FAST_RETRY = RetryPolicy(max_attempts=4, initial_backoff_s=0.001, max_backoff_s=0.002)


def vector_of(text: str) -> np.ndarray:
    """The fake's vector of a text: (DIM,) float32 of unit norm."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    vector = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
    return vector / np.linalg.norm(vector)


def tokens_of(text: str) -> int:
    """The fake's token count: its words and two special tokens."""
    return len(text.split()) + 2


@dataclass
class Fault:
    """An error to be answered instead of a reply."""

    code: grpc.StatusCode
    message: str = "injected"
    error: pb.Error | None = None

    def abort(self, context: grpc.ServicerContext) -> None:
        if self.error is not None:
            context.set_trailing_metadata((("unitvec-error-bin", self.error.SerializeToString()),))
        context.abort(self.code, self.message)


@dataclass
class Seen:
    """A call as it arrived."""

    method: str
    metadata: dict[str, str]
    remaining_s: float | None
    requests: list[Any] = field(default_factory=list)


class FakeServicer(pb_grpc.EmbeddingServiceServicer):
    """Implements the contract for vectors of `vector_of`."""

    def __init__(self) -> None:
        self.limits = pb.Limits(
            max_texts_per_request=16,
            max_text_bytes=1000,
            max_queued_tokens=1_000_000,
            max_stream_documents=10_000,
            max_message_bytes=1 << 20,
            max_stream_requests=4,
            max_scores=10_000,
        )
        self.faults: dict[str, deque[Fault]] = {}
        self.item_errors: deque[pb.Error] = deque()
        self.break_after: deque[int] = deque()
        self.end_after: int | None = None
        self.refuse_count_with = "BAD_COUNT"
        self.reverse_replies = False
        self.truncate_at_tokens = 6
        self.knows_partial = True  # servers before 0.2 do not
        self.mangle: Callable[[Any], None] = lambda _: None
        self.before_reply: Callable[[], None] = lambda: None
        self.health_status = 1
        self.seen: list[Seen] = []
        self.stream_ended = threading.Event()

    def fail(self, method: str, *faults: Fault) -> None:
        self.faults.setdefault(method, deque()).extend(faults)

    def calls(self, method: str) -> list[Seen]:
        return [call for call in self.seen if call.method == method]

    def _enter(self, method: str, context: grpc.ServicerContext, *requests: Any) -> Seen:
        remaining_s = context.time_remaining()
        metadata = dict(context.invocation_metadata())
        seen = Seen(method, metadata, remaining_s, list(requests))
        self.seen.append(seen)
        if self.faults.get(method):
            self.faults[method].popleft().abort(context)
        return seen

    def _check(self, texts: Any, *, partial: bool = False) -> pb.Error | None:
        if not 1 <= len(texts) <= self.limits.max_texts_per_request:
            return pb.Error(code=3, reason=self.refuse_count_with, message=f"{len(texts)} texts")
        bad = self._bad(texts)
        return bad[0].error if bad and not partial else None

    def _bad(self, texts: Any) -> list[pb.TextError]:
        most = self.limits.max_text_bytes
        bad = [i for i, text in enumerate(texts) if BAD in text or len(text.encode()) > most]
        return [
            pb.TextError(
                index=i,
                error=pb.Error(
                    code=3, reason="BAD_TEXT", message=f"texts[{i}] is bad", field=f"texts[{i}]"
                ),
            )
            for i in bad
        ]

    def _rows(self, texts: Any, options: pb.EncodeOptions) -> np.ndarray:
        rows = np.stack([vector_of(options.prompt_name + text) for text in texts])
        return rows[:, : options.dimensions or DIM]

    def _usage(self, texts: Any) -> pb.Usage:
        counts = [tokens_of(text) for text in texts]
        kept = [min(count, self.truncate_at_tokens) for count in counts]
        cut = [i for i, count in enumerate(counts) if count > self.truncate_at_tokens]
        left_out = [counts[i] - kept[i] for i in cut]
        usage = pb.Usage(tokens=kept, truncated=cut, total_tokens=sum(kept))
        if self.knows_partial:
            usage.left_out_tokens.extend(left_out)
        return usage

    def _embed(self, request: pb.EmbedRequest) -> pb.EmbedResponse:
        rows = self._rows(request.texts, request.options)
        errors = self._bad(request.texts)
        rows[[error.index for error in errors]] = np.nan
        response = pb.EmbedResponse(
            embeddings=encode(rows, request.dtype),
            model=request.model or "first",
            usage=self._usage(request.texts),
            timings=pb.Timings(tokenize_ns=1, queue_ns=2, infer_ns=3, total_ns=6),
            errors=errors,
        )
        for error in errors:
            response.usage.tokens[error.index] = 0
        self.mangle(response)
        return response

    def Embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
        self._enter("Embed", context, request)
        self.before_reply()
        error = self._check(request.texts, partial=request.partial and self.knows_partial)
        if error is not None:
            Fault(grpc.StatusCode.INVALID_ARGUMENT, error.message, error).abort(context)
        return self._embed(request)

    def StreamEmbed(self, requests: Any, context: Any) -> Iterator[pb.StreamEmbedResponse]:
        seen = self._enter("StreamEmbed", context)
        context.add_callback(self.stream_ended.set)
        break_after = self.break_after.popleft() if self.break_after else None
        for answered, message in enumerate(self._reordered(requests)):
            if answered == break_after:
                context.abort(grpc.StatusCode.UNAVAILABLE, "broken")
            if answered == self.end_after:
                return
            seen.requests.append(message)
            self.before_reply()
            yield self._answer(message)

    def _reordered(self, requests: Any) -> Iterator[pb.StreamEmbedRequest]:
        """On request, answers the second request of the stream before the first."""
        iterator = iter(requests)
        if self.reverse_replies:
            first, second = next(iterator), next(iterator)
            yield from (second, first)
        yield from iterator

    def _answer(self, message: pb.StreamEmbedRequest) -> pb.StreamEmbedResponse:
        request = message.request
        error = self._check(request.texts, partial=request.partial and self.knows_partial)
        if self.item_errors:
            error = self.item_errors.popleft()
        if error is not None:
            return pb.StreamEmbedResponse(id=message.id, error=error)
        return pb.StreamEmbedResponse(id=message.id, response=self._embed(message.request))

    def _vectors(self, operand: pb.Operand) -> np.ndarray:
        if operand.WhichOneof("values") == "texts":
            return self._rows(operand.texts.texts, operand.options)
        matrix = operand.vectors
        wire = "<f2" if matrix.dtype == pb.DTYPE_FLOAT16 else "<f4"
        return np.frombuffer(matrix.data, wire).reshape(matrix.rows, matrix.dim).astype("f4")

    def Similarity(self, request: pb.SimilarityRequest, context: Any) -> pb.SimilarityResponse:
        self._enter("Similarity", context, request)
        if request.WhichOneof("comparison") == "pairs":
            a, b = self._vectors(request.pairs.a), self._vectors(request.pairs.b)
            response = pb.SimilarityResponse(scores=encode((a * b).sum(axis=1, keepdims=True), 1))
        else:
            response = pb.SimilarityResponse()
            cross = request.cross
            scores = score(self._vectors(cross.queries), self._vectors(cross.documents), request)
            fill(response, scores, cross.top_k)
        self.mangle(response)
        return response

    def StreamSimilarity(self, requests: Any, context: Any) -> Iterator[Any]:
        seen = self._enter("StreamSimilarity", context)
        break_after = self.break_after.popleft() if self.break_after else None
        documents = np.empty((0, DIM), np.float32)
        setup = pb.SimilaritySetup()
        for answered, message in enumerate(requests):
            seen.requests.append(message)
            if answered == break_after:
                context.abort(grpc.StatusCode.UNAVAILABLE, "broken")
            reply = pb.StreamSimilarityResponse(id=message.id)
            kind = message.WhichOneof("action")
            operand = message.documents if kind == "documents" else message.query.queries
            error = self._check(operand.texts.texts) if operand.HasField("texts") else None
            if self.item_errors:
                error = self.item_errors.popleft()
            if error is not None:
                reply.error.CopyFrom(error)
            elif kind == "setup":
                setup = message.setup
                reply.setup.model = setup.model
            elif kind == "documents":
                rows = self._vectors(operand)
                reply.documents.first_index = len(documents)
                reply.documents.count = len(rows)
                documents = np.concatenate([documents[:, : rows.shape[1]], rows])
            else:
                scores = score(self._vectors(operand), documents, setup)
                fill(reply.result, scores, message.query.top_k)
            self.mangle(reply)
            yield reply

    def Tokenize(self, request: pb.TokenizeRequest, context: Any) -> pb.TokenizeResponse:
        self._enter("Tokenize", context, request)
        error = self._check(request.texts)
        if error is not None:
            Fault(grpc.StatusCode.INVALID_ARGUMENT, error.message, error).abort(context)
        response = pb.TokenizeResponse(model="first", max_seq_length=self.truncate_at_tokens)
        for text in request.texts:
            words = ["[CLS]", *text.split(), "[SEP]"]
            n = len(words)
            response.texts.add(
                ids=range(n),
                tokens=words,
                starts=range(n),
                ends=range(1, n + 1),
                kept_tokens=min(n, self.truncate_at_tokens),
                kept_end=len(text),
            )
        self.mangle(response)
        return response

    def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        self._enter("ListModels", context, request)
        first = pb.ModelInfo(
            name="first", dim=DIM, max_seq_length=256, pooling=pb.POOLING_MEAN, is_default=True
        )
        second = pb.ModelInfo(name="second", dim=4, max_seq_length=128, prompts={"query": "q: "})
        response = pb.ListModelsResponse(
            models=[first, second], limits=self.limits, server_version="9"
        )
        self.mangle(response)
        return response

    def health(self, request: StringValue, context: Any) -> Int32Value:
        self._enter("Health", context, request)
        if request.value not in ("", "unitvec.v1.EmbeddingService"):
            context.abort(grpc.StatusCode.NOT_FOUND, "")
        return Int32Value(value=self.health_status)


def encode(rows: np.ndarray, dtype: int) -> pb.Matrix:
    """Encodes rows (n, D) by the contract's own words."""
    matrix = pb.Matrix(rows=rows.shape[0], dim=rows.shape[1], dtype=dtype or pb.DTYPE_FLOAT32)
    if dtype == pb.DTYPE_FLOAT16:
        matrix.data = rows.astype("<f2").tobytes()
    elif dtype == pb.DTYPE_INT8:
        scales = np.abs(rows).max(axis=1) / 127
        matrix.scales.extend(scales.tolist())
        matrix.data = np.nan_to_num(np.rint(rows / scales[:, None])).astype("i1").tobytes()
    elif dtype == pb.DTYPE_BINARY:
        matrix.data = np.packbits(rows > 0, axis=1).tobytes()
    else:
        matrix.data = rows.astype("<f4").tobytes()
    return matrix


def score(a: np.ndarray, b: np.ndarray, request: Any) -> np.ndarray:
    """Negative L2 distances do not exist on the wire: distances are returned as such."""
    if request.metric == pb.METRIC_EUCLIDEAN:
        return np.linalg.norm(a[:, None] - b[None], axis=2).astype(np.float32)
    return (a @ b.T).astype(np.float32)


def fill(result: Any, scores: np.ndarray, top_k: int) -> None:
    """Fills in all scores, or the rankings (higher first)."""
    if not top_k:
        result.scores.CopyFrom(encode(scores, pb.DTYPE_FLOAT32))
        return
    for row in scores:
        best = np.argsort(-row, kind="stable")[:top_k]
        result.rankings.add(indices=best.tolist(), scores=row[best].tolist())


@dataclass
class RunningFake:
    """The fake and where it listens."""

    servicer: FakeServicer
    target: str


def start_server(servicer: FakeServicer, port: int = 0) -> tuple[grpc.Server, int]:
    """Starts a server for the fake and returns it with its port."""
    server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    pb_grpc.add_EmbeddingServiceServicer_to_server(servicer, server)
    check = grpc.unary_unary_rpc_method_handler(
        servicer.health, StringValue.FromString, Int32Value.SerializeToString
    )
    health = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check})
    server.add_generic_rpc_handlers((health,))
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, bound


@pytest.fixture
def fake() -> Iterator[RunningFake]:
    """A running fake server."""
    servicer = FakeServicer()
    server, port = start_server(servicer)
    yield RunningFake(servicer, f"127.0.0.1:{port}")
    server.stop(None).wait()


class AsyncInSync:
    """An AsyncClient behind the blocking client's signatures."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = AsyncClient(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._loop.run_until_complete(method(*args, **kwargs))

        return call

    def embed_stream(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        return self._drain(self._client.embed_stream(*args, **kwargs))

    def _drain(self, items: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._loop.run_until_complete(anext(items))
                except StopAsyncIteration:
                    return
        finally:
            self._loop.run_until_complete(items.aclose())

    def dispose(self) -> None:
        self.close()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


Connect = Callable[..., Any]


@pytest.fixture(params=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes clients of one kind; every test that uses it runs with both."""
    opened: list[Any] = []

    def make(target: str, **kwargs: Any) -> Any:
        kwargs.setdefault("retry", FAST_RETRY)
        kwargs.setdefault("timeout_s", 30.0)
        kind = Client if request.param == "blocking" else AsyncInSync
        opened.append(kind(target, **kwargs))
        return opened[-1]

    yield make
    for client in opened:
        client.dispose() if isinstance(client, AsyncInSync) else client.close()


@pytest.fixture
def client(fake: RunningFake, connect: Connect) -> Any:
    """A client of each kind on the fake."""
    return connect(fake.target)


@pytest.fixture
def vectors() -> Callable[[list[str]], np.ndarray]:
    """What the fake answers for texts: (n, DIM)."""
    return lambda texts: np.stack([vector_of(text) for text in texts])


@pytest.fixture
def expected() -> np.ndarray:
    """What the fake answers for "text number 0" to "text number 99"."""
    return np.stack([vector_of(f"text number {i}") for i in range(100)])


@pytest.fixture
def make_fault() -> type[Fault]:
    """The faults that a fake can be given."""
    return Fault


@pytest.fixture
def serve() -> Iterator[Callable[[FakeServicer, int], tuple[grpc.Server, int]]]:
    """Starts further servers, which end with the test."""
    servers: list[grpc.Server] = []

    def start(servicer: FakeServicer, port: int = 0) -> tuple[grpc.Server, int]:
        server, bound = start_server(servicer, port)
        servers.append(server)
        return server, bound

    yield start
    for server in servers:
        server.stop(None).wait()
