"""Bodies on their way in and out: bounded in bytes and in time, and counted while they are held."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from unitvec_server.doors.bounds import HeldBytes
from unitvec_server.errors import DeadlineExpired, InvalidRequest
from unitvec_server.http.exchange import JSON, Reply

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
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise InvalidRequest(
            "a compressed body is not read; send it as it is", reason="WRONG_CONTENT_TYPE"
        )
    kind = headers.get(b"content-type", JSON.encode()).partition(b";")[0].strip().lower()
    if kind != JSON.encode() and not kind.endswith(b"+json"):
        # A page of another site can send other types through the browser of a user, but not JSON.
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


async def read_body(receive: Receive, hold: Hold, *, max_body_bytes: int, within_s: float) -> bytes:
    """Returns a body.

    Args:
        receive: Receives the next part, as ASGI has it.
        hold: Counts the bytes.
        max_body_bytes: The longest body.
        within_s: Time for it to be whole.

    Raises:
        InvalidRequest: It is too long.
        DeadlineExpired: It is not whole in time.
        Overloaded: All calls together hold too much.
        ClientGone: The client hung up.
    """
    parts: list[bytes] = []
    size_bytes = 0
    try:
        async with asyncio.timeout(within_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                part = message["body"]
                size_bytes += len(part)
                if size_bytes > max_body_bytes:
                    raise too_large(max_body_bytes)
                hold.admit(len(part))
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

    Args:
        send: Sends a part, as ASGI has it.
        reply: The reply.
        headers: All its headers.
        within_s: Time for the client to take it.

    Raises:
        TimeoutError: It does not take it.
    """
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if len(reply.body) <= _BUFFERED_BYTES:
        await send({"type": "http.response.body", "body": reply.body, "more_body": False})
        return
    await send({"type": "http.response.body", "body": reply.body, "more_body": True})
    async with asyncio.timeout(within_s):  # the next one waits until there is room
        await send({"type": "http.response.body", "body": b"", "more_body": False})
