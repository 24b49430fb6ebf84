"""What is stuck outside the server, or on its loop: nobody waits for it, nothing looks well."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.e2e.faulty_server import HANG_TOKENIZER
from tests.e2e.limited_server import with_limits
from tests.serving import Server, ServerProcess
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_protos.v1 import embedding_pb2_grpc as pb_grpc

FAULT_STATUS = 3
PIPE_BYTES = 4096
TIMEOUT_S = 60
NO_TEXTS = grpc.StatusCode.INVALID_ARGUMENT


class Unread:
    """A server whose standard error is a small pipe that nobody reads once it serves."""

    def __init__(self, artifact: Path) -> None:
        command = [sys.executable, "-m", "unitvec_server", "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--model", str(artifact)], stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        fcntl.fcntl(self.process.stderr, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        said = next(line for line in self.process.stderr if " serving on " in line)
        target = said.split(" serving on ")[1].split()[0]
        self.channel = grpc.insecure_channel(target)
        self.stub = pb_grpc.EmbeddingServiceStub(self.channel)

    def embed(self, *texts: str) -> grpc.StatusCode:
        """The status of a call."""
        try:
            self.stub.Embed(pb.EmbedRequest(texts=texts), timeout=TIMEOUT_S)
        except grpc.RpcError as exc:
            code: grpc.StatusCode = exc.code()
            return code
        return grpc.StatusCode.OK


@pytest.fixture
def unread(artifact: Path) -> Iterator[Unread]:
    server = Unread(artifact)
    with server.process, server.channel:
        yield server
        server.process.kill()


def test_a_stuck_reader_of_logs_stops_nothing(unread: Unread) -> None:
    """Callers are answered, and SIGTERM drains: lines that nobody reads are lost, and no more."""
    lines = 2 * PIPE_BYTES // 200  # bytes of the shortest
    assert [unread.embed() for _ in range(lines)] == [NO_TEXTS] * lines
    assert unread.embed("a cat") is grpc.StatusCode.OK
    unread.process.send_signal(signal.SIGTERM)
    assert unread.process.wait(timeout=TIMEOUT_S) == 0


def test_a_full_disk_of_logs_stops_nothing() -> None:
    """Not even the refusal to start, whose line is lost."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "unitvec_server", "--model", "missing"]
        assert subprocess.run(command, stderr=full, timeout=TIMEOUT_S, check=False).returncode == 2


def test_a_loop_that_hangs_ends_the_process(artifact: Path) -> None:
    """Metrics, which do not need it, say meanwhile that the server does not serve."""
    how = with_limits("tests.e2e.faulty_server", stuck_after_s=10)
    process = ServerProcess("--model", str(artifact), "--metrics-port", "0", **how)
    try:
        url = process.wait_for_log("metrics on ").split()[-1]
        server = Server(process)
        assert serving(url) == 1
        call = server.stub.Embed.future(pb.EmbedRequest(texts=[HANG_TOKENIZER]))
        seen = {serving(url)}
        while process.process.poll() is None and 0 not in seen:
            seen.add(serving(url))
        assert 0 in seen
        assert process.wait() == FAULT_STATUS
        assert "the event loop hangs" in process.output[-1]
        assert call.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        process.stop(signal.SIGKILL)


def serving(url: str) -> float:
    """What the metrics say."""
    with urllib.request.urlopen(url) as response:
        [value] = [line.split()[1] for line in response if line.startswith(b"unitvec_serving ")]
    return float(value)
