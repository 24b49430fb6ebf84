"""The client without I/O: each public method as a script, shared by both clients.

The two clients and this module work together so::

    Client / AsyncClient   -- arguments -->   Core: checks them at once
                           <-- script ----    (yields steps; see `steps`)
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from unitvec_client.connection import ConnectionOptions, call_metadata
from unitvec_client.core.backoff import Clock
from unitvec_client.core.calls import CallContext
from unitvec_client.core.decoding import row_bytes
from unitvec_client.core.diagnosis import Circumstances
from unitvec_client.core.inputs import (
    Side,
    check_iterable,
    check_side,
    check_text,
    check_texts,
    is_vectors,
)
from unitvec_client.core.splitting import Budget, make_budget
from unitvec_client.core.steps import Compute, Metadata, Script
from unitvec_client.expectation import ANY, Expectation
from unitvec_client.methods.administering import health, reload_models
from unitvec_client.methods.comparison import (
    Bounds,
    Scores,
    check_sides,
    compare,
    empty_scores,
    search,
    search_plan,
)
from unitvec_client.methods.embedding import Embedding, embed_at_once, empty_result
from unitvec_client.methods.partial import GivenTexts, give, spread
from unitvec_client.methods.searching import Documents
from unitvec_client.methods.server_facts import Knowledge
from unitvec_client.methods.streaming import stream_script
from unitvec_client.methods.tokenizing import Tokenizing
from unitvec_client.methods.verifying import verify
from unitvec_client.methods.window import MAX_WINDOW_CHUNKS, StreamWindow
from unitvec_client.methods.windowing import (
    Windowing,
    empty_windows,
    fit_windows,
    spread_windows,
)
from unitvec_client.options import (
    DTYPES,
    ERRORS,
    CallOptions,
    EmbedOptions,
    PooledWindows,
    ReloadOptions,
    SearchOptions,
    SimilarityOptions,
    StreamOptions,
    TokenizeOptions,
    VectorOptions,
    VerifyOptions,
)
from unitvec_client.results import (
    EmbedResult,
    Hit,
    ModelInfo,
    Rankings,
    ReloadedModel,
    ServerInfo,
    StoredHit,
    TokenizedText,
)
from unitvec_client.retry import RetryPolicy
from unitvec_client.stored.search import StoredSearch
from unitvec_client.values import check_type
from unitvec_client.verification import Verification
from unitvec_client.windowed import WindowedResult

T = TypeVar("T")

DEFAULT_TIMEOUT_S = 120.0
"""Time for one public call, retries included. Streams have none unless asked."""

# A ranking has an index and a score for each hit: a varint of up to 5 bytes and a float.
_SCORE_BYTES = 9


@dataclass(slots=True)
class Core:
    """Builds scripts. Keeps what was learned of the server, and nothing else.

    Attributes:
        target: Server to call, as gRPC takes it.
        connection: Options of the connection.
        policy: Rules of trying again.
        timeout_s: Time for calls that name none; None for no deadline.
        expect: Fingerprints that vectors must have.
        clock: Source of the time, in seconds.
        knowledge: Facts that the server stated.
    """

    target: str
    connection: ConnectionOptions
    policy: RetryPolicy
    timeout_s: float | None = DEFAULT_TIMEOUT_S
    expect: Expectation = ANY
    clock: Clock = field(default=time.monotonic, repr=False)
    knowledge: Knowledge = field(default_factory=Knowledge)
    _metadata: Metadata = field(init=False)

    def __post_init__(self) -> None:
        check_type("connection", self.connection, (ConnectionOptions,))
        check_type("retry", self.policy, (RetryPolicy,))
        self.timeout_s = CallOptions(timeout_s=self.timeout_s).timeout_s
        self._metadata = call_metadata(self.connection)

    # Each public method checks its arguments now and returns a script.

    def embed(self, texts: object, options: EmbedOptions) -> Script[EmbedResult]:
        """`embed` and `embed_result`: the vectors and what they cost; a single str is one text."""
        given = give(texts, partial=ERRORS[options.errors])
        context = self._context(options.timeout_s or self.timeout_s, given.texts)
        return self.knowledge.keep_right(context, partial(self._embed, context, given, options))

    def _embed(
        self, context: CallContext, given: GivenTexts, options: EmbedOptions
    ) -> Script[EmbedResult]:
        info, model = yield from self.knowledge.find(context, options.model)
        is_partial, texts = ERRORS[options.errors], given.texts
        if len(texts) == 1 and not is_partial and options.windows is None:
            return (yield from embed_at_once(context, texts, options))
        budget = self._embed_budget(info, model, options)
        if is_partial:
            given = given.within(budget)
            texts = given.texts
        result = empty_result(model.dim, model.name, options)
        if texts:
            result = yield from Embedding(context, texts, options, budget).run()
        for failed in result.errors:
            self.knowledge.note(failed.error)
        return spread(result, given)

    def embed_windows(self, texts: object, options: EmbedOptions) -> Script[WindowedResult]:
        """`embed` and `embed_result` where the windows of long texts are told apart."""
        given = give(texts, partial=ERRORS[options.errors])
        context = self._context(options.timeout_s or self.timeout_s, given.texts)
        attempt = partial(self._embed_windows, context, given, options)
        return self.knowledge.keep_right(context, attempt)

    def _embed_windows(
        self, context: CallContext, given: GivenTexts, options: EmbedOptions
    ) -> Script[WindowedResult]:
        info, model = yield from self.knowledge.find(context, options.model)
        budget = self._embed_budget(info, model, options)
        if ERRORS[options.errors]:
            given = given.within(budget)
        result = empty_windows(empty_result(model.dim, model.name, options))
        if given.texts:
            result = yield from Windowing(context, given.texts, options, budget).run()
        for failed in result.errors:
            self.knowledge.note(failed.error)
        return spread_windows(result, given)

    def embed_stream(self, options: StreamOptions) -> Script[None]:
        """`embed_stream`: pulls texts, emits items."""
        return self.knowledge.forget_on_error(self._embed_stream(options))

    def _embed_stream(self, options: StreamOptions) -> Script[None]:
        # A stream lasts as long as its input: only an explicit timeout bounds it.
        context = self._context(options.timeout_s)
        info, model = yield from self.knowledge.find(context, options.model)
        budget = self._embed_budget(info, model, options).with_items(options.chunk_texts)
        max_chunks = min(MAX_WINDOW_CHUNKS, info.limits.max_stream_requests or MAX_WINDOW_CHUNKS)
        window = StreamWindow(context, options, budget, max_chunks, self.knowledge.note)
        yield from stream_script(window)

    def similarity(
        self, a: object, b: object, options: SimilarityOptions
    ) -> Script[Scores | Rankings]:
        """`similarity`: scores (n, m), pairs (n,), or rankings (n, k)."""
        sides = check_side(a, "a"), check_side(b, "b")
        check_sides(*sides, pairs=options.pairs)
        texts = [text for side in sides for text in side.texts or ()]
        context = self._context(options.timeout_s or self.timeout_s, texts)
        attempt = partial(self._similarity, context, sides, options)
        return self.knowledge.keep_right(context, attempt)

    def _similarity(
        self, context: CallContext, sides: tuple[Side, Side], options: SimilarityOptions
    ) -> Script[Scores | Rankings]:
        empty = empty_scores(*sides, options)
        if empty is not None:
            return empty
        info, model = yield from self.knowledge.find(context, options.model)
        bounds = self._bounds(info, model, options.windows)
        return (yield from compare(context, sides, options, bounds))

    def search(
        self, queries: object, documents: object, options: SearchOptions
    ) -> Script[list[list[Hit]]]:
        """`search`: the hits of each query. Documents that are no array are pulled."""
        sides = check_side(queries, "queries"), _documents_side(documents)
        check_sides(*sides, pairs=False)
        # Documents that were pulled are gone, so this is not tried a second time.
        return self.knowledge.forget_on_error(self._search(*sides, options))

    def _search(
        self, queries: Side, documents: Side, options: SearchOptions
    ) -> Script[list[list[Hit]]]:
        if not len(queries):
            return []
        context = self._context(options.timeout_s or self.timeout_s)
        info, model = yield from self.knowledge.find(context, options.model)
        bounds = self._bounds(info, model, options.windows)
        plan = search_plan(queries, options, bounds, context.expect)
        pulled = Documents(documents, pulling=documents.texts is not None)
        return (yield from search(context, plan, pulled))

    def search_stored(
        self, queries: object, stored: StoredSearch, options: SearchOptions
    ) -> Script[list[list[StoredHit]]]:
        """`search` of stored vectors: the hits of each query, of which texts are embedded first."""
        side = check_side(queries, "queries")
        if side.vectors is not None:
            return _compute(partial(stored.run, side.vectors))
        return self._search_stored(self.embed(side.texts, options.for_queries()), stored)

    def _search_stored(
        self, embedding: Script[EmbedResult], stored: StoredSearch
    ) -> Script[list[list[StoredHit]]]:
        found = yield from embedding
        made_by = {"space": found.space, "model": found.model}
        return (yield from _compute(partial(stored.run, found.vectors, **made_by)))

    def tokenize(self, texts: object, options: TokenizeOptions) -> Script[list[TokenizedText]]:
        """`tokenize`: one result for each text; a single str is one text."""
        checked = [check_text(texts, "texts")] if isinstance(texts, str) else check_texts(texts)
        context = self._context(options.timeout_s or self.timeout_s, checked)
        attempt = partial(self._tokenize, context, checked, options)
        return self.knowledge.keep_right(context, attempt)

    def _tokenize(
        self, context: CallContext, texts: list[str], options: TokenizeOptions
    ) -> Script[list[TokenizedText]]:
        if not texts:
            return []
        info, model = yield from self.knowledge.find(context, options.model)
        budget = self._bounds(info, model).budget
        return (yield from Tokenizing(context, texts, options, budget).run())

    def models(self, options: CallOptions) -> Script[ServerInfo]:
        """`models`: asks the server each time, and remembers the answer."""
        return self.knowledge.ask(self._context(options.timeout_s or self.timeout_s))

    def verify(self, options: VerifyOptions) -> Script[Verification]:
        """`verify`: the vectors of a few texts against those of the model's export."""
        return verify(self._context(options.timeout_s or self.timeout_s), options.model)

    def reload_models(self, options: ReloadOptions) -> Script[tuple[ReloadedModel, ...]]:
        """`reload_models`: what came of each model."""
        return reload_models(self._context(options.timeout_s or self.timeout_s), options.model)

    def health(self, service: object, options: CallOptions) -> Script[str]:
        """`health`: one question, no retries."""
        check_type("service", service, (str,))
        return health(self._context(options.timeout_s or self.timeout_s), str(service))

    def _context(self, timeout_s: float | None, texts: Sequence[str] = ()) -> CallContext:
        """Return what the requests of one call have in common; its time runs from here on."""
        request_id = uuid.uuid4().hex
        metadata = (("x-request-id", request_id), *self._metadata)
        deadline_s = None if timeout_s is None else self.clock() + timeout_s
        token_chars = len(self.connection.token or "")
        about = Circumstances(self.target, self.connection.tls, token_chars, timeout_s, texts)
        return CallContext(
            request_id, metadata, self.policy, deadline_s, self.clock, about, self.expect
        )

    def _embed_budget(self, info: ServerInfo, model: ModelInfo, options: VectorOptions) -> Budget:
        dim = min(model.dim, options.dimensions or model.dim)
        reply_bytes = row_bytes(dim, DTYPES[options.dtype])
        budget = make_budget(info.limits, model, reply_bytes, self.connection.max_message_bytes)
        if options.windows is None:
            return budget
        return fit_windows(budget, options.windows, info.limits, model)

    def _bounds(
        self, info: ServerInfo, model: ModelInfo, windows: PooledWindows | None = None
    ) -> Bounds:
        # `max_scores` bounds scores and rankings, so that a row counts for little here.
        budget = make_budget(info.limits, model, 8, self.connection.max_message_bytes)
        if windows is not None:
            budget = fit_windows(budget, windows, info.limits, model)
        scores_that_fit = budget.request_bytes // _SCORE_BYTES
        max_scores = min(info.limits.max_scores or scores_that_fit, scores_that_fit)
        return Bounds(budget, max(1, max_scores))


def _compute(work: Callable[[], T]) -> Script[T]:
    found: T = yield Compute(work)
    return found


def _documents_side(documents: object) -> Side:
    """Return vectors as they are. Texts are pulled later, so none are known yet."""
    if is_vectors(documents):
        return check_side(documents, "documents")
    check_iterable(documents, "documents")
    return Side(texts=[])
