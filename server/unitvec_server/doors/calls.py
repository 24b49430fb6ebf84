"""Calls as an operator sees them: the record of each one, and counts of all.

The edge makes the record of a call when it begins and closes it when it ends. In between, the
engine adds what the texts of the call cost. Observers, such as the access log, read the record
when it is closed. All of it belongs to one event loop.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import NamedTuple

from unitvec_server.engine.counters import SECONDS, Histogram, Work
from unitvec_server.engine.requests import Caller
from unitvec_server.errors import BOUNDS, Overloaded, RequestError

logger = logging.getLogger(__name__)

OK, CANCELLED, UNKNOWN = "OK", "CANCELLED", "UNKNOWN"

CODES = (
    *(OK, CANCELLED, UNKNOWN, "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND"),
    *("ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"),
    *("ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
    "UNAUTHENTICATED",
)
"""Names of gRPC's status codes, each at its number."""

_MAX_WORKS = 64
"""Lists of texts that the record of one call keeps apart. Of a stream these are the first ones."""


class Method(NamedTuple):
    """A method of a gRPC service.

    Attributes:
        service: Full name of the service.
        name: Name of the method; over HTTP its path.
        kind: One of ``unary``, ``server_stream``, ``client_stream`` or ``bidi_stream``; over HTTP
            ``GET`` or ``POST``.
    """

    service: str
    name: str
    kind: str

    @property
    def is_ours(self) -> bool:
        """Whether it is of a door of ours, not of gRPC's own health or reflection."""
        return not self.service.startswith("grpc.")


def name_method(path: str, *, streams_in: bool, streams_out: bool) -> Method:
    """Returns the method at the path ``/SERVICE/NAME``."""
    kinds = {
        (False, False): "unary",
        (False, True): "server_stream",
        (True, False): "client_stream",
        (True, True): "bidi_stream",
    }
    _, service, name = path.split("/", 2)
    return Method(service, name, kinds[streams_in, streams_out])


class ErrorTally:
    """Counts of the requests that failed: those of unary calls, and each one of a stream."""

    def __init__(self) -> None:
        kinds = RequestError.__subclasses__()
        self.by_reason = Counter({kind.default_reason: 0 for kind in kinds})
        self.by_bound = Counter(dict.fromkeys(BOUNDS, 0))

    def count(self, error: RequestError) -> None:
        """Counts a failed request."""
        self.by_reason[error.reason] += 1
        if isinstance(error, Overloaded):
            self.by_bound[error.bound] += 1


class MethodTally:
    """Counts of the calls of one method.

    Args:
        method: The method.
        outcomes: Names of the statuses that calls may end with.

    Attributes:
        method: The method.
        started: Calls that have begun.
        received: Messages that came from clients.
        sent: Messages that went to clients.
        handled: Calls that have ended, by the name of their status.
        seconds: Times of the calls that have ended.
    """

    def __init__(self, method: Method, outcomes: Iterable[str] = CODES) -> None:
        self.method = method
        self.started = self.received = self.sent = 0
        self.handled = Counter(dict.fromkeys(outcomes, 0))
        self.seconds = Histogram(SECONDS)


@dataclasses.dataclass(slots=True, eq=False)
class Call:
    """The record of one call.

    Attributes:
        method: The method that was called.
        request_id: The id that the client sent, or else one of ours.
        metadata: The metadata that the client sent, by key. Of a repeated key it has the last.
        peer: The address of the client.
        deadline_s: The time on the monotonic clock by which the client wants the reply.
        errors: The counts of failed requests, shared by all calls.
        code: The name of the call's status; it is OK until the call fails.
        http_status: The status of HTTP, of a call that came that way.
        reason: The reason of the failure, of a stream that of the last request that failed.
        failed: The number of failed requests of a stream; 1 for a unary call that failed.
        metadata_bytes: Size of all metadata, repeated keys included.
        request_bytes: Size of the message that was read last.
        reply_bytes: Size of the reply of a unary call, once it is written.
        works: The first lists of texts that were embedded, and what each cost.
        lists: The number of lists of texts that were embedded.
        texts: The number of texts in all lists.
        tokens: The number of tokens in all texts.
        tokenize_ns: The longest time that a list took to be tokenized.
        queue_ns: The longest time that a list waited for its first run.
        infer_ns: The longest time from the first run of a list to the end of its last.
        started_ns: The time on the monotonic clock at which the call began.
        ended_ns: The time at which it ended; 0 until then.
    """

    method: Method
    request_id: str
    metadata: Mapping[str, str | bytes]
    peer: str
    deadline_s: float
    errors: ErrorTally
    code: str = OK
    http_status: str = ""
    reason: str = ""
    failed: int = 0
    metadata_bytes: int = 0
    request_bytes: int = 0
    reply_bytes: int = 0
    works: list[Work] = dataclasses.field(default_factory=list)
    lists: int = 0
    texts: int = 0
    tokens: int = 0
    tokenize_ns: int = 0
    queue_ns: int = 0
    infer_ns: int = 0
    started_ns: int = dataclasses.field(default_factory=time.monotonic_ns)
    ended_ns: int = 0

    def add(self, work: Work) -> None:
        """Adds what a list of texts has cost."""
        self.lists += 1
        self.texts += work.texts
        self.tokens += work.tokens
        self.tokenize_ns = max(self.tokenize_ns, work.tokenize_ns)
        self.queue_ns = max(self.queue_ns, work.queue_ns)
        self.infer_ns = max(self.infer_ns, work.infer_ns)
        if len(self.works) < _MAX_WORKS:
            self.works.append(work)

    def note(self, error: RequestError) -> None:
        """Adds a request that failed."""
        self.failed += 1
        self.reason = error.reason
        self.errors.count(error)


Observer = Callable[[Call], None]
"""A function that is shown each call at its end."""

current: ContextVar[Call] = ContextVar("call")
"""The call that the running task works for. The edge sets it when the call begins."""


def current_caller(*, waits: bool = False) -> Caller:
    """Returns the caller of this task's call. Each call is a flow of its own, so calls take turns.

    Args:
        waits: Whether it waits for room, as streams do.
    """
    call = current.get()
    return Caller(object(), call.deadline_s, waits=waits, note=call.add)


def end(call: Call, tally: MethodTally, observers: Sequence[Observer]) -> None:
    """Closes the record of a call, counts it, and shows it to the observers.

    Only the first time counts. An exception of an observer is logged and does not harm the call.
    """
    if call.ended_ns:
        return
    call.ended_ns = time.monotonic_ns()
    tally.handled[call.http_status or call.code] += 1
    tally.seconds.observe((call.ended_ns - call.started_ns) * 1e-9)
    for observe in observers:
        try:
            observe(call)
        except Exception:
            logger.exception("request %s could not be observed", call.request_id)
