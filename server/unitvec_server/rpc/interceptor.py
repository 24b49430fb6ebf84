"""What holds for every call of our service: request id, token, typed errors.

One interceptor wraps all handlers. Health is exempt from tokens and from the bound on calls,
since probes carry none and must be answered under load; it has bounds of its own. A call without
a valid token is refused before its message is read.

gRPC gathers a message, up to its bound, from when it is asked for. Left to itself it asks for that
of a unary call before anybody can count the call. So all calls are served as streams here, which
is the same on the wire: a message is asked for once its call has a place.

Handlers raise domain errors; here they become statuses. Whatever else they raise is our fault:
it is logged with the request id and the client sees INTERNAL and that id, nothing of our
insides.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple, NoReturn

import grpc
from grpc_health.v1 import health, health_pb2

from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_server.errors import InferenceFailed, InvalidRequest, RequestError, Unauthenticated
from unitvec_server.rpc import calls
from unitvec_server.rpc.calls import Call, ErrorTally, MethodTally, Observer, name_method
from unitvec_server.rpc.gates import Context, Gate, UnaryMessages
from unitvec_server.rpc.intake import (
    Arrivals,
    counting_serializer,
    decode_each,
    request_bytes,
    safe_deserializer,
)
from unitvec_server.rpc.status import status_code, to_message, to_trailers
from unitvec_server.security.secrets import TokenCheck

logger = logging.getLogger(__name__)

_SERVICE = pb.DESCRIPTOR.services_by_name["EmbeddingService"]
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]

SERVICE = _SERVICE.full_name

_MAX_ID_LENGTH = 128

_ARRIVAL_S = 60.0
"""Time for the message of a unary call: the longest takes that long at 2 Mbit/s."""
_HEALTH_ARRIVALS = 64
_HEALTH_ARRIVAL_S = 5.0
_HEALTH_BYTES = 1024
"""Bounds of messages of health, which strangers may send: one holds a name."""

# Of the call whose task this is. gRPC's own hooks, where messages become bytes, are not told it.
_context: ContextVar[Context] = ContextVar("context")


def describe(error: Exception) -> pb.Error:
    """Any exception of a handler as the message that its caller may see."""
    call = calls.current.get()
    request_id = call.request_id if call else ""
    if not isinstance(error, RequestError):
        logger.error("internal error, request %s", request_id, exc_info=error)
        error = InferenceFailed("internal error; report the request id", reason="INTERNAL")
    if call:
        call.note(error)
    return to_message(error, request_id=request_id)


class _Served(NamedTuple):
    """A method as it is served: its handler behind the edge."""

    handler: Any
    tally: MethodTally
    needs_token: bool


class Edge(grpc.aio.ServerInterceptor):
    """Wraps all handlers.

    Args:
        check_token: Refuses calls without a valid token.
        max_calls: Calls and streams in work at a time, and again as many watches of health.
        max_unary_bytes: Of the messages of all unary calls in work.
        observers: Are shown each call at its end.
        arrival_s: Time for the message of a unary call to be whole.

    Attributes:
        tallies: Counts of the calls of each method, by path.
        errors: Counts of failed requests.
    """

    def __init__(
        self,
        check_token: TokenCheck,
        *,
        max_calls: int,
        max_unary_bytes: int,
        observers: Sequence[Observer] = (),
        arrival_s: float = _ARRIVAL_S,
    ) -> None:
        self._check_token = check_token
        self._calls = Gate("calls are in work, which is the limit max_calls", max_calls)
        self._watches = Gate("watches of health are open, which is the limit", max_calls)
        self._checks = Gate("", math.inf)
        self._arrivals = Arrivals(math.inf, within_s=arrival_s)
        self._health_arrivals = Arrivals(_HEALTH_ARRIVALS, within_s=_HEALTH_ARRIVAL_S)
        self._messages = UnaryMessages(max_unary_bytes)
        self._observers = observers
        self._served: dict[str, _Served] = {}
        self.tallies = dict(map(_known_tally, (*_SERVICE.methods, *_HEALTH.methods)))
        self.errors = ErrorTally()

    @property
    def calls(self) -> int:
        """Calls and streams in work; health does not count."""
        return self._calls.count

    @property
    def unary_bytes(self) -> int:
        """Bytes of the messages of unary calls in work."""
        return self._messages.held_bytes

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Chooses the handler, as gRPC asks of interceptors."""
        served = self._served.get(handler_call_details.method)
        if served is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            served = self._adopt(handler_call_details.method, handler)
        if served.needs_token:
            metadata = dict(handler_call_details.invocation_metadata or ())
            try:
                self._check_token(metadata.get("authorization"))
            except Unauthenticated as exc:
                return self._refusal(exc, served.tally)
        return served.handler

    def _adopt(self, path: str, handler: Any) -> _Served:
        """Wraps a handler once for all calls of it."""
        streams = {
            "streams_in": handler.request_streaming,
            "streams_out": handler.response_streaming,
        }
        tally = self.tallies.setdefault(path, MethodTally(name_method(path, **streams)))
        is_health = tally.method.service == health.SERVICE_NAME
        gate = self._calls
        if is_health:
            gate = self._watches if handler.response_streaming else self._checks
        self._served[path] = _Served(self._wrap(handler, gate, tally), tally, not is_health)
        return self._served[path]

    def _wrap(self, handler: Any, gate: Gate, tally: MethodTally) -> Any:
        """The same handler behind the gate. `Watch`, a coroutine, is wrapped like a unary one."""
        reads = safe_deserializer(handler.request_deserializer, tally)
        writes = counting_serializer(handler.response_serializer, tally)
        if call := handler.stream_stream:
            wrapped: Any = self._wrap_stream(call, gate, tally)
            return grpc.stream_stream_rpc_method_handler(wrapped, reads, writes)
        if call := handler.unary_stream:
            wrapped = self._wrap_unary(call, gate, tally)
            return grpc.stream_stream_rpc_method_handler(wrapped, reads, writes)
        call = handler.unary_unary
        if gate is self._calls:
            call, writes = self._count_request(call), self._holding_serializer(writes)
        wrapped = self._wrap_unary(call, gate, tally)
        return grpc.stream_unary_rpc_method_handler(wrapped, reads, writes)

    def _count_request(self, call: Callable[..., Any]) -> Callable[..., Any]:
        async def counted(request: Any, context: Context) -> Any:
            self._messages.admit(request_bytes.get(), context)
            return await call(request, context)

        return counted

    def _holding_serializer(self, serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
        """Runs in the task of the call, as its handler does."""

        def held(reply: Any) -> bytes:
            data = serialize(reply)
            self._messages.hold(len(data), _context.get())
            return data

        return held

    def _wrap_unary(
        self, handle: Callable[..., Any], gate: Gate, tally: MethodTally
    ) -> Callable[..., Any]:
        async def unary(_: AsyncIterator[Any], context: Context) -> Any:
            call = self._begin(context, tally)
            try:
                with gate.enter():
                    request = await self._receive(context, gate)
                    return await handle(request, context)
            except BaseException as exc:
                await self._fail(call, tally, context, exc)
            finally:
                calls.end(call, tally, self._observers)

        return unary

    async def _receive(self, context: Context, gate: Gate) -> Any:
        if gate is self._calls:
            return await self._arrivals.receive(context)
        request = await self._health_arrivals.receive(context)
        if request_bytes.get() > _HEALTH_BYTES:
            raise InvalidRequest(f"a message of health has at most {_HEALTH_BYTES} bytes")
        return request

    def _wrap_stream(
        self, handle: Callable[..., Any], gate: Gate, tally: MethodTally
    ) -> Callable[..., Any]:
        async def stream(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            call = self._begin(context, tally)
            try:
                with gate.enter():
                    answers = handle(decode_each(requests), context)
                    async with contextlib.aclosing(answers) as replies:
                        async for reply in replies:
                            yield reply
            except BaseException as exc:
                await self._fail(call, tally, context, exc)
            finally:
                calls.end(call, tally, self._observers)

        return stream

    def _refusal(self, error: Unauthenticated, tally: MethodTally) -> Any:
        """A handler that answers with an error and reads nothing: strangers cost no memory."""

        async def refuse(_: AsyncIterator[Any], context: Context) -> None:
            call = self._begin(context, tally)
            try:
                await self._fail(call, tally, context, error)
            finally:
                calls.end(call, tally, self._observers)

        return grpc.stream_stream_rpc_method_handler(refuse)

    def _begin(self, context: Context, tally: MethodTally) -> Call:
        tally.started += 1
        metadata = dict(context.invocation_metadata() or ())
        request_id = _choose_id(metadata.get("x-request-id"))
        # The context is asked now: once a call has failed inside gRPC, asking may crash.
        remaining_s = context.time_remaining()
        deadline_s = math.inf if remaining_s is None else time.monotonic() + remaining_s
        call = Call(
            tally.method, request_id, metadata, context.peer(), deadline_s, errors=self.errors
        )
        _context.set(context)
        calls.current.set(call)
        context.set_trailing_metadata((("x-request-id", request_id),))
        return call

    async def _fail(
        self, call: Call, tally: MethodTally, context: Context, error: BaseException
    ) -> NoReturn:
        """Ends a call with an error, which is noted."""
        if isinstance(error, grpc.aio.AbortError):
            call.code = calls.CODES[_number(context.code())]
            raise error
        if not isinstance(error, Exception):
            call.code = _cut_code(call)
            raise error
        message = describe(error)
        code = status_code(error) if isinstance(error, RequestError) else grpc.StatusCode.INTERNAL
        call.code = code.name
        calls.end(call, tally, self._observers)  # who sees the error can see it counted
        await context.abort(code, message.message, trailing_metadata=tuple(to_trailers(message)))
        raise error


def _known_tally(method: Any) -> tuple[str, MethodTally]:
    """A method of a descriptor counts from the start: series without a past hide their first."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    streams = {"streams_in": method.client_streaming, "streams_out": method.server_streaming}
    return path, MethodTally(name_method(path, **streams))


def _choose_id(given: str | bytes | None) -> str:
    """The caller's id if it is fit to be logged and echoed, else a new one."""
    if isinstance(given, str) and 0 < len(given) <= _MAX_ID_LENGTH and given.isprintable():
        return given
    return uuid.uuid4().hex


def _number(code: Any) -> int:
    """A status code is kept as it was set: as its number or as its name."""
    return int(code.value[0] if isinstance(code, grpc.StatusCode) else code)


def _cut_code(call: Call) -> str:
    """The task of a call is cancelled for both reasons, and not told which it was."""
    expired = time.monotonic() >= call.deadline_s
    return grpc.StatusCode.DEADLINE_EXCEEDED.name if expired else calls.CANCELLED
