"""Clients that are slow, long, many or wrong: over raw sockets, with short times."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any

import pytest

from unitvec_server.config import ServerConfig
from unitvec_server.doors.rules import HouseRules
from unitvec_server.errors import Unauthenticated
from unitvec_server.http.apis.openai import write_error
from unitvec_server.http.connection import MAX_HEAD_BYTES, ConnectionLimits
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
            max_body_bytes=MAX_BODY_BYTES,
            max_values=100,
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


@pytest.fixture
def serve() -> Serve:
    """Serves with these limits."""

    @contextlib.asynccontextmanager
    async def begin(*, arrival_s: float = 60.0, **limits: float) -> AsyncIterator[Served]:
        made = Served(dataclasses.replace(PATIENT, **limits), arrival_s)
        await made.listener.start(ServerConfig(http_port=0), None)
        yield made
        await made.listener.drain(5)
        await until(lambda: not made.listener.connections)
        assert (made.rules.calls.count, made.rules.messages.count) == (0, 0)

    return begin


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


async def test_a_head_that_never_ends_is_hung_up_on(serve: Serve) -> None:
    """From the first byte, or from none; on a connection that served before, too."""
    async with serve(head_s=0.2) as served:
        assert await served.ask() == b""
        assert b" 408 " in await served.ask(b"POST /echo HTTP/1.1\r\nhost: x\r\n")
        again = await served.ask(post(b"1") + b"POST /ec")
        assert b" 200 OK" in again
        assert b" 408 " in again


async def test_an_idle_connection_is_closed(serve: Serve) -> None:
    async with serve(idle_s=0.2) as served:
        assert b" 200 OK" in await served.ask(post(b"1"))


async def test_a_body_that_never_ends_is_refused(serve: Serve) -> None:
    """In time, and the rest of it is not waited for."""
    async with serve(arrival_s=0.2, rest_s=0.2) as served:
        whole = post(b"x" * 100)
        assert b" 408 " in await served.ask(whole[:-50])
        assert served.count("408") == 1


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * MAX_HEAD_BYTES + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\na: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (MAX_HEAD_BYTES // 5) + b"\r\n",
    ],
    ids=["path", "header", "headers"],
)
@pytest.mark.parametrize("size", [1000, 2**20])
async def test_a_long_head_is_refused(serve: Serve, head: bytes, size: int) -> None:
    """Whole or in pieces; and one without an end, when it is too long or too late."""
    async with serve(head_s=0.2) as served:
        pieces = [head[start : start + size] for start in range(0, len(head), size)]
        assert b" 431 " in await served.ask(*pieces)
        endless = [head.rstrip(b"\r\n"), *[b"a" * size] * 3]
        reply = await served.ask(*endless)
        assert b" 431 " in reply or b" 408 " in reply or not reply


async def test_what_comes_after_a_refusal_is_thrown_away(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """However much it is, and whatever has been wrong with it."""
    async with serve(rest_s=0.2) as served, served.connect() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n: " + b"a" * 1000)
        await waited_for(lambda: served.listener._state.connections)
        writer.write(b"b" * 4 * MAX_HEAD_BYTES + b"\r\n\r\n" + post(b"1"))
        assert re.findall(rb"HTTP/1.1 (\d+)", await read_all(reader)) == [b"400"]
    assert not caplog.records


async def test_a_long_body_is_refused_by_its_head(serve: Serve) -> None:
    """Before any of it; and one in chunks as soon as it is too long."""
    async with serve(rest_s=0.2) as served:
        head = post(b"").replace(b"content-length: 0", b"content-length: 100001")
        reply = await served.ask(head)
        assert b" 413 " in reply
        assert b"max_message_bytes (100000)" in reply
        chunked = head.replace(b"content-length: 100001", b"transfer-encoding: chunked")
        chunk = b"ffff\r\n" + b"x" * 65_535 + b"\r\n"
        assert b" 413 " in await served.ask(chunked, chunk, chunk)
        assert served.count("413") == 2


async def test_what_comes_around_a_body_is_bounded_too(serve: Serve) -> None:
    """Extensions of chunks, and trailers."""
    head = post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
    chunk = b"1;" + b"e" * 5000 + b"\r\nx\r\n"
    async with serve(rest_s=0.2) as served:
        assert b"200 OK" not in await served.ask(head, *[chunk] * 100)
        trailers = [b"0\r\n", *[b"t: " + b"v" * 1000 + b"\r\n"] * 100]
        assert b"200 OK" not in await served.ask(head, *trailers)


async def test_connections_beyond_the_limit_are_closed(serve: Serve) -> None:
    async with serve() as served, contextlib.AsyncExitStack() as stack:
        held = [await stack.enter_async_context(served.connect()) for _ in range(8)]
        assert await served.ask(post(b"1")) == b""
        for reader, writer in held:
            writer.write(post(b"1"))
            assert b" 200 OK" in await reader.readuntil(b"\r\n\r\n")


async def test_requests_ahead_of_their_answers_are_bounded(serve: Serve) -> None:
    """Some are answered in order; thousands at once are not taken."""
    async with serve(idle_s=0.2) as served:
        assert (await served.ask(post(b"1") * 5)).count(b" 200 OK") == 5
        assert b" 429 " in await served.ask(post(b"1") * 5000)


@pytest.mark.parametrize(
    ("rest", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", b"400"),
        (b"GET / HTTP/1.1\r\na: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n", b"431"),
        (b"POST /echo HT", b"408"),
        (b"GET /echo HTTP/1.1\r\nhost: x\r\n\r\n" * 9, b"429"),
    ],
    ids=["junk", "body", "head", "slow", "many"],
)
async def test_a_refusal_comes_after_the_answers_before_it(
    serve: Serve, rest: bytes, status: bytes
) -> None:
    """Else it would be taken for one of them."""
    async with serve(head_s=0.3) as served, served.connect() as (reader, writer):
        writer.write(b"GET /gated HTTP/1.1\r\nhost: x\r\n\r\n" + rest)
        [connection] = await waited_for(lambda: served.listener._state.connections)
        await until(lambda: connection._is_refused)  # type: ignore[union-attr]
        assert connection._timer is None  # type: ignore[union-attr]  # the answers take their time
        served.gate.set()
        replies = await read_all(reader)
        found = re.findall(rb"HTTP/1.1 (\d+)", replies)
        assert (found[0], found[-1], found.count(status)) == (b"200", status, 1)
        assert (b"retry-after: 1" in replies) == (status == b"429")


async def test_a_body_that_breaks_after_its_answer_has_no_other(serve: Serve) -> None:
    async with serve(rest_s=0.2) as served:
        head = post(b"", b"authorization: stranger")
        head = head.replace(b"content-length: 0", b"transfer-encoding: chunked")
        async with served.connect() as (reader, writer):
            writer.write(head)
            await until(lambda: served.count("401") == 1)
            writer.write(b"xyz\r\n")
            assert re.findall(rb"HTTP/1.1 (\d+)", await read_all(reader)) == [b"401"]


@pytest.mark.parametrize("path", [b"/gated", b"/large"])
async def test_a_body_that_breaks_before_its_answer_ends_the_request(
    serve: Serve, path: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether or not the answer has begun, nothing more is said of it."""
    async with serve(rest_s=0.2) as served, served.connect() as (reader, writer):
        head = b"GET %b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" % path
        writer.write(head)
        await until(lambda: served.rules.calls.count + served.rules.messages.count > 0)
        writer.write(b"xyz\r\n")
        replies = await read_all(reader)
        wanted = {b"/gated": [b"400"], b"/large": [b"200"]}[path]
        assert re.findall(rb"HTTP/1.1 (\d+)", replies) == wanted
        served.gate.set()
    assert not caplog.records


