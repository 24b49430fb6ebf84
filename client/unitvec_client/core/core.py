"""The client without I/O: each public method as a script, shared by both clients.

Client / AsyncClient  -- arguments -->  Core: check them, at once
<-- script ----   (yields steps; see `steps`)
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import numpy as np
from google.protobuf.wrappers_pb2 import StringValue
from numpy.typing import NDArray

from unitvec_client.connection import ConnectionOptions, call_metadata
from unitvec_client.core.backoff import Clock
from unitvec_client.core.calls import CallContext
from unitvec_client.core.comparison import (
    Bounds,
    Scores,
    check_sides,
    compare,
    empty_scores,
    search,
    search_plan,
)
from unitvec_client.core.decoding import row_bytes
from unitvec_client.core.embedding import Embedding, empty_result
from unitvec_client.core.failures import Failure
from unitvec_client.core.inputs import Side, check_iterable, check_side, check_text, check_texts
from unitvec_client.core.rpcs import HEALTH_CHECK, HEALTH_STATUSES
from unitvec_client.core.searching import Documents
from unitvec_client.core.server_facts import Knowledge
from unitvec_client.core.splitting import Budget, make_budget
from unitvec_client.core.steps import Invoke, Script
from unitvec_client.core.streaming import MAX_WINDOW_CHUNKS, StreamWindow, stream_script
from unitvec_client.core.tokenizing import Tokenizing
from unitvec_client.options import (
    DTYPES,
    CallOptions,
    EmbedOptions,
    SearchOptions,
    SimilarityOptions,
    StreamOptions,
    TokenizeOptions,
    check_type,
    parse_options,
)
from unitvec_client.results import (
    EmbedResult,
    Hit,
    ModelInfo,
    Rankings,
    ServerInfo,
    TokenizedText,
)
from unitvec_client.retry import RetryPolicy

T = TypeVar("T")

DEFAULT_TIMEOUT_S = 120.0
"""Time for one public call, retries included. Streams have none unless asked."""

# An index and a score of a ranking: a varint of up to 5 bytes and a float.
_SCORE_BYTES = 9
Keywords = Any
"""A method's keywords, not yet checked."""


