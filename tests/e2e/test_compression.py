"""Small messages that inflate to huge ones: bounds hold for what is inflated, before it is."""

from __future__ import annotations

import contextlib
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.e2e.raw_calls import RawCalls
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


def send_at_once(server: Server, path: str, compressed: bytes) -> set[tuple[str, str]]:
    """What many calls of the same compressed message end with; all are whole at the same time.

    gRPC's own clients compress anew for each call, which is slower than the server refuses them.
    """
    framed = b"\1" + len(compressed).to_bytes(4) + compressed
    with contextlib.closing(RawCalls(server)) as calls:
        streams = [calls.begin(path, encoding="gzip") for _ in range(AT_ONCE)]
        for part in (framed[:-1], framed[-1:]):
            for stream in streams:
                calls.send(stream, part)
            calls.push_until(calls.is_all_sent)
        calls.push_until(lambda: len(calls.outcomes) == AT_ONCE)
        return set(calls.outcomes.values())


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
    outcomes = send_at_once(server, f"/{method}", bomb)
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
