"""What holds for every call: a request id, a token, limits, typed errors.

One interceptor, the edge, wraps all handlers. The health service needs no token and does not count
as a call in work, since probes carry no token and must be answered under load; it has limits of its
own. A call without a valid token, or beyond the limits, is refused before its message is read.

Left to itself, gRPC asks for the message of a unary call before anybody can count the call. So the
edge serves all calls as streams, which is the same on the wire, and asks for each message itself.

Handlers raise domain errors, and the edge turns them into statuses. Any other exception is our
fault: it is logged with the request id, and the client sees INTERNAL and that id, and nothing of
our insides.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, NamedTuple, NoReturn

import grpc
from grpc_health.v1 import health, health_pb2

from unitvec_protos.v1 import admin_pb2
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_server.doors import calls
from unitvec_server.doors.bounds import Gate
from unitvec_server.doors.calls import Call, MethodTally, name_method
from unitvec_server.doors.rules import HouseRules
from unitvec_server.errors import InferenceFailed, RequestError
from unitvec_server.rpc.flow_control import ForeignStreams
from unitvec_server.rpc.intake import (
    MAX_METADATA_BYTES,
    Arrivals,
    Context,
    UnaryMessages,
    decode_each,
    long_metadata,
    metadata_bytes,
    reading,
    writing,
)
from unitvec_server.rpc.peer_api import path_of
from unitvec_server.rpc.status import status_code, to_message, to_trailers
from unitvec_server.security.secrets import TokenCheck

logger = logging.getLogger(__name__)

_SERVICE = pb.DESCRIPTOR.services_by_name["EmbeddingService"]
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]

SERVICE = _SERVICE.full_name
ADMIN = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]

_MAX_ID_LENGTH = 128

_HEALTH_ARRIVALS = 64
_HEALTH_ARRIVAL_S = 5.0
_HEALTH_BYTES = 1024
"""Limits of the messages of health, which anyone may send: one holds the name of a service."""


def describe(error: Exception) -> pb.Error:
    """Turns any exception of a handler into the message that the client may see, and notes it."""
    call = calls.current.get()
    if not isinstance(error, RequestError):
        logger.error("internal error, request %s", call.request_id, exc_info=error)
        error = InferenceFailed("internal error; report the request id", reason="INTERNAL")
    call.note(error)
    return to_message(error, request_id=call.request_id)


@dataclasses.dataclass(frozen=True)
class Patience:
    """The times for which the edge waits for clients.

    Attributes:
        arrival_s: Time for the message of a unary call to be whole: the longest takes 60 s at
            2 Mbit/s.
        idle_s: Silence after which the stream of a handler that is not ours is ended.
    """

    arrival_s: float = 60.0
    idle_s: float = math.inf


class _Terms(NamedTuple):
    """The conditions that calls of one method must meet, and the counts they go into."""

    tally: MethodTally
    check_token: TokenCheck
    gate: Gate
    arrivals: Arrivals
    messages: UnaryMessages | None


class Edge(grpc.aio.ServerInterceptor):
    """Wraps all handlers.

    Args:
        rules: What holds at every door. As many watches of health as calls may be open.
        patience: The times for which the edge waits for clients.
        check_admin: Refuses calls without a token of an operator; None where none are answered.

    Attributes:
        tallies: Counts of the calls of each method, by path.
    """

    def __init__(
        self,
        rules: HouseRules,
        *,
        patience: Patience = Patience(),
        check_admin: TokenCheck | None = None,
    ) -> None:
        self._rules, self._check_admin = rules, check_admin
        self._watches = Gate("watches of health are open, which is the limit", rules.calls.most)
        self._checks = Gate("", math.inf)
        self._arrivals = Arrivals(within_s=patience.arrival_s)
        self._foreign = ForeignStreams(max_idle_s=patience.idle_s)
        self._health_arrivals = Arrivals(
            within_s=_HEALTH_ARRIVAL_S, most=_HEALTH_ARRIVALS, most_bytes=_HEALTH_BYTES
        )
        self._messages = UnaryMessages(rules.messages)
        self._handlers: dict[str, Any] = {}
        self.tallies: dict[str, MethodTally] = {}
        self.expect((*_SERVICE.methods, *_HEALTH.methods))

    def expect(self, methods: Iterable[Any]) -> None:
        """Counts the calls of methods, given as their descriptors, from the start on.

        Prometheus would not see the first event of a series that begins with it.
        """
        self.tallies |= map(_known_tally, methods)

    def drain(self) -> None:
        """Ends the streams of handlers that are not ours; ours end their own."""
        self._foreign.drain()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Returns the wrapped handler of a call, as gRPC asks of interceptors."""
        path = handler_call_details.method
        if path not in self._handlers:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            self._handlers[path] = self._wrap(handler, self._terms(path, handler))
        return self._handlers[path]

    def _terms(self, path: str, handler: Any) -> _Terms:
        streams_in, streams_out = handler.request_streaming, handler.response_streaming
        method = name_method(path, streams_in=streams_in, streams_out=streams_out)
        tally = self.tallies.setdefault(path, MethodTally(method))
        if method.service == health.SERVICE_NAME:
            gate = self._watches if streams_out else self._checks
            return _Terms(tally, _let_pass, gate, self._health_arrivals, None)
        # Operators come in under load, too.
        if method.service == ADMIN.full_name and self._check_admin:
            return _Terms(tally, self._check_admin, self._checks, self._arrivals, None)
        messages = None if streams_in or streams_out else self._messages
        return _Terms(tally, self._rules.check_token, self._rules.calls, self._arrivals, messages)

    def _wrap(self, handler: Any, terms: _Terms) -> Any:
        """Wraps a handler once for all its calls. `Watch` is a coroutine, as unary methods are."""
        reads = reading(handler.request_deserializer, terms.tally)
        writes = writing(handler.response_serializer, terms.tally, messages=terms.messages)
        if handle := handler.stream_stream:
            streaming: Any = self._wrap_stream(handle, terms)
            return grpc.stream_stream_rpc_method_handler(streaming, reads, writes)
        if handle := handler.unary_stream:
            return grpc.stream_stream_rpc_method_handler(
                self._wrap_unary(handle, terms), reads, writes
            )
        return grpc.stream_unary_rpc_method_handler(
            self._wrap_unary(handler.unary_unary, terms), reads, writes
        )

    def _wrap_unary(self, handle: Callable[..., Any], terms: _Terms) -> Callable[..., Any]:
        async def unary(_: AsyncIterator[Any], context: Context) -> Any:
            call = self._begin(context, terms.tally)
            try:
                _check_metadata(call, terms)
                with terms.gate:
                    request = await terms.arrivals.receive(call, context)
                    if terms.messages is not None:
                        terms.messages.admit(call, context)
                    return await handle(request, context)
            except BaseException as exc:
                await self._fail(call, terms.tally, context, exc)
            finally:
                calls.end(call, terms.tally, self._rules.observers)

        return unary

    def _wrap_stream(self, handle: Callable[..., Any], terms: _Terms) -> Callable[..., Any]:
        async def stream(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            call = self._begin(context, terms.tally)
            try:
                _check_metadata(call, terms)
                with terms.gate:
                    answers = handle(decode_each(requests), context)
                    if not terms.tally.method.is_ours:
                        answers = self._foreign.attend(answers)
                    async with contextlib.aclosing(answers) as replies:
                        async for reply in replies:
                            yield reply
            except BaseException as exc:
                await self._fail(call, terms.tally, context, exc)
            finally:
                calls.end(call, terms.tally, self._rules.observers)

        return stream

    def _begin(self, context: Context, tally: MethodTally) -> Call:
        """Notes a call. Its context is asked now: once it has failed in gRPC, asking may crash."""
        tally.started += 1
        entries = context.invocation_metadata() or ()
        metadata = dict(entries)
        given_id = metadata.get("x-request-id")
        request_id = given_id if given_id and _is_fit_id(given_id) else uuid.uuid4().hex
        remaining_s = context.time_remaining()
        deadline_s = math.inf if remaining_s is None else time.monotonic() + remaining_s
        call = Call(
            tally.method,
            str(request_id),
            metadata,
            context.peer(),
            deadline_s,
            errors=self._rules.errors,
        )
        call.metadata_bytes = metadata_bytes(entries)
        calls.current.set(call)
        if task := asyncio.current_task():
            task.set_name(
                f"request {call.request_id}"
            )  # asyncio logs the name of a task that fails
        context.set_trailing_metadata((("x-request-id", call.request_id),))
        return call

    async def _fail(
        self, call: Call, tally: MethodTally, context: Context, error: BaseException
    ) -> NoReturn:
        """Ends a call with an error."""
        if isinstance(error, grpc.aio.AbortError):
            call.code = calls.CODES[_number(context.code())]
            raise error
        if not isinstance(error, Exception):
            call.code = _cut_code(call)
            raise error
        message = describe(error)
        code = status_code(error) if isinstance(error, RequestError) else grpc.StatusCode.INTERNAL
        call.code = code.name
        # The call is counted first, so that a client that sees the error can see it counted.
        calls.end(call, tally, self._rules.observers)
        await context.abort(code, message.message, trailing_metadata=tuple(to_trailers(message)))
        raise error


def _check_metadata(call: Call, terms: _Terms) -> None:
    """Refuses a call by what it says before its first message."""
    if call.metadata_bytes > MAX_METADATA_BYTES:
        raise long_metadata()
    terms.check_token(call.metadata.get("authorization"))


def _let_pass(_: str | bytes | None) -> None:
    """The token check of health: anyone may ask."""


def _known_tally(method: Any) -> tuple[str, MethodTally]:
    """The path and the counts of a method."""
    path = path_of(method)
    streams = {"streams_in": method.client_streaming, "streams_out": method.server_streaming}
    return path, MethodTally(name_method(path, **streams))


def _is_fit_id(given: str | bytes) -> bool:
    """Returns whether the request id of a client can be logged and echoed."""
    return isinstance(given, str) and len(given) <= _MAX_ID_LENGTH and given.isprintable()


def _number(code: Any) -> int:
    """The number of a status code, which gRPC keeps as it was set: as a number or as a name."""
    return int(code.value[0] if isinstance(code, grpc.StatusCode) else code)


def _cut_code(call: Call) -> str:
    """The status of a call whose task was cancelled: the task is not told why."""
    expired = time.monotonic() >= call.deadline_s
    return grpc.StatusCode.DEADLINE_EXCEEDED.name if expired else calls.CANCELLED
