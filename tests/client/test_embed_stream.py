"""`embed_stream` with both clients: order, per-item errors, breaks, bounds, early ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

import unitvec_client as uv
from unitvec_client.core.rpcs import STREAM_EMBED
from unitvec_client.core.steps import END, Call, Finish, Open, Poll, Receive, Script, Send, Sleep
from unitvec_client.drivers import asynchronous as nonblocking
from unitvec_client.drivers import blocking
from unitvec_protos.v1 import embedding_pb2 as pb

BAD = "<bad>"
WORDS = [f"text number {i}" for i in range(100)]


@pytest.mark.parametrize("knows_partial", [True, False])
def test_stream_gives_every_text_its_answer(
    client: Any, fake: Any, expected: np.ndarray, knows_partial: bool
) -> None:
    """By a server that lets texts fail one by one, and by one that fails a request as a whole."""
    fake.servicer.knows_partial = knows_partial
    fake.servicer.reverse_replies = True
    texts = list(WORDS)
    for bad in (0, 17, 18, 99):
        texts[bad] = BAD
    items = list(client.embed_stream(iter(texts), chunk_texts=10))
    assert [item.index for item in items] == list(range(100))
    for item, text in zip(items, texts, strict=True):
        if text == BAD:
            assert item.error.field == f"texts[{item.index}]"
            assert item.vector is None
        else:
            np.testing.assert_array_equal(item.vector, expected[item.index])
            assert item.tokens == 5


def test_texts_beside_one_that_fails_are_sent_once(client: Any, fake: Any) -> None:
    texts = [BAD if i % 3 == 1 else text for i, text in enumerate(WORDS)]
    items = list(client.embed_stream(texts, chunk_texts=10))
    assert [item.index for item in items if item.error] == list(range(1, 100, 3))
    [call] = fake.servicer.calls("StreamEmbed")
    assert [len(message.request.texts) for message in call.requests] == [10] * 10


def test_stream_counts_what_was_left_out(client: Any) -> None:
    long = "a text of more than six tokens"
    items = list(client.embed_stream(["short", long, "short"]))
    assert [(item.truncated, item.left_out_tokens) for item in items] == [
        (False, 0),
        (True, 3),
        (False, 0),
    ]


def test_broken_stream_is_opened_again(client: Any, fake: Any, expected: np.ndarray) -> None:
    fake.servicer.break_after.extend([2, 0, 1])
    items = list(client.embed_stream(WORDS, chunk_texts=5))
    np.testing.assert_array_equal(np.stack([item.vector for item in items]), expected)
    assert len(fake.servicer.calls("StreamEmbed")) == 4


def test_stream_gives_up_when_nothing_moves(client: Any, fake: Any) -> None:
    fake.servicer.break_after.extend([0] * 4)
    with pytest.raises(uv.UnavailableError):
        list(client.embed_stream(WORDS))


def test_stream_retries_a_shed_request(client: Any, fake: Any, expected: np.ndarray) -> None:
    fake.servicer.item_errors.extend([pb.Error(code=8, retry_delay_ms=1)] * 2)
    items = list(client.embed_stream(WORDS[:20], chunk_texts=10))
    np.testing.assert_array_equal(np.stack([item.vector for item in items]), expected[:20])


def test_stream_that_ends_early_is_a_protocol_error(client: Any, fake: Any) -> None:
    fake.servicer.end_after = 1
    with pytest.raises(uv.ProtocolError):
        list(client.embed_stream(WORDS, chunk_texts=5))


def test_stream_reads_ahead_no_further_than_its_window(client: Any, fake: Any) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield f"text {read}"

    items = client.embed_stream(endless(), chunk_texts=5)
    for index, item in zip(range(200), items, strict=False):
        assert item.index == index
        assert read - index <= 4 * 5 + 5
    items.close()
    assert fake.servicer.stream_ended.wait(10)


def test_stream_left_early_leaves_no_thread(client: Any, fake: Any) -> None:
    client.models()
    before = set(threading.enumerate())
    items = client.embed_stream(WORDS, chunk_texts=2)
    next(items)
    items.close()
    assert fake.servicer.stream_ended.wait(10)
    for thread in set(threading.enumerate()) - before:
        if "ThreadPoolExecutor" not in thread.name:  # the fake server's own
            thread.join(10)
            assert not thread.is_alive(), thread


def test_error_in_the_callers_iterable_reaches_the_caller(client: Any) -> None:
    def broken() -> Iterator[str]:
        yield "a"
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        list(client.embed_stream(broken(), chunk_texts=1))


def test_empty_stream(client: Any, fake: Any) -> None:
    assert list(client.embed_stream([])) == []
    assert not fake.servicer.calls("StreamEmbed")


class Gated:
    """Two texts, and a third when the server has the first two; for loops of both kinds."""

    def __init__(self, arrived: threading.Event) -> None:
        self._arrived = arrived

    def __iter__(self) -> Iterator[str]:
        yield from WORDS[:2]
        yield WORDS[2] if self._arrived.wait(10) else BAD

    async def __aiter__(self) -> AsyncIterator[str]:
        for text in WORDS[:2]:
            yield text
        yield WORDS[2] if await asyncio.to_thread(self._arrived.wait, 10) else BAD


def test_full_chunk_is_sent_while_the_source_is_slow(client: Any, fake: Any) -> None:
    arrived = threading.Event()
    fake.servicer.before_reply = arrived.set
    items = list(client.embed_stream(Gated(arrived), chunk_texts=2))
    assert [item.error for item in items] == [None] * 3


def polling_script(replies: list[Any]) -> Script[None]:
    yield Open(Call(STREAM_EMBED, None, 30.0, ()))
    replies.append((yield Poll()))
    yield Send(pb.StreamEmbedRequest(id="7", request=pb.EmbedRequest(texts=["a"])))
    for _ in range(10_000):
        replies.append((yield Poll()))
        if replies[-1] is not None:
            break
        yield Sleep(0.001)
    yield Finish()
    replies.append((yield Receive()))


def test_polling_never_waits_and_loses_nothing(fake: Any) -> None:
    replies: list[Any] = []
    with grpc.insecure_channel(fake.target) as channel:
        blocking.run(blocking.Wire(channel), polling_script(replies))
    assert (replies[0], replies[-2].id, replies[-1]) == (None, "7", END)


def test_polling_never_waits_and_loses_nothing_in_a_loop(fake: Any) -> None:
    replies: list[Any] = []

    async def run() -> None:
        async with grpc.aio.insecure_channel(fake.target) as channel:
            await nonblocking.run(nonblocking.Wire(channel), polling_script(replies))

    asyncio.run(run())
    assert (replies[0], replies[-2].id, replies[-1]) == (None, "7", END)
