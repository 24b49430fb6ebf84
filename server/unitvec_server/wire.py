"""Where bytes become messages and messages bytes: what gRPC is given in place of the stubs' own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from unitvec_server.calls import MethodTally
from unitvec_server.errors import DeadlineExpired, InvalidRequest

_UNDECODABLE = object()

request_bytes: ContextVar[int] = ContextVar("request_bytes", default=0)
"""Size of the message that the call of this task read last."""


def safe_deserializer(
    deserialize: Callable[[bytes], Any], tally: MethodTally
) -> Callable[[bytes], Any]:
    """Reads messages, and passes on those that it cannot read for `decoded` to refuse.

    Without it gRPC answers UNKNOWN with the text of the exception.
    """

    def safe(data: bytes) -> Any:
        tally.received += 1
        request_bytes.set(len(data))
        try:
            return deserialize(data)
        except DecodeError:
            return _UNDECODABLE

    return safe


def counting_serializer(
    serialize: Callable[[Any], bytes], tally: MethodTally
) -> Callable[[Any], bytes]:
    """Writes messages and counts them."""

    def counted(reply: Any) -> bytes:
        tally.sent += 1
        return serialize(reply)

    return counted


def decoded(request: Any) -> Any:
    """The request.

    Raises:
        InvalidRequest: It could not be read.
    """
    if request is _UNDECODABLE:
        raise InvalidRequest(
            "the message cannot be decoded as the request of this method; "
            "check the .proto that the client was generated from",
            reason="UNDECODABLE_MESSAGE",
        )
    return request


async def receive(context: grpc.aio.ServicerContext[Any, Any], *, within_s: float) -> Any:
    """The one message of a call.

    Raises:
        InvalidRequest: There is none, or it could not be read.
        DeadlineExpired: It is still not whole after `within_s`.
    """
    try:
        async with asyncio.timeout(within_s):
            request = await context.read()
    except TimeoutError as exc:
        raise DeadlineExpired(
            f"the message of the call was not whole after {within_s:g} s; send smaller ones",
            reason="MESSAGE_TOO_SLOW",
        ) from exc
    if request is grpc.aio.EOF:
        raise InvalidRequest("the call has no message; send one", reason="NO_MESSAGE")
    return decoded(request)


async def decode_each(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The requests of a stream.

    Raises:
        InvalidRequest: One could not be read.
    """
    async for request in requests:
        yield decoded(request)
