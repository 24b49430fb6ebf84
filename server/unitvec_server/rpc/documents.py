"""The documents of one StreamSimilarity, which are kept for as long as the stream lasts."""

from __future__ import annotations

import functools
import threading
import weakref

import numpy as np

from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_server.config import FixedLimits
from unitvec_server.engine.engine import Engine
from unitvec_server.engine.requests import Caller
from unitvec_server.engine.watchdog import run_off_loop
from unitvec_server.errors import InvalidRequest, Overloaded, RequestError
from unitvec_server.rpc.comparison import (
    Reply,
    Side,
    dimension_mismatch,
    read_sides,
    score,
)
from unitvec_server.rpc.messages import read_metric, write_usage
from unitvec_server.vectors.packing import Floats
from unitvec_server.vectors.scores import Metric, prepare

_RETRY_S = 1.0

_FLOAT_BYTES = np.dtype(np.float32).itemsize


class Corpora:
    """The bytes of vectors that all streams hold. Its methods may be called from any thread.

    Args:
        max_bytes: The limit.

    Attributes:
        held_bytes: The bytes that are held now.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # The interpreter may free a matrix at any moment, even while this thread holds the lock.
        self._lock = threading.RLock()
        self.held_bytes = 0

    def allocate(self, rows: int, *, dim: int) -> Floats | None:
        """Returns an uninitialized matrix, or None when there is no room.

        Its bytes count for as long as anything refers to it.
        """
        size_bytes = rows * dim * _FLOAT_BYTES
        with self._lock:
            if self.held_bytes + size_bytes > self._max_bytes:
                return None
            matrix = np.empty((rows, dim), np.float32)
            weakref.finalize(matrix, self._free, size_bytes).atexit = False
            self.held_bytes += size_bytes
        return matrix

    def _free(self, size_bytes: int) -> None:
        with self._lock:
            self.held_bytes -= size_bytes

    def overloaded(self) -> Overloaded:
        """Returns the error for a stream that finds no room."""
        return Overloaded(
            f"the documents of all streams may take {self._max_bytes} bytes (max_corpora_bytes), "
            f"of which {self.held_bytes} are taken; try again later, or another server",
            retry_delay_s=_RETRY_S,
            bound="max_corpora_bytes",
        )


class Corpus:
    """The documents of one StreamSimilarity, and searches over them.

    `read` may run for several messages at a time; `apply` must run in request order.

    Args:
        engine: The engine that embeds texts.
        caller: The caller of the stream.
        limits: The limits of what one stream may hold and compare.
        corpora: The bytes that all streams hold.
    """

    def __init__(
        self, engine: Engine, caller: Caller, *, limits: FixedLimits, corpora: Corpora
    ) -> None:
        self._engine = engine
        self._caller = caller
        self._limits = limits
        self._corpora = corpora
        self._model = engine.model("")
        self._metric = Metric.COSINE
        self._documents: Floats = np.empty((0, 0), np.float32)  # (capacity, D)
        self._count = 0
        self._begun = False
        self._setup_error: RequestError | None = None

    def close(self) -> None:
        """Lets go of the documents."""
        self._documents, self._count = np.empty((0, 0), np.float32), 0

    def set_up(self, request: pb.StreamSimilarityRequest) -> None:
        """Looks at a message before the next one is read, since a setup is for all that follow.

        Raises:
            RequestError: A setup comes late or cannot be met.
        """
        first, self._begun = not self._begun, True
        if self._setup_error is not None:
            raise self._setup_error
        if request.WhichOneof("action") != "setup":
            return
        if not first:
            raise InvalidRequest("setup must be the first message", field="setup")
        try:
            self._model = self._engine.model(request.setup.model)
            self._metric = read_metric(request.setup.metric)
        except RequestError as exc:
            # The messages that follow were meant for another model or metric: they all fail.
            self._setup_error = exc
            raise

    async def read(self, request: pb.StreamSimilarityRequest) -> Side | None:
        """Embeds the documents or queries of a message; a setup has none.

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
        operands = {field: operand}
        [side] = await read_sides(self._engine, self._model, operands, caller=self._caller)
        make = functools.partial(prepare, side.vectors, self._metric)
        vectors = await run_off_loop(self._engine.executor, make)
        return Side(vectors, side.embedded)

    async def apply(
        self, request: pb.StreamSimilarityRequest, side: Side | None
    ) -> pb.StreamSimilarityResponse:
        """Adds the documents or answers the query.

        Raises:
            RequestError: The documents do not fit, or the query cannot be answered.
        """
        space, bits = self._model.identity
        response = pb.StreamSimilarityResponse(id=request.id, space=space, bits=bits)
        if side is None:
            response.setup.model = self._model.name
            return response
        if request.WhichOneof("action") == "documents":
            add = functools.partial(self._add, side.vectors)
            response.documents.CopyFrom(await run_off_loop(self._engine.comparing, add))
        else:
            await self._query(request.query, side.vectors, result=response.result)
        response.usage.CopyFrom(write_usage(side.embedded))
        return response

    def _add(self, vectors: Floats) -> pb.DocumentsAdded:
        first, total = self._count, self._count + len(vectors)
        self._check_room(total, vectors.shape[1])
        if first and vectors.shape[1] != self._documents.shape[1]:
            raise dimension_mismatch(vectors, self._documents, "documents")
        if total > len(self._documents):
            self._grow(total, dim=vectors.shape[1])
        self._documents[first:total] = vectors
        self._count = total
        return pb.DocumentsAdded(first_index=first, count=len(vectors))

    def _grow(self, total: int, *, dim: int) -> None:
        """Makes room for so many documents, and for twice as many as now if there is memory."""
        doubled = min(max(total, 2 * len(self._documents)), self._limits.max_stream_documents)
        grown = self._corpora.allocate(doubled, dim=dim)
        if grown is None:
            grown = self._corpora.allocate(total, dim=dim)
        if grown is None:
            raise self._corpora.overloaded()
        if self._count:
            grown[: self._count] = self._documents[: self._count]
        self._documents = grown

    def _check_room(self, total: int, dim: int) -> None:
        size_bytes = total * dim * _FLOAT_BYTES
        for count, limit, name, unit in (
            (total, self._limits.max_stream_documents, "max_stream_documents", "documents"),
            (size_bytes, self._limits.max_stream_bytes, "max_stream_bytes", "bytes of vectors"),
        ):
            if count > limit:
                raise InvalidRequest(
                    f"the stream would have {count} {unit}; the limit {name} is {limit}",
                    reason="TOO_MANY_DOCUMENTS",
                    field="documents",
                )

    async def _query(
        self, query: pb.SimilarityQuery, vectors: Floats, *, result: pb.QueryResult
    ) -> None:
        if not self._count:
            raise InvalidRequest(
                "there are no documents yet; send documents before queries",
                reason="NO_DOCUMENTS",
                field="query",
            )
        reply = Reply(result, self._metric, query.top_k, query.as_list, self._limits)
        documents = self._documents[: self._count]
        await score(self._engine, vectors, documents, reply)
