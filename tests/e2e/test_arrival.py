"""Messages that never end: what they hold is bounded, and they do not hold it for ever."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived, TrailersReceived

from tests.serving import Server, resident_bytes
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_protos.v1 import embedding_pb2_grpc as pb_grpc
from unitvec_server.edge import Edge

Start = Callable[..., Server]
Code = grpc.StatusCode

MIB = 2**20
PLACES = 64
"""For checks of health, and for calls as the test asks."""
EMBED = "/unitvec.v1.EmbeddingService/Embed"
LIST_MODELS = "/unitvec.v1.EmbeddingService/ListModels"
CHECK = "/grpc.health.v1.Health/Check"


class UnfinishedCalls:
    """A connection that begins messages of `size_bytes` and sends all but their last byte."""

    def __init__(self, server: Server) -> None:
        host, _, port = server.target.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=60)
        self._http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._http.initiate_connection()
        self._left: dict[int, int] = {}
        self.statuses: dict[int, str] = {}

    def begin(self, path: str, size_bytes: int) -> int:
        """Announces a message; `push` sends it."""
        stream = self._http.get_next_available_stream_id()
        fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x"}
        fields |= {"content-type": "application/grpc", "te": "trailers"}
        self._http.send_headers(stream, list(fields.items()))
        self._http.send_data(stream, b"\0" + size_bytes.to_bytes(4))
        self._left[stream] = size_bytes - 1
        return stream

    def push_until(self, is_done: Callable[[], bool]) -> None:
        """Sends what the server takes."""
        while not is_done():
            for stream in list(self._left):
                self._send(stream)
            self._socket.sendall(self._http.data_to_send())
            if is_done():
                return
            for event in self._http.receive_data(self._socket.recv(MIB)):
                if isinstance(event, (ResponseReceived, TrailersReceived)):
                    self._note(event.stream_id, dict(event.headers))

    def is_all_sent(self) -> bool:
        """Whether each message lacks its last byte only."""
        return not any(self._left.values())

    def _send(self, stream: int) -> None:
        while count := min(
            self._left[stream],
            self._http.local_flow_control_window(stream),
            self._http.max_outbound_frame_size,
        ):
            self._http.send_data(stream, bytes(count))
            self._left[stream] -= count

    def _note(self, stream: int, headers: dict[str, str]) -> None:
        if status := headers.get("grpc-status"):
            self.statuses[stream] = status
            self._left.pop(stream, None)

    def close(self) -> None:
        self._socket.close()


def outcome(server: Server) -> Code:
    """How a call ends."""
    try:
        server.stub.Embed(pb.EmbedRequest(texts=["a cat"]))
    except grpc.RpcError as exc:
        code: Code = exc.code()
        return code
    return Code.OK


def crowd(server: Server, path: str, count: int) -> UnfinishedCalls:
    """So many calls whose messages lack a byte, on a connection of their own."""
    hostile = UnfinishedCalls(server)
    for _ in range(count):
        hostile.begin(path, MIB)
    hostile.push_until(lambda: len(hostile.statuses) >= count - PLACES)
    hostile.push_until(hostile.is_all_sent)
    return hostile


def test_calls_beyond_their_places_are_refused_unread(start: Start, artifact: Path) -> None:
    server = start(
        "--model", str(artifact), "--max-calls", str(PLACES), "--max-message-bytes", str(MIB)
    )
    before = resident_bytes(server)
    with contextlib.closing(crowd(server, EMBED, PLACES + 8)) as hostile:
        assert len(hostile.statuses) == 8
        assert set(hostile.statuses.values()) == {str(Code.RESOURCE_EXHAUSTED.value[0])}
        assert resident_bytes(server) - before < 1.5 * PLACES * MIB
    while outcome(server) is not Code.OK:
        pass  # until the server hears that the caller is gone


def test_unfinished_checks_of_health_give_way(start: Start, artifact: Path) -> None:
    """Strangers may send them. The oldest are given up, and probes are answered."""
    server = start(
        "--model", str(artifact), "--max-calls", str(PLACES), "--max-message-bytes", str(MIB)
    )
    before = resident_bytes(server)
    with contextlib.closing(crowd(server, CHECK, PLACES + 8)) as hostile:
        assert list(hostile.statuses)[:8] == list(range(1, 16, 2))
        assert set(hostile.statuses.values()) == {str(Code.DEADLINE_EXCEEDED.value[0])}
        stub = health_pb2_grpc.HealthStub(server.channel)
        reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=30)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        assert resident_bytes(server) - before < 1.5 * PLACES * MIB


def test_a_long_message_of_health_is_refused(start: Start, artifact: Path) -> None:
    """A watch would keep it for as long as it lasts."""
    server = start("--model", str(artifact))
    stub = health_pb2_grpc.HealthStub(server.channel)
    request = health_pb2.HealthCheckRequest(service="x" * 2000)
    for call in (lambda: stub.Check(request), lambda: next(stub.Watch(request))):
        with pytest.raises(grpc.RpcError, match="at most 1024 bytes") as caught:
            call()
        assert caught.value.code() is Code.INVALID_ARGUMENT


@pytest.fixture
async def edge() -> AsyncIterator[tuple[Edge, grpc.aio.Channel]]:
    """An edge that waits for messages for a moment only, and a channel to it."""
    made = Edge(lambda _: None, max_calls=1, max_unary_bytes=MIB, arrival_s=0.2)
    server = grpc.aio.server(interceptors=[made])
    pb_grpc.add_EmbeddingServiceServicer_to_server(Models(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield made, channel
    await server.stop(None)


async def test_a_message_that_takes_too_long_frees_its_place(edge: Any) -> None:
    """The caller is told, and the next one gets in."""
    _, channel = edge
    unfinished = channel.stream_unary(LIST_MODELS)()
    with pytest.raises(grpc.aio.AioRpcError, match="took too long to arrive") as caught:
        await unfinished
    assert caught.value.code() is Code.DEADLINE_EXCEEDED
    stub = pb_grpc.EmbeddingServiceStub(channel)
    assert await stub.ListModels(pb.ListModelsRequest()) == pb.ListModelsResponse()


async def test_a_call_that_is_cancelled_while_its_message_arrives(edge: Any) -> None:
    """It is counted as what it is, not as a call without a message."""
    made, channel = edge
    tally = made.tallies[LIST_MODELS]
    unfinished = channel.stream_unary(LIST_MODELS)()
    async with asyncio.timeout(30):
        while not tally.started:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0)
        unfinished.cancel()
        while not tally.handled.total():  # noqa: ASYNC110 - no event
            await asyncio.sleep(0)
    assert tally.handled["CANCELLED"] == 1


def test_a_call_without_a_message_is_refused(start: Start, artifact: Path) -> None:
    server = start("--model", str(artifact))
    call = server.channel.stream_unary(EMBED)
    with pytest.raises(grpc.RpcError, match="the call has no message") as caught:
        call(iter(()))
    assert caught.value.code() is Code.INVALID_ARGUMENT


class Models(pb_grpc.EmbeddingServiceServicer):
    """Serves no models."""

    async def ListModels(self, request: Any, context: Any) -> pb.ListModelsResponse:
        return pb.ListModelsResponse()
