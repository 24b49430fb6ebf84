"""Messages that never end: what they hold is bounded, and they do not hold it for ever."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived, TrailersReceived

from tests.serving import Server
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_protos.v1 import embedding_pb2_grpc as pb_grpc
from unitvec_server.edge import Edge

Start = Callable[..., Server]
Code = grpc.StatusCode

MIB = 2**20
PLACES = 64
"""For checks of health, and for calls as the test asks."""
EMBED = "/unitvec.v1.EmbeddingService/Embed"
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


def resident_bytes(server: Server) -> int:
    """Memory of the server's process now."""
    pid = server.process.process.pid
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("path", [EMBED, CHECK])
def test_unfinished_messages_are_bounded(start: Start, artifact: Path, path: str) -> None:
    """As many as there are places hold their message; the others are refused unread."""
    server = start(
        "--model", str(artifact), "--max-calls", str(PLACES), "--max-message-bytes", str(MIB)
    )
    before = resident_bytes(server)
    with contextlib.closing(UnfinishedCalls(server)) as hostile:
        streams = [hostile.begin(path, MIB) for _ in range(PLACES + 8)]
        hostile.push_until(lambda: len(hostile.statuses) == 8)
        hostile.push_until(hostile.is_all_sent)
        assert list(hostile.statuses) == streams[PLACES:]
        assert set(hostile.statuses.values()) == {str(Code.RESOURCE_EXHAUSTED.value[0])}
        assert resident_bytes(server) - before < 1.5 * PLACES * MIB
    while outcome(server) is not Code.OK:
        pass  # until the server hears that the caller is gone


async def test_a_message_that_takes_too_long_frees_its_place() -> None:
    """The caller is told, and the next one gets in."""
    edge = Edge(lambda _: None, max_calls=1, max_unary_bytes=MIB, arrival_s=0.01)
    server = grpc.aio.server(interceptors=[edge])
    pb_grpc.add_EmbeddingServiceServicer_to_server(Models(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        unfinished = channel.stream_unary("/unitvec.v1.EmbeddingService/ListModels")()
        with pytest.raises(grpc.aio.AioRpcError, match=r"not whole after 0\.01 s") as caught:
            await unfinished
        assert caught.value.code() is Code.DEADLINE_EXCEEDED
        stub = pb_grpc.EmbeddingServiceStub(channel)
        assert await stub.ListModels(pb.ListModelsRequest()) == pb.ListModelsResponse()
    await server.stop(None)


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
