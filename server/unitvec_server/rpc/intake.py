"""Where bytes become messages and messages bytes: what gRPC is given in place of the stubs' own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from unitvec_server.errors import DeadlineExpired, InvalidRequest
from unitvec_server.rpc.calls import MethodTally

_UNDECODABLE = object()

_CANCEL_S = 0.05
"""In which gRPC cancels the task of a call, once it has seen the call cancelled."""

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


class Arrivals:
    """Messages of unary calls that are still arriving, each of which gRPC gathers in memory.

    Args:
        most: How many at a time. Beyond it the one that has taken longest is given up: whoever
            sends whole messages is not kept out by those who do not.
        within_s: Time for each to be whole.
    """

    def __init__(self, most: float, *, within_s: float) -> None:
        self._most = most
        self._within_s = within_s
        self._arriving: dict[asyncio.Timeout, None] = {}

    async def receive(self, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        """The one message of a call.

        Raises:
            InvalidRequest: There is none, or it could not be read.
            DeadlineExpired: It is not whole in time.
        """
        try:
            async with asyncio.timeout(self._within_s) as time:
                self._arriving[time] = None
                if len(self._arriving) > self._most:
                    oldest = next(iter(self._arriving))
                    del self._arriving[oldest]
                    oldest.reschedule(asyncio.get_running_loop().time())
                request = await context.read()
        except TimeoutError as exc:
            raise DeadlineExpired(
                "the message of the call took too long to arrive; send smaller ones",
                reason="MESSAGE_TOO_SLOW",
            ) from exc
        finally:
            self._arriving.pop(time, None)
        if request is grpc.aio.EOF:
            # So it is as well for a call that has just been cancelled: its task soon hears of it.
            await asyncio.sleep(_CANCEL_S)
            raise InvalidRequest("the call has no message; send one", reason="NO_MESSAGE")
        return decoded(request)


async def decode_each(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The requests of a stream.

    Raises:
        InvalidRequest: One could not be read.
    """
    async for request in requests:
        yield decoded(request)
