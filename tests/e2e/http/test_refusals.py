"""What is not read on is refused: in its turn, once, and without losing what was said before."""

from __future__ import annotations

import re

import pytest

from tests.e2e.http.listening import (
    Serve,
    post,
    read_all,
    until,
    waited_for,
)
from unitvec_server.http.connection import MAX_HEAD_BYTES


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