@dataclass(slots=True)
class Core:
    """Builds scripts. Keeps what was learned of the server, and nothing else.

    Attributes:
        connection: Token and message bound.
        policy: When to try again.
        timeout_s: Where a call names none; None for no deadline.
        clock: Seconds.
        knowledge: What was learned.
    """

    connection: ConnectionOptions
    policy: RetryPolicy
    timeout_s: float | None = DEFAULT_TIMEOUT_S
    clock: Clock = field(default=time.monotonic, repr=False)
    knowledge: Knowledge = field(default_factory=Knowledge)

    def __post_init__(self) -> None:
        check_type("connection", self.connection, (ConnectionOptions,))
        check_type("retry", self.policy, (RetryPolicy,))
        CallOptions(timeout_s=self.timeout_s)

    # Each public method: check now, return a script.

    def embed(self, texts: object, keywords: Keywords) -> Script[NDArray[Any]]:
        """`embed`: the vectors (n, D), or (D,) for a single str."""
        single = isinstance(texts, str)
        script = self.embed_result(texts, keywords)
        return self._embed_values(script, single=single)

    def _embed_values(self, script: Script[EmbedResult], *, single: bool) -> Script[NDArray[Any]]:
        result = yield from script
        values = result.values()
        return values[0] if single else values

    def embed_result(self, texts: object, keywords: Keywords) -> Script[EmbedResult]:
        """`embed_result`: the vectors and what they cost; a single str is one text."""
        options = parse_options(EmbedOptions, keywords)
        checked = [check_text(texts, "texts")] if isinstance(texts, str) else check_texts(texts)
        return self._run(options, lambda context: self._embed(context, checked, options))

    def _embed(
        self, context: CallContext, texts: list[str], options: EmbedOptions
    ) -> Script[EmbedResult]:
        info, model = yield from self.knowledge.find(context, options.model)
        if not texts:
            return empty_result(model.dim, model.name, options)
        budget = self._embed_budget(info, model, options)
        return (yield from Embedding(context, texts, options, budget).run())

    def embed_stream(self, keywords: Keywords) -> Script[None]:
        """`embed_stream`: pulls texts, emits items."""
        options = parse_options(StreamOptions, keywords)
        return self.knowledge.forget_on_error(self._embed_stream(options))

    def _embed_stream(self, options: StreamOptions) -> Script[None]:
        # A stream lasts as long as its input: only an explicit timeout bounds it.
        context = self._make_context(options.timeout_s)
        info, model = yield from self.knowledge.find(context, options.model)
        budget = self._embed_budget(info, model, options).with_items(options.chunk_texts)
        max_chunks = min(MAX_WINDOW_CHUNKS, info.limits.max_stream_requests or MAX_WINDOW_CHUNKS)
        window = StreamWindow(context, options, budget, max_chunks, self.knowledge.note)
        yield from stream_script(window)

    def similarity(self, a: object, b: object, keywords: Keywords) -> Script[Scores | Rankings]:
        """`similarity`: scores (n, m), pairs (n,), or rankings (n, k)."""
        options = parse_options(SimilarityOptions, keywords)
        sides = check_side(a, "a"), check_side(b, "b")
        check_sides(*sides, pairs=options.pairs)
        return self._run(options, lambda context: self._similarity(context, sides, options))

    def _similarity(
        self, context: CallContext, sides: tuple[Side, Side], options: SimilarityOptions
    ) -> Script[Scores | Rankings]:
        empty = empty_scores(*sides, options)
        if empty is not None:
            return empty
        info, model = yield from self.knowledge.find(context, options.model)
        bounds = self._bounds(info, model)
        return (yield from compare(context, sides, options, bounds))

    def search(
        self, queries: object, documents: object, keywords: Keywords
    ) -> Script[list[list[Hit]]]:
        """`search`: the hits of each query. Documents that are no array are pulled."""
        options = parse_options(SearchOptions, keywords)
        sides = check_side(queries, "queries"), _documents_side(documents)
        check_sides(*sides, pairs=False)
        # Documents that were pulled are gone: no second try here.
        return self.knowledge.forget_on_error(self._search(*sides, options))

    def _search(
        self, queries: Side, documents: Side, options: SearchOptions
    ) -> Script[list[list[Hit]]]:
        if not len(queries):
            return []
        context = self._context(options)
        info, model = yield from self.knowledge.find(context, options.model)
        plan = search_plan(queries, options, self._bounds(info, model))
        pulled = Documents(documents, pulling=documents.texts is not None)
        return (yield from search(context, plan, pulled))

    def tokenize(
        self, texts: object, keywords: Keywords
    ) -> Script[TokenizedText | list[TokenizedText]]:
        """`tokenize`: one for each text; a single str gives a single one."""
        options = parse_options(TokenizeOptions, keywords)
        single = isinstance(texts, str)
        checked = [check_text(texts, "texts")] if isinstance(texts, str) else check_texts(texts)
        script = self._run(options, lambda context: self._tokenize(context, checked, options))
        return self._tokenize_texts(script, single=single)

    def _tokenize_texts(
        self, script: Script[list[TokenizedText]], *, single: bool
    ) -> Script[TokenizedText | list[TokenizedText]]:
        found = yield from script
        return found[0] if single else found

    def _tokenize(
        self, context: CallContext, texts: list[str], options: TokenizeOptions
    ) -> Script[list[TokenizedText]]:
        if not texts:
            return []
        info, model = yield from self.knowledge.find(context, options.model)
        budget = self._bounds(info, model).budget
        return (yield from Tokenizing(context, texts, options, budget).run())

    def models(self, keywords: Keywords) -> Script[ServerInfo]:
        """`models`: asks the server each time, and remembers the answer."""
        options = parse_options(CallOptions, keywords)
        return self._learn_info(options)

    def _learn_info(self, options: CallOptions) -> Script[ServerInfo]:
        return (yield from self.knowledge.ask(self._context(options)))

    def health(self, service: object, keywords: Keywords) -> Script[str]:
        """`health`: one question, no retries."""
        options = parse_options(CallOptions, keywords)
        check_type("service", service, (str,))
        return self._health(str(service), options)

    def _health(self, service: str, options: CallOptions) -> Script[str]:
        context = self._context(options)
        request = StringValue(value=service)
        outcome = yield Invoke(context.call(HEALTH_CHECK, request))
        if not isinstance(outcome, Failure):
            return HEALTH_STATUSES.get(outcome.value, "UNKNOWN")
        if outcome.code is grpc.StatusCode.NOT_FOUND:
            return "SERVICE_UNKNOWN"
        raise outcome.to_exception(context.request_id)

    # What they have in common.

    def _context(self, options: CallOptions) -> CallContext:
        return self._make_context(options.timeout_s or self.timeout_s)

    def _make_context(self, timeout_s: float | None) -> CallContext:
        request_id = uuid.uuid4().hex
        metadata = (("x-request-id", request_id), *call_metadata(self.connection))
        deadline_s = None if timeout_s is None else self.clock() + timeout_s
        return CallContext(request_id, metadata, self.policy, deadline_s, self.clock)

    def _run(self, options: CallOptions, attempt: Callable[[CallContext], Script[T]]) -> Script[T]:
        """Make a call that can be repeated, where the server turns out to have changed."""
        context = self._context(options)
        return (yield from self.knowledge.keep_right(context, lambda: attempt(context)))

    def _embed_budget(self, info: ServerInfo, model: ModelInfo, options: EmbedOptions) -> Budget:
        dim = min(model.dim, options.dimensions or model.dim)
        reply_bytes = row_bytes(dim, DTYPES[options.dtype])
        return make_budget(info.limits, model, reply_bytes, self.connection.max_message_bytes)

    def _bounds(self, info: ServerInfo, model: ModelInfo) -> Bounds:
        # Scores and rankings are bounded by max_scores; a row's own part is small.
        budget = make_budget(info.limits, model, 8, self.connection.max_message_bytes)
        scores_that_fit = budget.request_bytes // _SCORE_BYTES
        max_scores = min(info.limits.max_scores or scores_that_fit, scores_that_fit)
        return Bounds(budget, max(1, max_scores))


def _documents_side(documents: object) -> Side:
    """Return vectors as they are; texts are pulled, so none are known yet."""
    if isinstance(documents, np.ndarray) and documents.dtype.kind not in "UOS":
        return check_side(documents, "documents")
    check_iterable(documents, "documents")
    return Side(texts=[])