async def test_many_replies_that_nobody_takes_are_cut(serve: Serve) -> None:
    """However short each is: each waits for room no longer than a long one does."""
    async with serve(arrival_s=0.3) as served, served.connect() as (_, writer):
        await until(lambda: bool(served.listener.connections))
        for number in range(1, 2 * LARGE // 60_000):
            writer.write(b"GET /short HTTP/1.1\r\nhost: x\r\n\r\n")
            await until(lambda: served.count("200") == number or not served.listener.connections)  # noqa: B023
        assert not served.listener.connections


async def test_a_reply_that_nobody_takes_is_cut(serve: Serve) -> None:
    """It counts as held until then."""
    async with serve(arrival_s=0.3) as served, served.connect() as (reader, writer):
        writer.write(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        assert served.rules.messages.count == LARGE
        await until(lambda: not served.rules.messages.count)
        assert len(await read_all(reader)) < LARGE


async def test_strangers_are_refused_before_their_body(serve: Serve) -> None:
    async with serve(rest_s=0.2) as served:
        reply = await served.ask(post(b"x" * 100, b"authorization: stranger")[:-90])
        assert b" 401 " in reply
        assert b"www-authenticate: Bearer" in reply


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        b"POST /echo HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /echo HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"POST /echo HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n" * 1000 + b"nonsense\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_refused(serve: Serve, junk: bytes) -> None:
    """With 400 or without a word, and the next client is served."""
    async with serve(idle_s=0.2, head_s=0.2, arrival_s=0.2) as served:
        reply = await served.ask(junk)
        assert b" 200 " not in reply
        assert b" 500 " not in reply
        assert b" 200 OK" in await served.ask(post(b"1"))


async def test_clients_that_would_rather_have_another_protocol_are_served(serve: Serve) -> None:
    """Java's own client offers HTTP/2 with each request."""
    upgrade = (b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AA")
    async with serve(idle_s=0.2) as served:
        replies = await served.ask(post(b"[1]", *upgrade))
        assert replies.endswith(b"[1]")
        async with served.connect() as (reader, writer):
            for body in (b"[1]", b"[2]"):
                writer.write(post(body, *upgrade))
                assert b" 200 OK" in await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(3) == body


async def test_an_old_connection_is_closed_after_its_answer(serve: Serve) -> None:
    async with serve(max_age_s=0.0) as served:
        assert b"connection: close" in await served.ask(post(b"1"))


async def test_expectations_are_met_before_the_body(serve: Serve) -> None:
    """As curl has them for long bodies; a refusal comes in place of the invitation."""
    async with serve(idle_s=0.2, rest_s=0.2) as served, served.connect() as (reader, writer):
        head, _, body = post(b"x" * 2000, b"expect: 100-continue").partition(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert b" 200 OK" in await reader.readuntil(b"\r\n\r\n")
        refused = head.replace(b"content-length: 2000", b"content-length: 200000")
        assert b"100 Continue" not in await served.ask(refused + b"\r\n\r\n")
