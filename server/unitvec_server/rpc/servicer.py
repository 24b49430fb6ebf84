"""The methods of the service: they pass what a message asks for to the engine, and answer."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import AsyncIterator, Awaitable
from typing import NamedTuple

from unitvec_protos import __version__
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_protos.v1 import embedding_pb2_grpc as pb_grpc
from unitvec_server.config import FixedLimits, ServerConfig
from unitvec_server.doors.backend import Backend
from unitvec_server.doors.calls import current_caller
from unitvec_server.engine.engine import Engine
from unitvec_server.engine.prompts import find_prompt
from unitvec_server.engine.requests import Caller, TextList
from unitvec_server.errors import RequestError
from unitvec_server.rpc.comparison import Side, compare
from unitvec_server.rpc.documents import Corpora, Corpus
from unitvec_server.rpc.intake import Context
from unitvec_server.rpc.interceptor import describe
from unitvec_server.rpc.messages import (
    read_dtype,
    read_options,
    read_truncation,
    write_canary,
    write_matrix,
    write_model,
    write_timings,
    write_tokenized,
    write_usage,
    write_windows,
)
from unitvec_server.rpc.streams import Streams

_SIMILARITY_AHEAD = 4
"""Messages of one StreamSimilarity in work: enough to keep the workers busy."""

_FLOAT_BYTES = 4


class EmbeddingServicer(pb_grpc.EmbeddingServiceServicer):
    """Serves `unitvec.v1.EmbeddingService`.

    Args:
        backend: The engine that embeds, once the models are loaded.
        streams: The flow control of all streams.
        config: The configuration, which has the limits with a flag.
        limits: The limits without a flag.
    """

    def __init__(
        self, backend: Backend, streams: Streams, config: ServerConfig, limits: FixedLimits
    ) -> None:
        self._backend, self._streams = backend, streams
        self._config, self._limits = config, limits
        self._corpora = Corpora(config.max_corpora_bytes)

    @property
    def corpora_bytes(self) -> int:
        """Bytes that all streams hold in vectors of documents."""
        return self._corpora.held_bytes

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        """Answers a list of texts with one matrix."""
        return await _embed(self._backend.engine, request, current_caller())

    async def StreamEmbed(
        self, request_iterator: AsyncIterator[pb.StreamEmbedRequest], context: Context
    ) -> AsyncIterator[pb.StreamEmbedResponse]:
        """Answers the requests of a stream by their ids, as they finish."""
        engine = self._backend.engine
        caller = current_caller(waits=True)

        async def answer(request: pb.StreamEmbedRequest) -> pb.StreamEmbedResponse:
            try:
                response = await _embed(engine, request.request, caller)
            except Exception as exc:
                return pb.StreamEmbedResponse(id=request.id, error=describe(exc))
            return pb.StreamEmbedResponse(id=request.id, response=response)

        row_bytes = _row_bytes(engine)

        def weigh(request: pb.StreamEmbedRequest) -> int:
            size_bytes = request.ByteSize()
            return size_bytes + row_bytes * _likely_rows(request.request, size_bytes)

        answered = self._streams.answer(request_iterator, answer, weigh=weigh, in_order=False)
        async with contextlib.aclosing(answered) as replies:
            async for reply in replies:
                yield reply

    async def Similarity(
        self, request: pb.SimilarityRequest, context: Context
    ) -> pb.SimilarityResponse:
        """Compares pairs, or each query with each document."""
        caller = current_caller()
        return await compare(self._backend.engine, request, caller=caller, limits=self._limits)

    async def StreamSimilarity(
        self, request_iterator: AsyncIterator[pb.StreamSimilarityRequest], context: Context
    ) -> AsyncIterator[pb.StreamSimilarityResponse]:
        """Takes documents and then queries over them, and answers in order."""
        engine = self._backend.engine
        caller = current_caller(waits=True)
        corpus = Corpus(engine, caller, limits=self._limits, corpora=self._corpora)
        begin = functools.partial(_begin, corpus)
        weigh = functools.partial(_weigh_similarity, row_bytes=_row_bytes(engine))
        begun = self._streams.answer(
            request_iterator, begin, weigh=weigh, in_order=True, most=_SIMILARITY_AHEAD
        )
        with contextlib.closing(corpus):
            async with contextlib.aclosing(begun) as steps:
                async for step in steps:
                    yield await _finish(corpus, step)

    async def Tokenize(self, request: pb.TokenizeRequest, context: Context) -> pb.TokenizeResponse:
        """Answers with token ids, tokens, offsets, and the part that Embed would cut."""
        engine = self._backend.engine
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
            space=model.identity.space,
            bits=model.identity.bits,
        )

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        """Answers with the models and the limits of this server."""
        models = self._backend.engine.models.values()
        limits = vars(self._config) | vars(self._limits)
        return pb.ListModelsResponse(
            models=[write_model(model, is_default=not index) for index, model in enumerate(models)],
            limits=pb.Limits(
                **{name: limits[name] for name in pb.Limits.DESCRIPTOR.fields_by_name}
            ),
            server_version=__version__,
        )

    async def GetCanary(
        self, request: pb.GetCanaryRequest, context: Context
    ) -> pb.GetCanaryResponse:
        """Answers with texts and the vectors that they had at export."""
        model = self._backend.engine.model(request.model)
        if request.prompt_name:
            find_prompt(model, request.prompt_name)  # refuses the name of none
        return write_canary(model, request.prompt_name)


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
        space=model.identity.space,
        bits=model.identity.bits,
        windows=write_windows(embedded.windows),
    )


def _likely_rows(request: pb.EmbedRequest, size_bytes: int) -> int:
    """About as many rows as the reply has: a window has more bytes than tokens."""
    count, options = len(request.texts), request.options
    if not options.HasField("windows") or options.windows.pooled:
        return count
    return count + size_bytes // max(1, options.windows.tokens)


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
