"""RPCs as they are seen from outside: what each was, cost and came to, and counts of them all.

The edge begins and ends each call; the engine adds what its texts cost; observers read it at its
end. For one event loop.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import NamedTuple

from unitvec_server.engine.counters import SECONDS, Histogram, Work
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
"""Lists of texts of one call that are kept apart, of a stream the first ones."""


class Method(NamedTuple):
    """An RPC of a service.

    Attributes:
        service: Full name.
        name: Of the RPC.
        kind: ``unary``, ``server_stream``, ``client_stream`` or ``bidi_stream``.
    """

    service: str
    name: str
    kind: str


def name_method(path: str, *, streams_in: bool, streams_out: bool) -> Method:
    """The method at ``/SERVICE/NAME``."""
    kinds = {
        (False, False): "unary",
        (False, True): "server_stream",
        (True, False): "client_stream",
        (True, True): "bidi_stream",
    }
    _, service, name = path.split("/", 2)
    return Method(service, name, kinds[streams_in, streams_out])


class ErrorTally:
    """Requests that failed: unary ones, and each of a stream."""

    def __init__(self) -> None:
        kinds = RequestError.__subclasses__()
        self.by_reason = Counter({kind.default_reason: 0 for kind in kinds})
        self.by_bound = Counter(dict.fromkeys(BOUNDS, 0))

    def count(self, error: RequestError) -> None:
        """Counts one."""
        self.by_reason[error.reason] += 1
        if isinstance(error, Overloaded):
            self.by_bound[error.bound] += 1


class MethodTally:
    """Calls of one method.

    Args:
        method: Which.
    """

    def __init__(self, method: Method) -> None:
        self.method = method
        self.started = self.received = self.sent = 0
        self.handled = Counter(dict.fromkeys(CODES, 0))
        self.seconds = Histogram(SECONDS)


@dataclasses.dataclass(slots=True, eq=False)
class Call:
    """One RPC.

    Attributes:
        method: Which.
        request_id: The caller's or ours.
        metadata: What the caller sent along, by key.
        peer: The caller's address.
        deadline_s: On the monotonic clock.
        errors: Counts the failed requests of all calls.
        code: Name of its status, OK until it fails.
        reason: Why it, or the last request of a stream, failed.
        failed: Requests of a stream, or 1 for the call itself, that failed.
        request_bytes: Size of the message that was read last.
        reply_bytes: Size of the reply of a unary call, once it is written.
        works: The first lists of texts that were embedded.
        lists: How many there were in all.
        texts: Of all lists.
        tokens: Of all texts.
        tokenize_ns: Of the list that took longest, like `queue_ns` and `infer_ns`.
        started_ns: On the monotonic clock.
        ended_ns: Likewise; 0 before.
    """

    method: Method
    request_id: str
    metadata: Mapping[str, str | bytes]
    peer: str
    deadline_s: float
    errors: ErrorTally
    code: str = OK
    reason: str = ""
    failed: int = 0
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
        """Notes a list of texts."""
        self.lists += 1
        self.texts += work.texts
        self.tokens += work.tokens
        self.tokenize_ns = max(self.tokenize_ns, work.tokenize_ns)
        self.queue_ns = max(self.queue_ns, work.queue_ns)
        self.infer_ns = max(self.infer_ns, work.infer_ns)
        if len(self.works) < _MAX_WORKS:
            self.works.append(work)

    def note(self, error: RequestError) -> None:
        """Notes a request that failed."""
        self.failed += 1
        self.reason = error.reason
        self.errors.count(error)


Observer = Callable[[Call], None]
"""Is shown each call at its end."""

current: ContextVar[Call] = ContextVar("call")
"""The call that a task works for. The edge sets it."""


def end(call: Call, tally: MethodTally, observers: Sequence[Observer]) -> None:
    """Counts a call that is over, once, and shows it to observers.

    Their faults are not the caller's.
    """
    if call.ended_ns:
        return
    call.ended_ns = time.monotonic_ns()
    tally.handled[call.code] += 1
    tally.seconds.observe((call.ended_ns - call.started_ns) * 1e-9)
    for observe in observers:
        try:
            observe(call)
        except Exception:
            logger.exception("request %s could not be observed", call.request_id)
