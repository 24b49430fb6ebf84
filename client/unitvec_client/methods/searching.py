"""Search over StreamSimilarity: documents in as many messages as needed, then the queries.

The stream is one unit: where it breaks, or the server sheds one of its messages, it is opened
again and the documents, which are kept for that and for the hits' texts, are sent again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from unitvec_client.core.backoff import Backoff
from unitvec_client.core.calls import CallContext
from unitvec_client.core.failures import Failure, failure_of_item
from unitvec_client.core.inputs import Side, check_text, utf8_bytes
from unitvec_client.core.rpcs import STREAM_SIMILARITY
from unitvec_client.core.splitting import Budget, split
from unitvec_client.core.steps import END, Finish, Open, Pull, Receive, Script, Send, Sleep
from unitvec_client.errors import ErrorFacts, ProtocolError, UnitvecError, at_field
from unitvec_protos.v1 import embedding_pb2 as pb

_MAX_UNANSWERED = 8


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """What is searched for, and how.

    Attributes:
        setup: Model and metric.
        queries: All queries, at least one.
        query_options: Options by which query texts become vectors.
        document_options: Options by which document texts become vectors.
        top_k: Number of documents for each query; 0 for all scores.
        budget: Bounds of one message.
        max_scores: Highest number of queries times documents of one message.
    """

    setup: pb.SimilaritySetup
    queries: Side
    query_options: pb.EncodeOptions
    document_options: pb.EncodeOptions
    top_k: int
    budget: Budget
    max_scores: int


@dataclass(slots=True)
class Documents:
    """The documents: all known at once, or pulled from the caller's iterable.

    Attributes:
        side: Documents that are known so far; they grow while `pulling`.
        pulling: Whether the caller's iterable may hold more.
    """

    side: Side
    pulling: bool = False
    _sizes_bytes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.pulling:
            self._sizes_bytes = self.side.sizes_bytes

    def __len__(self) -> int:
        return len(self._sizes_bytes)

    def next_range(self, start: int, budget: Budget) -> Script[tuple[int, int] | None]:
        """Return the next range from `start` that fills a message; None at the end."""
        measure = budget.measure()
        stop = start
        while (yield from self._know(stop)) and measure.fits(self._sizes_bytes[stop]):
            budget.check_size(self._sizes_bytes[stop], f"documents[{stop}]")
            measure.add(self._sizes_bytes[stop])
            stop += 1
        return (start, stop) if stop > start else None

    def _know(self, index: int) -> Script[bool]:
        """Pull until there is a document of this index; return whether there is one."""
        while self.pulling and index >= len(self):
            item = yield Pull()
            if item is END:
                self.pulling = False
            else:
                self._append(item)
        return index < len(self)

    def _append(self, item: object) -> None:
        text = check_text(item, f"documents[{len(self)}]")
        if self.side.texts is not None:
            self.side.texts.append(text)
            self._sizes_bytes.append(utf8_bytes(text))


@dataclass(frozen=True, slots=True)
class _Sent:
    kind: str
    start: int = 0
    stop: int = 0


@dataclass(slots=True)
class Search:
    """One search.

    Attributes:
        context: Circumstances of the call.
        plan: Queries and how they are asked.
        documents: Documents that are searched.
    """

    context: CallContext
    plan: SearchPlan
    documents: Documents
    _unanswered: deque[_Sent] = field(default_factory=deque)
    _results: list[tuple[int, pb.QueryResult]] = field(default_factory=list)

    def run(self) -> Script[list[tuple[int, pb.QueryResult]]]:
        """Return the results: (number of queries, reply) of each message, in order.

        Raises:
            UnitvecError: If it fails for good.
        """
        backoff = Backoff(self.context.policy)
        while True:
            self._unanswered.clear()
            self._results.clear()
            failure = yield from self._attempt()
            if failure is None:
                return self._results
            yield Sleep(self.context.delay_s(backoff, failure))

    def _attempt(self) -> Script[Failure | None]:
        yield Open(self.context.call(STREAM_SIMILARITY))
        setup = pb.StreamSimilarityRequest(id="setup", setup=self.plan.setup)
        failure = yield from self._send(setup, _Sent("setup"))
        failure = failure or (yield from self._send_documents())
        if failure is None and len(self.documents):
            failure = yield from self._send_queries()
        while failure is None and self._unanswered:
            failure = yield from self._receive()
        if failure is None:
            yield Finish()
            yield Receive()
        return failure

    def _send_documents(self) -> Script[Failure | None]:
        start = 0
        while (span := (yield from self.documents.next_range(start, self.plan.budget))) is not None:
            operand = self.documents.side.to_proto(*span, self.plan.document_options)
            message = pb.StreamSimilarityRequest(id=f"documents:{start}", documents=operand)
            failure = yield from self._send(message, _Sent("documents", *span))
            if failure is not None:
                return failure
            start = span[1]
        return None

    def _send_queries(self) -> Script[Failure | None]:
        queries_at_once = max(1, self.plan.max_scores // len(self.documents))
        budget = self.plan.budget.with_items(queries_at_once)
        budget.check_sizes(self.plan.queries.sizes_bytes, "queries")
        for start, stop in split(self.plan.queries.sizes_bytes, budget):
            operand = self.plan.queries.to_proto(start, stop, self.plan.query_options)
            query = pb.SimilarityQuery(queries=operand, top_k=self.plan.top_k)
            message = pb.StreamSimilarityRequest(id=f"queries:{start}", query=query)
            failure = yield from self._send(message, _Sent("result", start, stop))
            if failure is not None:
                return failure
        return None

    def _send(self, message: pb.StreamSimilarityRequest, sent: _Sent) -> Script[Failure | None]:
        """Send a message; first wait for an answer where too many are due."""
        if len(self._unanswered) >= _MAX_UNANSWERED:
            failure = yield from self._receive()
            if failure is not None:
                return failure
        yield Send(message)
        self._unanswered.append(sent)
        return None

    def _receive(self) -> Script[Failure | None]:
        outcome: Any = yield Receive()
        if isinstance(outcome, Failure):
            return outcome
        if outcome is END:
            raise self._protocol_error("the stream ended before every message was answered")
        return self._accept(self._unanswered.popleft(), outcome)

    def _accept(self, sent: _Sent, reply: pb.StreamSimilarityResponse) -> Failure | None:
        outcome = reply.WhichOneof("outcome")
        if outcome == "error":
            failure = failure_of_item(reply.error)
            if failure.retryable:
                return failure
            raise self._refusal(sent, failure)
        if outcome != sent.kind:
            raise self._protocol_error(f"expected {sent.kind}, got {outcome}")
        if outcome == "documents":
            self._check_added(sent, reply.documents)
        elif outcome == "result":
            self._results.append((sent.stop - sent.start, reply.result))
        return None

    def _check_added(self, sent: _Sent, added: pb.DocumentsAdded) -> None:
        if (added.first_index, added.count) != (sent.start, sent.stop - sent.start):
            raise self._protocol_error(
                f"documents {sent.start} to {sent.stop} were added as {added.count} "
                f"from {added.first_index}"
            )

    def _refusal(self, sent: _Sent, failure: Failure) -> UnitvecError:
        error = self.context.error(failure)
        if failure.text_index is None:
            return error
        side = "queries" if sent.kind == "result" else "documents"
        return at_field(error, f"{side}[{sent.start + failure.text_index}]")

    def _protocol_error(self, message: str) -> ProtocolError:
        return ProtocolError(
            f"bad reply: {message}", ErrorFacts(request_id=self.context.request_id)
        )
