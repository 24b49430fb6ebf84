"""Small messages that inflate to huge ones: bounds hold for what is inflated, before it is."""

from __future__ import annotations

import contextlib
import re
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived, TrailersReceived

from tests.serving import Server, serving
from unitvec_protos.v1 import embedding_pb2 as pb

MIB = 2**20
INFLATED_BYTES = 256 * MIB
AT_ONCE = 32
METHODS = (
    "unitvec.v1.EmbeddingService/Embed",
    "unitvec.v1.EmbeddingService/StreamEmbed",
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
)


class Bombs:
    """A connection that sends the same compressed message in many calls, to be whole together.

    gRPC's own clients compress anew for each call, which is slower than the server refuses them.
    """

    def __init__(self, server: Server) -> None:
        host, _, port = server.target.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=60)
        self._http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._http.initiate_connection()
        self._unsent: dict[int, bytes] = {}
        self._outcomes: dict[int, tuple[str, str]] = {}

    def send(self, method: str, compressed: bytes) -> list[tuple[str, str]]:
        """The status and the message of each call."""
        framed = b"\1" + len(compressed).to_bytes(4) + compressed
        fields = {":method": "POST", ":scheme": "http", ":path": f"/{method}", ":authority": "x"}
        fields |= {"content-type": "application/grpc", "te": "trailers", "grpc-encoding": "gzip"}
        for _ in range(AT_ONCE):
            stream = self._http.get_next_available_stream_id()
            self._http.send_headers(stream, list(fields.items()))
            self._unsent[stream] = framed[:-1]
        self._exchange_until_sent()
        for stream in self._unsent:
            self._unsent[stream] = framed[-1:]
        self._exchange_until_sent()
        while len(self._outcomes) < AT_ONCE:
            self._receive()
        return list(self._outcomes.values())

    def _exchange_until_sent(self) -> None:
        while any(self._unsent.values()):
            for stream in self._unsent:
                self._send_part(stream)
            self._socket.sendall(self._http.data_to_send())
            if any(self._unsent.values()):
                self._receive()

    def _send_part(self, stream: int) -> None:
        while count := min(
            len(self._unsent[stream]),
            self._http.local_flow_control_window(stream),
            self._http.max_outbound_frame_size,
        ):
            self._http.send_data(stream, self._unsent[stream][:count])
            self._unsent[stream] = self._unsent[stream][count:]

    def _receive(self) -> None:
        for event in self._http.receive_data(self._socket.recv(MIB)):
            if isinstance(event, (ResponseReceived, TrailersReceived)):
                headers = dict(event.headers)
                if status := headers.get("grpc-status"):
                    self._outcomes[event.stream_id] = status, headers.get("grpc-message", "")
        self._socket.sendall(self._http.data_to_send())

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """Zeros, as gzip."""
    gzip = zlib.compressobj(wbits=31)
    parts = [gzip.compress(bytes(MIB)) for _ in range(INFLATED_BYTES // MIB)]
    return b"".join((*parts, gzip.flush()))


@pytest.fixture(scope="module")
def server(artifact: Path) -> Iterator[Server]:
    with serving("--model", str(artifact), "--max-message-bytes", str(MIB)) as server:
        yield server


def peak_bytes(server: Server) -> int:
    """The most memory that the server's process has had."""
    status = Path(f"/proc/{server.process.process.pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found
    return int(found[1]) * 1024


@pytest.mark.parametrize("method", METHODS)
def test_bombs_are_refused_before_they_are_inflated(
    server: Server, bomb: bytes, method: str
) -> None:
    """Each is within the bound as it is sent. Many at once hold less than one would, inflated."""
    assert len(bomb) < MIB / 2
    before = peak_bytes(server)
    with contextlib.closing(Bombs(server)) as bombs:
        outcomes = set(bombs.send(method, bomb))
    too_large = str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
    assert outcomes == {(too_large, "Decompressed message larger than max")}
    assert peak_bytes(server) - before < AT_ONCE * 3 * MIB < INFLATED_BYTES
    texts = ["a cat " * 1000]
    reply = server.stub.Embed(pb.EmbedRequest(texts=texts), compression=grpc.Compression.Gzip)
    assert reply.embeddings.rows == 1


def test_the_bound_of_health_holds_for_what_is_inflated(server: Server) -> None:
    stub = health_pb2_grpc.HealthStub(server.channel)
    request = health_pb2.HealthCheckRequest(service="x" * 100_000)
    with pytest.raises(grpc.RpcError, match="at most 1024 bytes") as caught:
        stub.Check(request, compression=grpc.Compression.Gzip)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
