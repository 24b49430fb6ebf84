"""Unary calls with retries under one deadline: one at a time, or several in flight."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import grpc

from unitvec_client.core.backoff import Backoff, Clock
from unitvec_client.core.diagnosis import Circumstances, explain, explain_deadline
from unitvec_client.core.failures import Failure
from unitvec_client.core.rpcs import Method
from unitvec_client.core.steps import Call, Collect, Invoke, Metadata, Script, Sleep, Start
from unitvec_client.errors import DeadlineExceededError, ErrorFacts, UnitvecError
from unitvec_client.expectation import ANY, Expectation
from unitvec_client.retry import RetryPolicy

MAX_IN_FLIGHT = 4
"""How many requests of one call run at a time: enough to hide the network, and still fair."""

_SAME_MOMENT_S = 0.1
"""How far the deadlines of client and server may lie apart, by transit and busy event loops."""

OnReply = Callable[[int, Any], None]
OnFailure = Callable[[int, Failure], Exception]


@dataclass(frozen=True, slots=True)
class CallContext:
    """What all requests of one public call have in common.

    Attributes:
        request_id: Name of the call, which is its ``x-request-id``.
        metadata: Pairs that go with each request, the request id among them.
        policy: Rules of trying again.
        deadline_s: End of the call's time on `clock`; None for never.
        clock: Source of the time, in seconds.
        about: Circumstances that messages of errors name.
        expect: Fingerprints that vectors must have.
    """

    request_id: str
    metadata: Metadata
    policy: RetryPolicy
    deadline_s: float | None
    clock: Clock = field(default=time.monotonic, repr=False)
    about: Circumstances = field(default_factory=Circumstances)
    expect: Expectation = ANY

    def remaining_s(self) -> float | None:
        """Return the seconds left to the deadline; None if there is none."""
        return None if self.deadline_s is None else self.deadline_s - self.clock()

    def call(self, method: Method, request: Any = None) -> Call:
        """Return a call that ends at the deadline.

        Raises:
            DeadlineExceededError: If it has passed.
        """
        remaining_s = self.remaining_s()
        if remaining_s is not None and remaining_s <= 0:
            code = grpc.StatusCode.DEADLINE_EXCEEDED
            facts = ErrorFacts(request_id=self.request_id, code=code)
            raise DeadlineExceededError(explain_deadline(self.about), facts)
        return Call(method, request, remaining_s, self.metadata)

    def delay_s(self, backoff: Backoff, failure: Failure) -> float:
        """Return the seconds to wait before the next try.

        Raises:
            UnitvecError: The failure, where there must be no next try.
        """
        delay_s = backoff.next_delay_s(failure, self.remaining_s())
        if delay_s is None:
            raise self.error(self.last(failure))
        return delay_s

    def error(self, failure: Failure) -> UnitvecError:
        """Return the exception that says this failure."""
        return failure.to_exception(explain(failure, self.about), self.request_id)

    def last(self, failure: Failure) -> Failure:
        """Return the failure as the caller of the whole call knows it.

        Client and server count down the same deadline. Where the server gets there first, it
        cancels the call, which for the caller is the deadline.
        """
        remaining_s = self.remaining_s()
        if remaining_s is None or remaining_s > _SAME_MOMENT_S:
            return failure
        if not failure.cancelled_there and not failure.status_lost:
            return failure
        code = grpc.StatusCode.DEADLINE_EXCEEDED
        return replace(failure, code=code, message="the deadline passed at the server")


def exchange(context: CallContext, method: Method, request: Any) -> Script[Any]:
    """Make one call, again if it must be, and return its reply.

    Raises:
        UnitvecError: The last failure.
    """
    backoff = Backoff(context.policy)
    while True:
        outcome = yield Invoke(context.call(method, request))
        if not isinstance(outcome, Failure):
            return outcome
        yield Sleep(context.delay_s(backoff, outcome))


@dataclass(slots=True)
class _Attempt:
    index: int
    request: Any
    backoff: Backoff
    due_s: float = 0.0


@dataclass(slots=True)
class Pipeline:
    """Makes many calls, a few at a time.

    Attributes:
        context: Deadline, retries and metadata of all.
        method: The remote method.
        on_reply: Function that takes each request's index and reply, in any order.
        on_failure: Function that makes an exception of the failure of the request of an index.
    """

    context: CallContext
    method: Method
    on_reply: OnReply
    on_failure: OnFailure
    _running: dict[int, _Attempt] = field(default_factory=dict)
    _delayed: list[_Attempt] = field(default_factory=list)

    def run(self, requests: Iterable[Any]) -> Script[None]:
        """Send all requests; they are built only as there is room for them.

        Raises:
            UnitvecError: The first failure that must not be tried again.
        """
        source = enumerate(requests)
        while True:
            yield from self._start_due()
            while len(self._running) + len(self._delayed) < MAX_IN_FLIGHT:
                entry = next(source, None)
                if entry is None:
                    break
                yield from self._start(_Attempt(*entry, Backoff(self.context.policy)))
            if not self._running and not self._delayed:
                return
            finished = yield Collect(self._wait_s())
            if finished is not None:
                self._settle(*finished)

    def _start(self, attempt: _Attempt) -> Script[None]:
        self._running[attempt.index] = attempt
        yield Start(attempt.index, self.context.call(self.method, attempt.request))

    def _start_due(self) -> Script[None]:
        now_s = self.context.clock()
        due = [attempt for attempt in self._delayed if attempt.due_s <= now_s]
        self._delayed = [attempt for attempt in self._delayed if attempt.due_s > now_s]
        for attempt in due:
            yield from self._start(attempt)

    def _wait_s(self) -> float | None:
        if not self._delayed:
            return None
        first_s = min(attempt.due_s for attempt in self._delayed)
        return max(0.0, first_s - self.context.clock())

    def _settle(self, index: int, outcome: Any) -> None:
        attempt = self._running.pop(index)
        if not isinstance(outcome, Failure):
            self.on_reply(index, outcome)
            return
        delay_s = attempt.backoff.next_delay_s(outcome, self.context.remaining_s())
        if delay_s is None:
            raise self.on_failure(index, self.context.last(outcome))
        attempt.due_s = self.context.clock() + delay_s
        self._delayed.append(attempt)
