"""Handlers that are not ours, such as gRPC's reflection, are held to what ours hold to."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.e2e.limited_server import with_limits
from tests.serving import Server
from unitvec_protos.v1 import embedding_pb2 as pb

Start = Callable[..., Server]
Open = Callable[[Server], Any]
TIMEOUT_S = 60
PLACES = 20


@pytest.fixture
def open_stream() -> Iterator[Open]:
    """Opens streams of reflection that ask for the services and then say nothing."""
    over = threading.Event()

    def ask() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        over.wait()

    def begin(server: Server) -> Any:
        stub = reflection_pb2_grpc.ServerReflectionStub(server.channel)
        stream = stub.ServerReflectionInfo(ask(), timeout=TIMEOUT_S)
        services = next(stream).list_services_response.service
        assert "unitvec.v1.EmbeddingService" in {service.name for service in services}
        return stream

    yield begin
    over.set()


def ended(stream: Any) -> str:
    """What a stream ends with, which must be UNAVAILABLE."""
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    return str(caught.value.details())


def test_silent_ones_give_back_their_places(
    start: Start, artifact: Path, open_stream: Open
) -> None:
    limits = with_limits(max_stream_idle_s=2)
    server = start("--model", str(artifact), "--max-calls", str(PLACES), **limits)
    streams = [open_stream(server) for _ in range(PLACES)]
    for stream in streams:
        assert "for 2 s" in ended(stream)
    assert server.stub.Embed(pb.EmbedRequest(texts=["a cat"])).embeddings.rows == 1


def test_open_ones_do_not_hold_up_the_drain(
    start: Start, artifact: Path, open_stream: Open
) -> None:
    """They are told to go elsewhere, and the exit status is that of a clean stop."""
    server = start("--model", str(artifact), "--grace-s", "5")
    stream = open_stream(server)
    server.process.send(signal.SIGTERM)
    assert "shutting down" in ended(stream)
    assert server.process.wait() == 0
