"""What comes in: how many calls are in work, and their messages from the first byte to the last.

gRPC gathers a message in memory from the moment it is asked for, up to the longest allowed. So a
message is asked for only once its call has a place (`doors.bounds.Gate`), it must be whole in time
(`Arrivals`), and its bytes count until its call is over (`UnaryMessages`).

`reading` and `writing` make the functions that gRPC is given in place of those of the stubs to turn
bytes into messages and messages into bytes. gRPC runs them in the task of the call.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import math
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from unitvec_server.doors import calls
from unitvec_server.doors.bounds import HeldBytes
from unitvec_server.doors.calls import Call, MethodTally
from unitvec_server.errors import DeadlineExpired, InvalidRequest

Context = grpc.aio.ServicerContext[Any, Any]

_UNDECODABLE = object()

MAX_METADATA_BYTES = 16 * 1024
"""Size of the metadata of a call, as HTTP/2 counts it."""

_ENTRY_BYTES = 32
"""Bytes that each entry counts beside its name and value, by RFC 9113, section 6.5.2."""

_CANCEL_S = 0.05
"""Time in which gRPC cancels the task of a call, once it has seen the call cancelled."""


def metadata_bytes(entries: Collection[Any]) -> int:
    """Returns the size of the metadata of a call, as HTTP/2 counts it."""
    return sum(map(len, itertools.chain.from_iterable(entries))) + _ENTRY_BYTES * len(entries)


def long_metadata() -> InvalidRequest:
    """Returns the error for metadata beyond the limit.

    gRPC lets it in until the client has acknowledged the limit.
    """
    return InvalidRequest(f"metadata of a call has at most {MAX_METADATA_BYTES} bytes")


class UnaryMessages:
    """Counts the messages of unary calls that come through this door.

    Args:
        held: The bytes of those of all doors.
    """

    def __init__(self, held: HeldBytes) -> None:
        self._held = held

    def admit(self, call: Call, context: Context) -> None:
        """Counts the request of a call until the call is over.

        Raises:
            Overloaded: There is no room.
        """
        self._held.admit(call.request_bytes)
        release: Any = functools.partial(self._release, call)
        context.add_done_callback(release)

    def add_reply(self, call: Call, size_bytes: int) -> None:
        """Counts the reply of a call that was admitted."""
        call.reply_bytes = size_bytes
        self._held.add(size_bytes)

    def _release(self, call: Call, _: object) -> None:
        self._held.release(call.request_bytes + call.reply_bytes)


class Arrivals:
    """The messages of unary calls that are still arriving.

    Args:
        within_s: Time for each message to be whole.
        most: Messages that may arrive at a time. When there is one more, the one that took longest
            is given up: clients that send whole messages are not kept out by those that do not.
        most_bytes: Bytes of the longest message.
    """

    def __init__(
        self, *, within_s: float, most: float = math.inf, most_bytes: float = math.inf
    ) -> None:
        self._within_s = within_s
        self._most = most
        self._most_bytes = most_bytes
        self._arriving: dict[asyncio.Timeout, None] = {}

    async def receive(self, call: Call, context: Context) -> Any:
        """Returns the one message of a call.

        Raises:
            InvalidRequest: There is none, it could not be read, or it is too long.
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
            # A call that has just been cancelled looks the same; its task is cancelled soon.
            await asyncio.sleep(_CANCEL_S)
            raise InvalidRequest("the call has no message; send one", reason="NO_MESSAGE")
        if request is _UNDECODABLE:
            raise _undecodable()
        if call.request_bytes > self._most_bytes:
            raise InvalidRequest(f"a message of this method has at most {self._most_bytes} bytes")
        return request


async def decode_each(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Passes on the requests of a stream.

    Raises:
        InvalidRequest: One could not be read.
    """
    async for request in requests:
        if request is _UNDECODABLE:
            raise _undecodable()
        yield request


def _undecodable() -> InvalidRequest:
    return InvalidRequest(
        "the message cannot be decoded as the request of this method; "
        "check the .proto that the client was generated from",
        reason="UNDECODABLE_MESSAGE",
    )


def reading(decode: Callable[[bytes], Any], tally: MethodTally) -> Callable[[bytes], Any]:
    """Makes the function that reads messages and counts them.

    It returns a mark for a message that it cannot read: of an exception here gRPC would tell
    the client the text, with the status UNKNOWN.
    """

    def read(data: bytes) -> Any:
        tally.received += 1
        calls.current.get().request_bytes = len(data)
        try:
            return decode(data)
        except DecodeError:
            return _UNDECODABLE

    return read


def writing(
    encode: Callable[[Any], bytes], tally: MethodTally, *, messages: UnaryMessages | None = None
) -> Callable[[Any], bytes]:
    """Makes the function that writes messages and counts them, and their bytes in `messages`."""

    def write(reply: Any) -> bytes:
        tally.sent += 1
        data = encode(reply)
        if messages is not None:
            messages.add_reply(calls.current.get(), len(data))
        return data

    return write
