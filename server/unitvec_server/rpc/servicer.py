"""The methods of the service: they pass what a message asks for to the engine, and answer.

Streams also get their flow control here.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from typing import Any, NamedTuple, TypeVar

from unitvec_protos import __version__
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_protos.v1 import embedding_pb2_grpc as pb_grpc
from unitvec_server.config import FixedLimits, ServerConfig
from unitvec_server.doors import calls
from unitvec_server.engine.engine import Engine
from unitvec_server.engine.requests import Caller, TextList
from unitvec_server.errors import RequestError, Unavailable
from unitvec_server.rpc.comparison import Side, compare
from unitvec_server.rpc.documents import Corpora, Corpus
from unitvec_server.rpc.flow_control import Memory, Pipeline, Room
from unitvec_server.rpc.intake import Context
from unitvec_server.rpc.interceptor import describe
from unitvec_server.rpc.messages import (
    read_dtype,
    read_options,
    read_truncation,
    write_matrix,
    write_model,
    write_timings,
    write_tokenized,
    write_usage,
)

_T = TypeVar("_T")

_SIMILARITY_AHEAD = 4
"""Messages of one StreamSimilarity in work: enough to keep the workers busy."""

_STREAM_MESSAGES = 16
"""Messages of the longest kind, with their replies, that all streams hold together before they are
no longer read ahead. Beyond that each stream may still hold one. By default these are 256 MiB."""

_FLOAT_BYTES = 4


class EmbeddingServicer(pb_grpc.EmbeddingServiceServicer):
    """Serves `unitvec.v1.EmbeddingService`.

    Args:
        config: The configuration, which has the limits with a flag.
        limits: The limits without a flag.
    """

    def __init__(self, config: ServerConfig, limits: FixedLimits) -> None:
        self._config = config
        self._limits = limits
        self._engine: Engine | None = None
        self._memory = Memory(
            max_bytes=_STREAM_MESSAGES * config.max_message_bytes,
            max_stream_bytes=config.max_message_bytes,
        )
        self._corpora = Corpora(config.max_corpora_bytes)
        self._draining = False
        self._pipelines: set[Pipeline[Any, Any]] = set()

    def open(self, engine: Engine) -> None:
        """Starts to answer. Until then every call gets UNAVAILABLE."""
        self._engine = engine

    @property
    def stream_bytes(self) -> int:
        """Bytes that all streams hold in messages."""
        return self._memory.held_bytes

    @property
    def corpora_bytes(self) -> int:
        """Bytes that all streams hold in vectors of documents."""
        return self._corpora.held_bytes

    def drain(self) -> None:
        """Ends streams once the requests that were read are answered. gRPC refuses new calls."""
        self._draining = True
        for pipeline in self._pipelines:
            pipeline.stop_reading()

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        """Answers a list of texts with one matrix."""
        return await _embed(self._ready(), request, _caller())

    async def StreamEmbed(
        self, request_iterator: AsyncIterator[pb.StreamEmbedRequest], context: Context
    ) -> AsyncIterator[pb.StreamEmbedResponse]:
        """Answers the requests of a stream by their ids, as they finish."""
        engine = self._ready()
        caller = _caller(waits=True)

        async def answer(request: pb.StreamEmbedRequest) -> pb.StreamEmbedResponse:
            try:
                response = await _embed(engine, request.request, caller)
            except Exception as exc:
                return pb.StreamEmbedResponse(id=request.id, error=describe(exc))
            return pb.StreamEmbedResponse(id=request.id, response=response)

        row_bytes = _row_bytes(engine)

        def weigh(request: pb.StreamEmbedRequest) -> int:
            return request.ByteSize() + row_bytes * len(request.request.texts)

        room = Room(self._limits.max_stream_requests, self._memory, weigh)
        pipeline = Pipeline(
            request_iterator,
            answer,
            room=room,
            in_order=False,
            max_idle_s=self._limits.max_stream_idle_s,
        )
        async with contextlib.aclosing(self._replies(pipeline)) as replies:
            async for reply in replies:
                yield reply

    async def Similarity(
        self, request: pb.SimilarityRequest, context: Context
    ) -> pb.SimilarityResponse:
        """Compares pairs, or each query with each document."""
        caller = _caller()
        return await compare(self._ready(), request, caller=caller, limits=self._limits)

    async def StreamSimilarity(
        self, request_iterator: AsyncIterator[pb.StreamSimilarityRequest], context: Context
    ) -> AsyncIterator[pb.StreamSimilarityResponse]:
        """Takes documents and then queries over them, and answers in order."""
        engine = self._ready()
        caller = _caller(waits=True)
        corpus = Corpus(engine, caller, limits=self._limits, corpora=self._corpora)
        begin = functools.partial(_begin, corpus)
        weigh = functools.partial(_weigh_similarity, row_bytes=_row_bytes(engine))
        room = Room(_SIMILARITY_AHEAD, self._memory, weigh)
        pipeline = Pipeline(
            request_iterator,
            begin,
            room=room,
            in_order=True,
            max_idle_s=self._limits.max_stream_idle_s,
        )
        with contextlib.closing(corpus):
            async with contextlib.aclosing(self._replies(pipeline)) as steps:
                async for step in steps:
                    yield await _finish(corpus, step)

    async def Tokenize(self, request: pb.TokenizeRequest, context: Context) -> pb.TokenizeResponse:
        """Answers with token ids, tokens, offsets, and the part that Embed would cut."""
        engine = self._ready()
        model = engine.model(request.model)
        texts = await engine.tokenize(
            model,
            request.texts,
            prompt_name=request.prompt_name if request.HasField("prompt_name") else None,
            side=read_truncation(request.truncate),
        )
        return pb.TokenizeResponse(
            texts=map(write_tokenized, texts),
            model=model.name,
            max_seq_length=model.manifest.max_seq_length,
        )

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        """Answers with the models and the limits of this server."""
        models = self._ready().models.values()
        limits = vars(self._config) | vars(self._limits)
        return pb.ListModelsResponse(
            models=[write_model(model, is_default=not index) for index, model in enumerate(models)],
            limits=pb.Limits(
                **{name: limits[name] for name in pb.Limits.DESCRIPTOR.fields_by_name}
            ),
            server_version=__version__,
        )

    def _ready(self) -> Engine:
        if self._engine is None:
            raise Unavailable("the server is starting; try again soon", reason="STARTING")
        return self._engine

    async def _replies(self, pipeline: Pipeline[Any, _T]) -> AsyncGenerator[_T]:
        """Yields the replies of a stream.

        When the server drains, the requests that were read are answered; then comes UNAVAILABLE.
        """
        if self._draining:
            raise Unavailable("the server is shutting down; try another")
        self._pipelines.add(pipeline)
        try:
            async with contextlib.aclosing(pipeline.replies()) as replies:
                async for reply in replies:
                    yield reply
        finally:
            self._pipelines.discard(pipeline)
        if self._draining:
            raise Unavailable("the server is shutting down; send what is unanswered to another")


async def _embed(engine: Engine, request: pb.EmbedRequest, caller: Caller) -> pb.EmbedResponse:
    started_ns = time.monotonic_ns()
    model, dtype = engine.model(request.model), read_dtype(request)
    options = read_options(request.options)
    texts = TextList(request.texts, options, is_partial=request.partial)
    [embedded] = await engine.embed(model, [texts], caller=caller)
    return pb.EmbedResponse(
        embeddings=write_matrix(embedded.vectors, dtype=dtype, as_list=request.as_list),
        model=model.name,
        usage=write_usage([embedded]),
        timings=write_timings([embedded], total_ns=time.monotonic_ns() - started_ns),
        errors=[
            pb.TextError(index=index, error=describe(error))
            for index, error in embedded.failures.items()
        ],
    )


def _row_bytes(engine: Engine) -> int:
    """Bytes of a vector of the model whose vectors are the longest."""
    return _FLOAT_BYTES * max(model.manifest.dim for model in engine.models.values())


def _weigh_similarity(request: pb.StreamSimilarityRequest, *, row_bytes: int) -> int:
    """Bytes of a message, of its reply, and of the vectors that are made before its turn."""
    operand = request.documents if request.HasField("documents") else request.query.queries
    return 2 * request.ByteSize() + row_bytes * len(operand.texts.texts)


class _Step(NamedTuple):
    """A message of a StreamSimilarity whose texts are embedded and that was not yet applied."""

    request: pb.StreamSimilarityRequest
    outcome: Side | Exception | None
    started_ns: int


def _begin(corpus: Corpus, request: pb.StreamSimilarityRequest) -> Awaitable[_Step]:
    """Starts to work on a message. A setup takes effect here, before the next one is read."""
    started_ns = time.monotonic_ns()

    async def read() -> _Step:
        try:
            outcome: Side | Exception | None = failure or await corpus.read(request)
        except Exception as exc:
            outcome = exc
        return _Step(request, outcome, started_ns)

    failure: Exception | None = None
    try:
        corpus.set_up(request)
    except RequestError as exc:
        failure = exc
    return read()


async def _finish(corpus: Corpus, step: _Step) -> pb.StreamSimilarityResponse:
    """Applies a message when its turn has come, and answers it."""
    try:
        if isinstance(step.outcome, Exception):
            raise step.outcome
        response = await corpus.apply(step.request, step.outcome)
    except Exception as exc:
        response = pb.StreamSimilarityResponse(id=step.request.id, error=describe(exc))
    embedded = step.outcome.embedded if isinstance(step.outcome, Side) else []
    total_ns = time.monotonic_ns() - step.started_ns
    response.timings.CopyFrom(write_timings(embedded, total_ns=total_ns))
    return response


def _caller(*, waits: bool = False) -> Caller:
    """The caller of this task's call. Each call is a flow of its own, so that calls take turns."""
    call = calls.current.get()
    return Caller(object(), call.deadline_s, waits=waits, note=call.add)
