"""A listener of HTTP in this process, with an edge, handlers and limits of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any

from unitvec_server.doors.rules import HouseRules
from unitvec_server.errors import Unauthenticated
from unitvec_server.http.apis.openai import write_error
from unitvec_server.http.bodies import BodyLimits
from unitvec_server.http.connection import ConnectionLimits
from unitvec_server.http.edge import HttpEdge
from unitvec_server.http.exchange import Reply, Request, Route
from unitvec_server.http.listener import HttpListener
from unitvec_server.http.routes import Routes

MAX_BODY_BYTES = 100_000
LARGE = 20_000_000
"""More than the buffers of both sockets hold."""

PATIENT = ConnectionLimits(8, MAX_BODY_BYTES)


async def echo(request: Request) -> Reply:
    """The body."""
    return Reply(request.body)


async def enlarge(_: Request) -> Reply:
    """Far more than is taken at once."""
    return Reply(b"x" * LARGE)


async def reply_short(_: Request) -> Reply:
    """What a buffer holds."""
    return Reply(b"x" * 60_000)


def check_token(authorization: str | bytes | None) -> None:
    """Everyone but one may enter."""
    if authorization == b"stranger":
        raise Unauthenticated("no")


class Served:
    """A listener with an edge of its own."""

    def __init__(self, limits: ConnectionLimits, arrival_s: float) -> None:
        self.rules = HouseRules(check_token, max_calls=4, max_unary_bytes=10 * MAX_BODY_BYTES)
        table = [
            Route("POST", "/echo", echo, "test", write_error, ""),
            Route("GET", "/large", enlarge, "test", write_error, ""),
            Route("GET", "/short", reply_short, "test", write_error, ""),
            Route("GET", "/gated", self._wait, "test", write_error, ""),
        ]
        self.gate = asyncio.Event()
        self.edge = HttpEdge(
            Routes(table, write_error),
            self.rules,
            limits=BodyLimits(MAX_BODY_BYTES, max_values=100, max_items=100),
            arrival_s=arrival_s,
        )
        self.listener = HttpListener(self.edge, limits)

    async def _wait(self, _: Request) -> Reply:
        """Nothing, once the gate is open."""
        await self.gate.wait()
        return Reply(b"")

    def count(self, status: str) -> int:
        """Requests that ended so."""
        return sum(tally.handled[status] for tally in self.edge.tallies.values())

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection to it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.listener.port)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def ask(self, *parts: bytes) -> bytes:
        """All that comes back until the server hangs up."""
        async with self.connect() as (reader, writer):
            with contextlib.suppress(ConnectionError):
                for part in parts:
                    writer.write(part)
                    await writer.drain()
            return await read_all(reader)


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """What comes until the end, however it ends."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(65_536):
            data += part
    return data


Serve = Callable[..., "contextlib.AbstractAsyncContextManager[Served]"]


async def waited_for(found: Callable[[], Collection[Any]]) -> Collection[Any]:
    """What is found, once there is something."""
    await until(lambda: bool(found()))
    return found()


async def until(holds: Callable[[], bool]) -> None:
    """Returns when it holds."""
    while not holds():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.01)


def post(body: bytes, *headers: bytes) -> bytes:
    """A whole request."""
    lines = [b"POST /echo HTTP/1.1", b"host: x", b"content-length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", body])
