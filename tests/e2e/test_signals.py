"""What each signal does, at each time of a server's life, and with which exit status."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from tests.e2e.faulty_server import HANG, request
from tests.serving import Server, ServerProcess
from unitvec_protos.v1 import embedding_pb2 as pb

Start = Callable[..., Server]
HOURS = ("--grace-s", "7200")


class Busy:
    """A server amid a call that never ends of itself."""

    def __init__(self, server: Server) -> None:
        self.process, self._stub = server.process, server.stub
        self.call = self._begin()
        while not self._is_full():
            if self.call.done():  # the probe had the only place just then
                self.call = self._begin()

    def _begin(self) -> grpc.Future:
        return self._stub.Embed.future(request(HANG))

    def _is_full(self) -> bool:
        try:
            self._stub.ListModels(pb.ListModelsRequest())
        except grpc.RpcError as exc:
            return exc.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        return False


@pytest.fixture
def busy(start_faulty: Start) -> Callable[..., Busy]:
    """Starts a server whose only worker hangs."""
    return lambda *more: Busy(start_faulty("--workers", "1", "--max-calls", "1", *more))


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(
    busy: Callable[..., Busy], first: signal.Signals, second: signal.Signals
) -> None:
    """Whatever is in flight, whichever comes first, with the status that shells give."""
    server = busy(*HOURS)
    server.process.send(first)
    server.process.wait_for_log("stopping")
    server.process.send(second)
    assert server.process.wait() == 128 + second
    assert f"{second.name} while stopping" in server.process.output[-1]


def test_an_expired_grace_cuts_and_says_so(busy: Callable[..., Busy]) -> None:
    """Exit status 1; the client may try another server."""
    server = busy("--grace-s", "0.1")
    server.process.send(signal.SIGTERM)
    assert server.call.code() == grpc.StatusCode.UNAVAILABLE
    assert server.process.wait() == 1
    assert "1 calls were cut" in server.process.output[-1]


def test_no_grace_and_nothing_in_flight_is_clean(start: Start, artifact: Path) -> None:
    server = start("--model", str(artifact), "--grace-s", "0")
    assert server.process.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_while_loading(artifact: Path, number: signal.Signals) -> None:
    """There is nothing to drain: it ends, cleanly, without waiting for the models."""
    process = ServerProcess("--model", str(artifact))
    try:
        process.wait_for_log("loading ")
        assert process.stop(number) == 0
        assert not any(" serving on " in line for line in process.output)
    finally:
        process.stop(signal.SIGKILL)


def test_sighup_never_stops(start: Start, artifact: Path) -> None:
    """Not even with nothing to reload, and not amid the stop."""
    server = start("--model", str(artifact))
    for _ in range(3):
        server.process.send(signal.SIGHUP)
        server.process.wait_for_log("no secrets to reload")
    assert server.stub.Embed(pb.EmbedRequest(texts=["a cat"])).embeddings.rows == 1
    assert server.process.stop() == 0


def test_sighup_amid_the_stop_changes_nothing(busy: Callable[..., Busy]) -> None:
    server = busy(*HOURS)
    server.process.send(signal.SIGTERM)
    server.process.wait_for_log("stopping")
    server.process.send(signal.SIGHUP)
    server.process.send(signal.SIGTERM)
    assert server.process.wait() == 128 + signal.SIGTERM
