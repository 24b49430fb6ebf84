"""Streams of `tei.v1`: order, errors, backpressure, cancellation, deadlines, drain."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests.e2e.faulty_server import HOLD, text
from tests.e2e.limited_server import with_limits
from tests.e2e.peers.conftest import read_metric
from tests.serving import Server
from unitvec_protos.tei import tei_pb2, tei_pb2_grpc
from unitvec_protos.v1 import embedding_pb2 as pb

Code = grpc.StatusCode
Start = Callable[..., Server]


def embed_stream(server: Server, texts: Iterator[str], **how: Any) -> Any:
    """A stream of `EmbedStream` over texts."""
    requests = (tei_pb2.EmbedRequest(inputs=text) for text in texts)
    return tei_pb2_grpc.EmbedStub(server.channel).EmbedStream(requests, **how)


def endless(first: str, *, over: threading.Event) -> Iterator[str]:
    """A text, then others, then silence until the test is over."""
    yield first
    yield from (f"text number {number}" for number in range(1000))
    over.wait()


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Set when the test is over, so that the threads that send can end."""
    event = threading.Event()
    yield event
    event.set()


def test_replies_come_in_order(prompted_server: Server) -> None:
    """However long the texts are, and with the bits of a lone call."""
    texts = [" ".join(["a"] * (number % 40 + 1)) + f" {number}" for number in range(200)]
    replies = list(embed_stream(prompted_server, iter(texts)))
    expected = prompted_server.stub.Embed(pb.EmbedRequest(texts=texts)).embeddings
    vectors = b"".join(map(bytes_of, replies))
    assert vectors == expected.data
    assert [reply.metadata.compute_chars for reply in replies] == list(map(len, texts))


def bytes_of(reply: tei_pb2.EmbedResponse) -> bytes:
    """The vector as our own contract writes it."""
    return np.array(reply.embeddings, "<f4").tobytes()


def test_the_first_error_ends_the_stream(prompted_server: Server) -> None:
    """After the replies to what came before it, as in TEI."""
    replies = embed_stream(prompted_server, iter(["a", "b", "", "c"]))
    assert len(next(replies).embeddings) == len(next(replies).embeddings) == 32
    with pytest.raises(grpc.RpcError, match="inputs cannot be empty") as caught:
        next(replies)
    assert caught.value.code() is Code.INVALID_ARGUMENT


def test_tokens_there_and_back(prompted_server: Server) -> None:
    stub = tei_pb2_grpc.TokenizeStub(prompted_server.channel)
    texts = ["a cat", "on a mat", "at noon"]
    requests = (tei_pb2.EncodeRequest(inputs=text, prompt_name="") for text in texts)
    split = [[token.id for token in reply.tokens] for reply in stub.TokenizeStream(requests)]
    joined = stub.DecodeStream(tei_pb2.DecodeRequest(ids=ids) for ids in split)
    assert [reply.text.replace(" ##", "") for reply in joined] == texts


def test_no_further_is_read_than_the_bound(
    start_faulty: Start, release: Path, over: threading.Event
) -> None:
    """While nothing is answered, whatever the client sends."""
    server = start_faulty("--workers", "1", "--metrics-port", "0")
    replies = embed_stream(server, endless(text(HOLD), over=over))
    server.process.wait_for_log("on hold")

    def received() -> float:
        return read_metric(server, "grpc_server_msg_received_total", grpc_method="EmbedStream")

    while received() < 64:
        pass
    info = tei_pb2_grpc.InfoStub(server.channel).Info
    assert {info(tei_pb2.InfoRequest()).max_input_length for _ in range(20)} == {64}
    assert received() == 64
    release.touch()
    assert len(list(itertools.islice(replies, 1001))) == 1001
    replies.cancel()


def test_a_cancelled_stream_leaves_nothing_behind(
    start_faulty: Start, release: Path, over: threading.Event
) -> None:
    """Its texts that wait are dropped; the places in the queue are free again."""
    server = start_faulty("--workers", "1", "--metrics-port", "0")
    replies = embed_stream(server, endless(text(HOLD), over=over))
    server.process.wait_for_log("on hold")
    while not read_metric(server, "unitvec_queue_texts"):
        pass
    replies.cancel()
    while read_metric(server, "unitvec_queue_texts"):
        pass
    release.touch()
    assert server.stub.Embed(pb.EmbedRequest(texts=["a"])).embeddings.rows == 1
    while read_metric(server, "unitvec_messages_bytes", kind="stream"):
        pass


def test_a_deadline_ends_a_stream(
    start_faulty: Start, release: Path, over: threading.Event
) -> None:
    server = start_faulty("--workers", "1")
    replies = embed_stream(server, endless(text(HOLD), over=over), timeout=1)
    with pytest.raises(grpc.RpcError) as caught:
        next(replies)
    assert caught.value.code() is Code.DEADLINE_EXCEEDED
    release.touch()
    assert server.stub.Embed(pb.EmbedRequest(texts=["a"])).embeddings.rows == 1


def test_a_stream_without_texts_has_no_replies(prompted_server: Server) -> None:
    assert list(embed_stream(prompted_server, iter(()))) == []
    stub = tei_pb2_grpc.TokenizeStub(prompted_server.channel)
    assert list(stub.TokenizeStream(iter(()))) == list(stub.DecodeStream(iter(()))) == []


@pytest.mark.parametrize("texts", [[], ["a cat"]], ids=["from the start", "later"])
def test_a_stream_that_falls_silent_is_ended(
    start: Start, artifact: Path, over: threading.Event, texts: list[str]
) -> None:
    """What was read is answered."""
    server = start("--model", str(artifact), **with_limits(max_stream_idle_s=1))

    def silent() -> Iterator[str]:
        yield from texts
        over.wait()

    replies = embed_stream(server, silent())
    assert len(list(itertools.islice(replies, len(texts)))) == len(texts)
    with pytest.raises(grpc.RpcError) as caught:
        next(replies)
    assert caught.value.code() is Code.UNAVAILABLE
    error = pb.Error.FromString(dict(caught.value.trailing_metadata())["unitvec-error-bin"])
    assert error.reason == "STREAM_IDLE"


def test_a_stop_answers_what_was_read(start: Start, artifact: Path, over: threading.Event) -> None:
    server = start("--model", str(artifact))

    def texts() -> Iterator[str]:
        yield from "abcde"
        over.wait()

    replies = embed_stream(server, texts())
    assert len([next(replies) for _ in range(5)]) == 5
    server.process.send(signal.SIGTERM)
    with pytest.raises(grpc.RpcError, match="shutting down") as caught:
        next(replies)
    assert caught.value.code() is Code.UNAVAILABLE
    over.set()
    assert server.process.wait() == 0
