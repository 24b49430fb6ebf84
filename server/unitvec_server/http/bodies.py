"""Bodies on their way in and out: bounded in bytes and in time, and counted while they are held."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from unitvec_server.doors.bounds import HeldBytes
from unitvec_server.errors import DeadlineExpired, InvalidRequest
from unitvec_server.http.exchange import JSON, Reply, to_json

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = Mapping[bytes, bytes]

ARRIVAL_S = 60.0
"""Time for a body to be whole, and for a reply to be taken, as over gRPC: the longest of 16 MiB
takes 60 s at 2 Mbit/s."""

_BUFFERED_BYTES = 64 * 1024
"""Most bytes of a reply that wait in the transport without its telling so."""


class ClientGone(Exception):
    """There is nobody left to answer."""


class Hold:
    """The bytes of one call, which count until it is over."""

    def __init__(self, held: HeldBytes) -> None:
        self._held = held
        self._size_bytes = 0

    def admit(self, size_bytes: int) -> None:
        """Counts a part of a request.

        Raises:
            Overloaded: There is no room.
        """
        self._held.admit(size_bytes)
        self._size_bytes += size_bytes

    def add(self, size_bytes: int) -> None:
        """Counts a reply."""
        self._held.add(size_bytes)
        self._size_bytes += size_bytes

    def release(self) -> None:
        """Counts nothing any more."""
        self._held.release(self._size_bytes)
        self._size_bytes = 0


def check_headers(headers: Headers, *, max_body_bytes: int) -> None:
    """Refuses a body by what its headers say.

    Raises:
        InvalidRequest: It is too long, compressed, or not JSON.
    """
    if int(headers.get(b"content-length", b"0")) > max_body_bytes:
        raise too_large(max_body_bytes)
    is_plain = headers.get(b"content-encoding", b"identity").lower() == b"identity"
    if not is_plain or headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
        raise InvalidRequest(
            "a compressed body is not read; send it as it is", reason="WRONG_CONTENT_TYPE"
        )
    # A page of another site can send other types, or none, through the browser of a user, but not
    # JSON. Some clients that are no browsers, such as Weaviate, name no type.
    unsaid = b"" if b"origin" in headers else JSON.encode()
    kind = headers.get(b"content-type", unsaid).partition(b";")[0].strip().lower()
    if kind != JSON.encode() and not kind.endswith(b"+json"):
        raise InvalidRequest(
            "the body must be JSON; send the header content-type: application/json",
            reason="WRONG_CONTENT_TYPE",
        )


def too_large(max_body_bytes: int) -> InvalidRequest:
    """The error for a body that is too long."""
    return InvalidRequest(
        f"the body is longer than max_message_bytes ({max_body_bytes}); split the request",
        reason="BODY_TOO_LARGE",
    )


@dataclasses.dataclass(frozen=True)
class BodyLimits:
    """What a body may have.

    Attributes:
        max_bytes: Bytes.
        max_values: Strings, lists and objects, names of fields included.
        max_items: Commas outside of strings: items of lists and fields of objects, less the first
            of each.
    """

    max_bytes: int
    max_values: int
    max_items: int


class ValueCount:
    """Counts the values of a body as it arrives, before anything is made of them.

    Each string, list or object takes two bytes of a body and 50 to 100 of memory, each number two
    bytes and 40. To make millions of them holds the interpreter, and with it the event loop, for a
    second, in which nobody else is answered. Of valid JSON the counts are exact.

    A part may end within a string, or between a backslash and what it escapes; both are kept for
    the next part.

    Args:
        limits: What the body may have.
    """

    def __init__(self, limits: BodyLimits) -> None:
        self._limits = limits
        self._values = self._items = 0
        self._is_in_string = False
        self._rest = b""

    def add(self, part: bytes) -> None:
        """Counts the next part.

        Raises:
            InvalidRequest: There are more values than any request has.
        """
        plain = (self._rest + part).replace(b"\\\\", b"")
        self._rest = b"\\" if plain.endswith(b"\\") else b""
        pieces = plain.removesuffix(self._rest).replace(b'\\"', b"").split(b'"')
        outside = b"".join(pieces[self._is_in_string :: 2])
        strings = len(pieces[1 + self._is_in_string :: 2])
        self._values += strings + outside.count(b"[") + outside.count(b"{")
        self._items += outside.count(b",")
        self._is_in_string ^= len(pieces) % 2 == 0
        self._check()

    def _check(self) -> None:
        limits = self._limits
        if self._values > limits.max_values:
            raise InvalidRequest(
                f"the body has more than {limits.max_values} strings, lists and objects; split "
                "the request",
                reason="TOO_MANY_TEXTS",
            )
        if self._items > limits.max_items:
            raise InvalidRequest(
                f"the body has more than {limits.max_items} numbers and other values; split the "
                "request",
                reason="TOO_MANY_TOKENS",
            )


async def read_body(receive: Receive, hold: Hold, *, limits: BodyLimits, within_s: float) -> bytes:
    """Returns a body. What is in it is counted part by part, between which others have their turn.

    Args:
        receive: Receives the next part, as ASGI has it.
        hold: Counts the bytes.
        limits: What it may have.
        within_s: Time for it to be whole.

    Raises:
        InvalidRequest: It is too long, or has too many values.
        DeadlineExpired: It is not whole in time.
        Overloaded: All calls together hold too much.
        ClientGone: The client hung up.
    """
    parts: list[bytes] = []
    size_bytes, values = 0, ValueCount(limits)
    try:
        async with asyncio.timeout(within_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                part = message["body"]
                size_bytes += len(part)
                if size_bytes > limits.max_bytes:
                    raise too_large(limits.max_bytes)
                hold.admit(len(part))
                values.add(part)
                parts.append(part)
                if not message["more_body"]:
                    return b"".join(parts)
    except TimeoutError as exc:
        raise DeadlineExpired(
            "the body took too long to arrive; send smaller ones", reason="MESSAGE_TOO_SLOW"
        ) from exc


async def send_reply(
    send: Send, reply: Reply, headers: list[tuple[bytes, bytes]], *, within_s: float
) -> None:
    """Sends a reply, and waits until the client has taken most of it.

    What was sent before on the connection is taken first.

    Args:
        send: Sends a part, as ASGI has it.
        reply: The reply.
        headers: All its headers.
        within_s: Time for the client to take it.

    Raises:
        TimeoutError: It does not take it.
    """
    is_long = len(reply.body) > _BUFFERED_BYTES
    async with asyncio.timeout(within_s):
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body, "more_body": is_long})
        if is_long:  # this one waits until there is room
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def write_refusal(status: HTTPStatus) -> bytes:
    """The whole answer to what is not read on, be it a request or not, as OpenAI writes errors."""
    error = {"message": f"{status.phrase}: not read on", "type": "invalid_request_error"}
    body = to_json({"error": {**error, "param": None, "code": status.name.lower()}})
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", f"content-type: {JSON}"]
    lines += [f"content-length: {len(body)}", "connection: close"]
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        lines.append("retry-after: 1")
    return "\r\n".join([*lines, "", ""]).encode() + body
