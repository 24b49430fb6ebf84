"""Clients that are slow, long, many or wrong: over raw sockets, with short times."""

from __future__ import annotations

import contextlib

import pytest

from tests.e2e.http.listening import (
    LARGE,
    Serve,
    post,
    read_all,
    until,
)
from unitvec_server.http.connection import MAX_HEAD_BYTES


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
