"""What one connection may cost: the defaults that hold whoever opens it."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import grpc

from tests.serving import Server
from unitvec_protos.v1 import embedding_pb2 as pb

Start = Callable[..., Server]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS_FRAME, PING_FRAME, GOAWAY_FRAME = 4, 6, 7
MAX_CONCURRENT_STREAMS, MAX_HEADER_LIST_SIZE = 3, 6
SETTINGS_TIMEOUT, ENHANCE_YOUR_CALM = 4, 11
TIMEOUT_S = 60


def connect(server: Server) -> socket.socket:
    """A bare connection."""
    host, _, port = server.target.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=TIMEOUT_S)


def frame(kind: int, payload: bytes = b"") -> bytes:
    """An HTTP/2 frame of the connection itself."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, 0]) + bytes(4) + payload


def read_frame(stream: socket.SocketIO) -> tuple[int, bytes]:
    """Kind and payload of the next frame; kind -1 at the end."""
    head = stream.read(9)
    if len(head) < 9:
        return -1, b""
    return head[3], stream.read(int.from_bytes(head[:3]))


def test_announced_bounds(start: Start, artifact: Path) -> None:
    """Streams: as many again as may be in work, for the rest to be refused aloud."""
    server = start("--model", str(artifact), "--max-calls", "10")
    with connect(server) as client, client.makefile("rb") as stream:
        client.sendall(PREFACE + frame(SETTINGS_FRAME))
        kind, payload = read_frame(stream)
    assert kind == SETTINGS_FRAME
    settings = dict(struct.iter_unpack(">HI", payload))
    assert settings[MAX_CONCURRENT_STREAMS] == 20
    assert settings[MAX_HEADER_LIST_SIZE] == 16 * 1024


def test_metadata_beyond_its_bound_is_refused(start: Start, artifact: Path) -> None:
    """The caller is told; the connection lives on."""
    server = start("--model", str(artifact))
    for size, code in (
        (40_000, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (4_000, grpc.StatusCode.OK),
    ):
        filler = (("filler", "x" * size),)
        call = server.stub.ListModels.future(pb.ListModelsRequest(), metadata=filler)
        assert call.code() == code


def test_a_flood_of_pings_ends_the_connection(start: Start, artifact: Path) -> None:
    """GOAWAY with ENHANCE_YOUR_CALM; others are served on."""
    server = start("--model", str(artifact))
    with connect(server) as client, client.makefile("rb") as stream:
        client.sendall(PREFACE + frame(SETTINGS_FRAME) + frame(PING_FRAME, bytes(8)) * 8)
        kind, payload = read_frame(stream)
        while kind not in (GOAWAY_FRAME, -1):
            kind, payload = read_frame(stream)
    assert kind == GOAWAY_FRAME
    assert int.from_bytes(payload[4:8]) == ENHANCE_YOUR_CALM
    assert server.stub.Embed(pb.EmbedRequest(texts=["a cat"])).embeddings.rows == 1


def greet(client: socket.socket) -> int:
    """The kind of the first frame that the server sends; -1 if it closes instead."""
    try:
        client.sendall(PREFACE + frame(SETTINGS_FRAME))
        with client.makefile("rb") as stream:
            return read_frame(stream)[0]
    except (BrokenPipeError, ConnectionResetError):
        return -1


def test_connections_beyond_their_bound_are_closed(start: Start, artifact: Path) -> None:
    """At once, and those that are open are served on; when one leaves, another may come."""
    server = start("--model", str(artifact), "--max-connections", "3")
    clients = [connect(server) for _ in range(3)]
    with contextlib.ExitStack() as leaving:
        for client in clients:
            leaving.enter_context(client)
            assert greet(client) == SETTINGS_FRAME
        with connect(server) as fourth:
            assert greet(fourth) == -1
        call = server.stub.ListModels.future(pb.ListModelsRequest())
        assert call.code() == grpc.StatusCode.UNAVAILABLE
        clients[0].close()
        request = pb.EmbedRequest(texts=["a cat"])
        reply = server.stub.Embed(request, wait_for_ready=True, timeout=TIMEOUT_S)
        assert reply.embeddings.rows == 1
        with connect(server) as fourth:
            assert greet(fourth) == -1


def test_who_says_nothing_is_let_go(start: Start, artifact: Path) -> None:
    """A connection without HTTP/2's first words ends, within seconds."""
    server = start("--model", str(artifact))
    with connect(server) as client, client.makefile("rb") as stream:
        while read_frame(stream)[0] != -1:
            pass


def test_connections_are_renewed_unnoticed(start: Start, artifact: Path) -> None:
    """Old ones end between calls; the next call opens another."""
    server = start("--model", str(artifact), "--max-connection-age-s", "0.5")
    ended = threading.Semaphore(0)

    def watch(state: grpc.ChannelConnectivity) -> None:
        if state is grpc.ChannelConnectivity.IDLE:
            ended.release()

    server.channel.subscribe(watch)
    for _ in range(3):
        assert server.stub.Embed(pb.EmbedRequest(texts=["a cat"])).embeddings.rows == 1
        assert ended.acquire(timeout=TIMEOUT_S)


def test_settings_that_are_not_acknowledged_end_the_connection(
    start: Start, artifact: Path
) -> None:
    """Until they are, gRPC does not hold a client to our limits. Who plays by the rules stays."""
    server = start("--model", str(artifact))
    with connect(server) as client, client.makefile("rb") as stream:
        client.sendall(PREFACE + frame(SETTINGS_FRAME))
        kind, payload = read_frame(stream)
        while kind not in (GOAWAY_FRAME, -1):
            kind, payload = read_frame(stream)
    assert kind == GOAWAY_FRAME
    assert int.from_bytes(payload[4:8]) == SETTINGS_TIMEOUT
    assert server.stub.Embed(pb.EmbedRequest(texts=["a cat"])).embeddings.rows == 1
