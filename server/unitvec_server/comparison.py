"""The similarity RPCs: operands (texts or vectors) -> scores or rankings, as messages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np

from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_server.engine import Caller, Embedded, Engine, Model
from unitvec_server.errors import InvalidRequest
from unitvec_server.messages import (
    read_matrix,
    read_metric,
    read_options,
    write_matrix,
    write_rankings,
    write_timings,
    write_usage,
)
from unitvec_server.similarity import Metric, cross_scores, pair_scores, prepare, top_k
from unitvec_server.vectors import Floats

_T = TypeVar("_T")


class Side(NamedTuple):
    """One operand as vectors.

    Attributes:
        vectors: (n, D) float32.
        embedded: What embedding its texts cost; nothing for given vectors.
    """

    vectors: Floats
    embedded: list[Embedded]


async def read_side(
    engine: Engine, model: Model, operand: pb.Operand, *, caller: Caller, field: str
) -> Side:
    """Embeds the texts of an operand, or reads its vectors.

    Raises:
        RequestError: It cannot be used; the error names the field.
    """
    kind = operand.WhichOneof("values")
    if kind == "texts":
        options = read_options(operand.options, field=f"{field}.options")
        embedded = await engine.embed(
            model, operand.texts.texts, options, caller=caller, field=f"{field}.texts"
        )
        return Side(embedded.vectors, [embedded])
    if kind == "vectors":
        read = lambda: read_matrix(operand.vectors, field=f"{field}.vectors")  # noqa: E731
        return Side(await _off_loop(engine, read), [])
    raise InvalidRequest("give texts or vectors", reason="MISSING_FIELD", field=field)


async def compare(
    engine: Engine, request: pb.SimilarityRequest, *, caller: Caller, max_scores: int
) -> pb.SimilarityResponse:
    """Answers a SimilarityRequest.

    Raises:
        RequestError: It cannot be answered.
    """
    started_ns = time.monotonic_ns()
    model, metric = engine.model(request.model), read_metric(request.metric)
    kind = request.WhichOneof("comparison")
    if kind is None:
        raise InvalidRequest("give pairs or cross", reason="MISSING_FIELD", field="comparison")
    if kind == "pairs":
        operands = {"pairs.a": request.pairs.a, "pairs.b": request.pairs.b}
    else:
        operands = {
            "cross.queries": request.cross.queries,
            "cross.documents": request.cross.documents,
        }
    left, right = await asyncio.gather(
        *(
            read_side(engine, model, operand, caller=caller, field=field)
            for field, operand in operands.items()
        )
    )
    response = pb.SimilarityResponse(model=model.name)
    if kind == "pairs":
        scores = await _off_loop(engine, lambda: _pairs(left.vectors, right.vectors, metric))
        response.scores.CopyFrom(write_matrix(scores[:, None], as_list=request.as_list))
    else:
        reply = _Reply(request.cross.top_k, as_list=request.as_list, max_scores=max_scores)
        result = await _off_loop(
            engine, lambda: _search(left.vectors, right.vectors, metric, reply)
        )
        if not request.cross.top_k:
            response.scores.CopyFrom(result.scores)
        response.rankings.extend(result.rankings)
    embedded = left.embedded + right.embedded
    response.usage.CopyFrom(write_usage(embedded))
    total_ns = time.monotonic_ns() - started_ns
    response.timings.CopyFrom(write_timings(embedded, total_ns=total_ns))
    return response


class _Reply(NamedTuple):
    """How scores are wanted."""

    top_k: int
    as_list: bool
    max_scores: int


class Corpus:
    """The documents of one StreamSimilarity, and searches over them.

    `read` may run for several messages at a time; `apply` must run in request order.

    Args:
        engine: Embeds texts.
        caller: Whose stream it is.
        max_documents: Most documents.
        max_scores: Most scores in one reply.
    """

    def __init__(
        self, engine: Engine, caller: Caller, *, max_documents: int, max_scores: int
    ) -> None:
        self._engine = engine
        self._caller = caller
        self._max_documents = max_documents
        self._max_scores = max_scores
        self._model = engine.model("")
        self._metric = Metric.COSINE
        self._documents: Floats = np.empty((0, 0), np.float32)  # (capacity, D)
        self._count = 0
        self._begun = False

    def set_up(self, request: pb.StreamSimilarityRequest) -> None:
        """Takes note of a message before the next is read: a setup holds for all that follow.

        Raises:
            RequestError: A setup that comes late or cannot be met.
        """
        first, self._begun = not self._begun, True
        if request.WhichOneof("action") != "setup":
            return
        if not first:
            raise InvalidRequest("setup must be the first message", field="setup")
        self._model = self._engine.model(request.setup.model)
        self._metric = read_metric(request.setup.metric)

    async def read(self, request: pb.StreamSimilarityRequest) -> Side | None:
        """Embeds what a message brings; None for a setup.

        Raises:
            RequestError: It cannot be used.
        """
        kind = request.WhichOneof("action")
        if kind == "setup":
            return None
        if kind == "documents":
            operand, field = request.documents, "documents"
        elif kind == "query":
            operand, field = request.query.queries, "query.queries"
        else:
            raise InvalidRequest(
                "give setup, documents or query", reason="MISSING_FIELD", field="action"
            )
        side = await read_side(self._engine, self._model, operand, caller=self._caller, field=field)
        vectors = await _off_loop(self._engine, lambda: prepare(side.vectors, self._metric))
        return Side(vectors, side.embedded)

    async def apply(
        self, request: pb.StreamSimilarityRequest, side: Side | None
    ) -> pb.StreamSimilarityResponse:
        """Adds the documents or answers the query.

        Raises:
            RequestError: The documents do not fit, or the query cannot be answered.
        """
        response = pb.StreamSimilarityResponse(id=request.id)
        if side is None:
            response.setup.model = self._model.name
            return response
        if request.WhichOneof("action") == "documents":
            added = await _off_loop(self._engine, lambda: self._add(side.vectors))
            response.documents.CopyFrom(added)
        else:
            result = await _off_loop(self._engine, lambda: self._query(request.query, side.vectors))
            response.result.CopyFrom(result)
        response.usage.CopyFrom(write_usage(side.embedded))
        return response

    def _add(self, vectors: Floats) -> pb.DocumentsAdded:
        first, total = self._count, self._count + len(vectors)
        if total > self._max_documents:
            raise InvalidRequest(
                f"the stream would have {total} documents; the limit max_stream_documents is "
                f"{self._max_documents}",
                reason="TOO_MANY_DOCUMENTS",
                field="documents",
            )
        if first and vectors.shape[1] != self._documents.shape[1]:
            raise _dimension_mismatch(vectors, self._documents, "documents")
        if total > len(self._documents):
            capacity = min(max(total, 2 * len(self._documents)), self._max_documents)
            grown = np.empty((capacity, vectors.shape[1]), np.float32)
            if first:
                grown[:first] = self._documents[:first]
            self._documents = grown
        self._documents[first:total] = vectors
        self._count = total
        return pb.DocumentsAdded(first_index=first, count=len(vectors))

    def _query(self, query: pb.SimilarityQuery, vectors: Floats) -> pb.QueryResult:
        if not self._count:
            raise InvalidRequest(
                "there are no documents yet; send documents before queries",
                reason="NO_DOCUMENTS",
                field="query",
            )
        reply = _Reply(query.top_k, as_list=query.as_list, max_scores=self._max_scores)
        documents = self._documents[: self._count]
        return _score(vectors, documents, self._metric, reply)


def _pairs(a: Floats, b: Floats, metric: Metric) -> Floats:
    if len(a) != len(b):
        raise InvalidRequest(
            f"pairs.a has {len(a)} entries and pairs.b has {len(b)}; they must match",
            reason="PAIR_COUNT_MISMATCH",
            field="pairs",
        )
    _check_dims(a, b, "pairs")
    return pair_scores(prepare(a, metric), prepare(b, metric), metric)


def _search(queries: Floats, documents: Floats, metric: Metric, reply: _Reply) -> pb.QueryResult:
    return _score(prepare(queries, metric), prepare(documents, metric), metric, reply)


def _score(queries: Floats, documents: Floats, metric: Metric, reply: _Reply) -> pb.QueryResult:
    """Scores prepared vectors and writes them as asked."""
    _check_dims(queries, documents, "queries")
    width = min(reply.top_k, len(documents)) or len(documents)
    if len(queries) * width > reply.max_scores:
        raise InvalidRequest(
            f"the reply would have {len(queries)} * {width} scores; the limit max_scores is "
            f"{reply.max_scores}; set or lower top_k, or send fewer queries at a time",
            reason="TOO_MANY_SCORES",
            field="top_k",
        )
    if reply.top_k:
        rankings = write_rankings(top_k(queries, documents, metric, reply.top_k))
        return pb.QueryResult(rankings=rankings)
    scores = cross_scores(queries, documents, metric)
    return pb.QueryResult(scores=write_matrix(scores, as_list=reply.as_list))


def _check_dims(a: Floats, b: Floats, field: str) -> None:
    if a.shape[1] != b.shape[1]:
        raise _dimension_mismatch(a, b, field)


def _dimension_mismatch(a: Floats, b: Floats, field: str) -> InvalidRequest:
    return InvalidRequest(
        f"vectors of {a.shape[1]} and of {b.shape[1]} dimensions cannot be compared",
        reason="DIMENSION_MISMATCH",
        field=field,
    )


async def _off_loop(engine: Engine, work: Callable[[], _T]) -> _T:
    return await asyncio.get_running_loop().run_in_executor(engine.executor, work)
