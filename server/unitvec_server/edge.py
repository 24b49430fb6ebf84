"""What holds for every call of our service: request id, token, typed errors.

One interceptor wraps the handlers of `unitvec.v1.EmbeddingService`; health and reflection
pass untouched, since probes carry no token. Handlers raise domain errors; here they become
statuses. Whatever else they raise is our fault: it is logged with the request id and the
client sees INTERNAL and that id, nothing of our insides.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_server.errors import InferenceFailed, InvalidRequest, Overloaded, RequestError
from unitvec_server.security import TokenCheck
from unitvec_server.status import status_code, to_message, to_trailers

logger = logging.getLogger(__name__)

SERVICE = pb.DESCRIPTOR.services_by_name["EmbeddingService"].full_name

_request_id: ContextVar[str] = ContextVar("request_id", default="")
_MAX_ID_LENGTH = 128
_RETRY_CALLS_S = 1.0
_UNDECODABLE = object()

Context = grpc.aio.ServicerContext[Any, Any]


def describe(error: Exception) -> pb.Error:
    """Any exception of a handler as the message that its caller may see."""
    if not isinstance(error, RequestError):
        logger.error("internal error, request %s", _request_id.get(), exc_info=error)
        error = InferenceFailed("internal error; report the request id", reason="INTERNAL")
    return to_message(error, request_id=_request_id.get())


class Edge(grpc.aio.ServerInterceptor):
    """Wraps the handlers of our service.

    Args:
        check_token: Refuses calls without a valid token.
        max_calls: Calls and streams in work at a time; health and reflection do not count.
    """

    def __init__(self, check_token: TokenCheck, *, max_calls: int) -> None:
        self._check_token = check_token
        self._max_calls = max_calls
        self._calls = 0

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Chooses the handler, as gRPC asks of interceptors."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(f"/{SERVICE}/"):
            return handler
        safe = _safe_deserializer(handler.request_deserializer)
        if handler.stream_stream:
            wrapped = self._wrap_stream(handler.stream_stream)
            return handler._replace(request_deserializer=safe, stream_stream=wrapped)
        wrapped = self._wrap_unary(handler.unary_unary)
        return handler._replace(request_deserializer=safe, unary_unary=wrapped)

    def _wrap_unary(self, call: Callable[..., Any]) -> Callable[..., Any]:
        async def unary(request: Any, context: Context) -> Any:
            try:
                with self._enter(context):
                    return await call(_decoded(request), context)
            except grpc.aio.AbortError:
                raise
            except Exception as exc:
                await _abort(context, exc)

        return unary

    def _wrap_stream(self, call: Callable[..., Any]) -> Callable[..., Any]:
        async def stream(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            try:
                with self._enter(context):
                    answers = call(_decode_each(requests), context)
                    async with contextlib.aclosing(answers) as replies:
                        async for reply in replies:
                            yield reply
            except grpc.aio.AbortError:
                raise
            except Exception as exc:
                await _abort(context, exc)

        return stream

    @contextlib.contextmanager
    def _enter(self, context: Context) -> Iterator[None]:
        metadata = dict(context.invocation_metadata() or ())
        request_id = _choose_id(metadata.get("x-request-id"))
        _request_id.set(request_id)
        context.set_trailing_metadata((("x-request-id", request_id),))
        self._check_token(metadata.get("authorization"))
        if self._calls >= self._max_calls:
            raise Overloaded(
                f"{self._calls} calls are in work, which is the limit max_calls; try again soon",
                retry_delay_s=_RETRY_CALLS_S,
            )
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1


def _choose_id(given: str | bytes | None) -> str:
    """The caller's id if it is fit to be logged and echoed, else a new one."""
    if isinstance(given, str) and 0 < len(given) <= _MAX_ID_LENGTH and given.isprintable():
        return given
    return uuid.uuid4().hex


def _safe_deserializer(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Without it gRPC answers UNKNOWN with the text of the exception."""

    def safe(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _UNDECODABLE

    return safe


def _decoded(request: Any) -> Any:
    if request is _UNDECODABLE:
        raise InvalidRequest(
            "the message cannot be decoded as the request of this method; "
            "check the .proto that the client was generated from",
            reason="UNDECODABLE_MESSAGE",
        )
    return request


async def _decode_each(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _decoded(request)


async def _abort(context: Context, error: Exception) -> None:
    message = describe(error)
    code = status_code(error) if isinstance(error, RequestError) else grpc.StatusCode.INTERNAL
    await context.abort(code, message.message, trailing_metadata=tuple(to_trailers(message)))
