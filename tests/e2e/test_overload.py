"""Overload over real sockets: who is shed, who waits, who is served, and what is held."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from tests.e2e.faulty_server import request
from tests.serving import Server, resident_bytes
from unitvec_protos.v1 import embedding_pb2 as pb

Start = Callable[..., Server]
Code = grpc.StatusCode

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
DATA_FRAME, HEADERS_FRAME, END_STREAM, END_HEADERS = 0, 1, 1, 4


def words(count: int, *, first: int = 0) -> list[str]:
    """Different short texts."""
    return [f"text number {number}" for number in range(first, first + count)]


def outcome(server: Server, request: pb.EmbedRequest) -> Code:
    """How a call ends."""
    try:
        server.stub.Embed(request)
    except grpc.RpcError as exc:
        code: Code = exc.code()
        return code
    return Code.OK


class Bulk:
    """A stream that always has more to send, read as fast as it is answered."""

    def __init__(self, server: Server, texts: int) -> None:
        self._numbers = itertools.count()
        self._texts = texts
        self._over = threading.Event()
        self.answered = threading.Semaphore(0)
        self.errors: list[pb.StreamEmbedResponse] = []
        self._stream = server.stub.StreamEmbed(self._requests())
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _requests(self) -> Iterator[pb.StreamEmbedRequest]:
        while not self._over.is_set():
            number = next(self._numbers)
            texts = words(self._texts, first=number * self._texts)
            yield pb.StreamEmbedRequest(id=str(number), request=pb.EmbedRequest(texts=texts))

    def _read(self) -> None:
        with contextlib.suppress(grpc.RpcError):  # until it is cancelled
            for reply in self._stream:
                if reply.HasField("error"):
                    self.errors.append(reply)
                self.answered.release()

    def end(self) -> None:
        """Leaves, with much in work."""
        self._over.set()
        self._stream.cancel()
        self._reader.join()


def test_a_bulk_stream_takes_nothing_that_unary_callers_need(start_faulty: Start) -> None:
    """None of theirs is refused while the stream fills all that it may; and it goes on."""
    limit = ("--max-queued-tokens", "20000")
    server = start_faulty(*limit, "--workers", "1", s_per_text=0.001)
    bulk = Bulk(server, texts=200)
    request = pb.EmbedRequest(texts=words(100))  # 1,700 tokens, by its bytes
    with ThreadPoolExecutor(5) as pool:
        for _ in range(3):
            bulk.answered.acquire()
            calls = [pool.submit(server.stub.Embed, request) for _ in range(5)]
            assert [call.result().embeddings.rows for call in calls] == [100] * 5
    bulk.answered.acquire()
    bulk.end()
    assert bulk.errors == []


def test_unary_overload_does_not_starve_a_stream(start_faulty: Start) -> None:
    """The stream waits and is answered, all of it, while unary callers are being refused."""
    limit = ("--max-queued-tokens", "10000")
    server = start_faulty(*limit, "--workers", "1", s_per_text=0.001)
    over = threading.Event()
    refused = threading.Event()

    def insist(caller: int) -> None:
        while not over.is_set():
            request = pb.EmbedRequest(texts=words(100, first=1000 * caller))
            if outcome(server, request) is Code.RESOURCE_EXHAUSTED:
                refused.set()

    with ThreadPoolExecutor(32) as pool:
        callers = [pool.submit(insist, caller) for caller in range(32)]
        try:
            assert refused.wait(60)
            requests = (
                pb.StreamEmbedRequest(id=str(n), request=pb.EmbedRequest(texts=words(50)))
                for n in range(20)
            )
            replies = list(server.stub.StreamEmbed(requests, timeout=120))
        finally:
            over.set()
    assert [caller.result() for caller in callers] == [None] * 32
    assert {reply.id for reply in replies if not reply.HasField("error")} == set(
        map(str, range(20))
    )


def test_what_cannot_be_in_time_is_refused_at_once(start_faulty: Start) -> None:
    """Long before its deadline, and with a delay after which it would be in time."""
    server = start_faulty("--workers", "1", s_per_text=0.01)
    long = pb.EmbedRequest(texts=[f"a {n}" for n in range(300)])
    server.stub.Embed(pb.EmbedRequest(texts=long.texts[:20]))  # now the speed is known
    blockers = [server.stub.Embed.future(long) for _ in range(4)]
    probe = pb.EmbedRequest(texts=long.texts[:90])  # 0.9 s of work alone
    while server.stub.Embed(pb.EmbedRequest(texts=["x"])).timings.queue_ns == 0:
        pass  # until they wait
    with pytest.raises(grpc.RpcError) as caught:
        server.stub.Embed(probe, timeout=1.0)
    assert caught.value.code() in (Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED)
    assert "not run" in caught.value.details()
    assert server.stub.Embed(pb.EmbedRequest(texts=["a lone text"]), timeout=60).embeddings.rows
    for blocker in blockers:
        blocker.cancel()
    assert server.stub.Embed(probe, timeout=60).embeddings.rows == 90


def test_cancelled_calls_free_their_place(start_faulty: Start) -> None:
    """For as long as a call is in work another is refused, and no longer."""
    server = start_faulty("--max-queued-tokens", "1000", s_per_text=0.005)
    large, small = (request(*[60] * count) for count in (15, 6))
    for _ in range(5):
        call = server.stub.Embed.future(large)
        while outcome(server, small) is not Code.RESOURCE_EXHAUSTED:
            if call.done():  # it was through before anybody asked
                call = server.stub.Embed.future(large)
        call.cancel()
        while outcome(server, small) is not Code.OK:
            pass  # the server hears of it in its own time


def test_documents_of_all_streams_are_bounded(start: Start, artifact: Path) -> None:
    """A stream that finds no memory is told so, goes on, and finds it once another has ended."""
    limit = 100 * 32 * 4
    server = start("--model", str(artifact), "--max-corpora-bytes", str(limit))

    def documents(count: int) -> pb.StreamSimilarityRequest:
        data = np.eye(count, 32, dtype="<f4").tobytes()
        matrix = pb.Matrix(rows=count, dim=32, dtype=pb.DTYPE_FLOAT32, data=data)
        return pb.StreamSimilarityRequest(id="d", documents=pb.Operand(vectors=matrix))

    hold = threading.Event()

    def first() -> Iterator[pb.StreamSimilarityRequest]:
        yield documents(80)
        hold.wait()

    holder = server.stub.StreamSimilarity(first())
    assert next(holder).documents.count == 80
    (reply,) = server.stub.StreamSimilarity(iter([documents(30)]))
    assert reply.error.code == Code.RESOURCE_EXHAUSTED.value[0]
    assert "max_corpora_bytes" in reply.error.message
    hold.set()
    assert list(holder) == []
    (reply,) = server.stub.StreamSimilarity(iter([documents(100)]))
    assert reply.documents.count == 100


class SlowReader:
    """A client of bare frames that sends calls and never lets a reply through."""

    def __init__(self, server: Server) -> None:
        host, _, port = server.target.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=60)
        self._socket.sendall(PREFACE)
        self._streams = itertools.count(1, 2)

    def call(self, method: str, request: bytes, *, copies: int = 1, ends: bool = True) -> None:
        """One call with the same message so many times."""
        stream = next(self._streams)
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": f"/unitvec.v1.EmbeddingService/{method}",
            ":authority": "x",
            "content-type": "application/grpc",
            "te": "trailers",
        }
        head = b"".join(
            bytes([0, len(key)]) + key.encode() + bytes([len(val)]) + val.encode()
            for key, val in fields.items()
        )
        self._send(HEADERS_FRAME, END_HEADERS, stream, head)
        message = b"\0" + struct.pack(">I", len(request)) + request
        for copy in range(copies):
            last = END_STREAM if ends and copy == copies - 1 else 0
            self._send(DATA_FRAME, last, stream, message)

    def _send(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags])
        self._socket.sendall(head + struct.pack(">I", stream) + payload)

    def close(self) -> None:
        self._socket.close()


def test_unread_replies_of_calls_are_bounded(start: Start, minilm_artifact: Path) -> None:
    """Short texts make long replies; callers who do not take theirs are soon refused more."""
    limit = 16 * 2**20
    server = start("--model", str(minilm_artifact), "--max-message-bytes", str(2**20))
    request = pb.EmbedRequest(texts=[""] * 600).SerializeToString()  # 1.2 kB for 0.9 MB
    lone = pb.EmbedRequest(texts=["x"])
    before = resident_bytes(server)
    with contextlib.closing(SlowReader(server)) as reader:
        for _ in range(30):
            reader.call("Embed", request)
        while outcome(server, lone) is not Code.RESOURCE_EXHAUSTED:
            pass
        with pytest.raises(grpc.RpcError, match=f"the limit is {limit}"):
            server.stub.Embed(lone)
        # Those that were in work at once when the bound was reached were answered.
        assert resident_bytes(server) - before < 6 * limit
    while outcome(server, lone) is not Code.OK:
        pass  # until the server hears that the caller is gone


def test_a_stream_that_is_not_read_is_not_read_from(start: Start, minilm_artifact: Path) -> None:
    """64 requests in work would be 58 MB of replies; bytes end its reading sooner."""
    server = start("--model", str(minilm_artifact), "--max-message-bytes", str(2**20))
    before = resident_bytes(server)
    message = pb.StreamEmbedRequest(id="a", request=pb.EmbedRequest(texts=["a"] * 600))
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            reader = stack.enter_context(contextlib.closing(SlowReader(server)))
            reader.call("StreamEmbed", message.SerializeToString(), copies=20, ends=False)
        # Others are answered, however often they ask.
        assert [outcome(server, pb.EmbedRequest(texts=["x"])) for _ in range(50)] == [Code.OK] * 50
        assert resident_bytes(server) - before < 40 * 2**20
    assert server.process.stop() == 0
