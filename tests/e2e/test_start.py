"""A server's first second, as a process of its own and as the first of a container."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.serving import Server, ServerProcess
from unitvec_protos.v1 import embedding_pb2 as pb

STOPS = (signal.SIGTERM, signal.SIGINT)
IMPORTS = {"PYTHONPROFILEIMPORTTIME": "1"}
AMID_IMPORTS = "unitvec_protos"
"""A line of it comes once the first of our other packages is loaded: signals must count by then."""

NAMESPACE = ["unshare", *(() if os.geteuid() == 0 else ("--user", "--map-root-user"))]
NAMESPACE += ["--pid", "--fork"]


def can_be_first() -> bool:
    """Whether a process may be the first of a namespace of its own."""
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0


alone = pytest.param((), id="any process")
first = pytest.param(
    NAMESPACE,
    id="process 1",
    marks=pytest.mark.skipif(not can_be_first(), reason="unshare is missing or may not"),
)


class Starting:
    """A server amid its imports."""

    def __init__(self, wrapper: list[str], *args: str) -> None:
        self.process = ServerProcess(*args, variables=IMPORTS, wrapper=wrapper)
        self.process.wait_for_line(AMID_IMPORTS)
        self._id = self.process.process.pid
        if wrapper:
            children = Path(f"/proc/{self._id}/task/{self._id}/children").read_text()
            self._id = int(children)

    def send(self, number: int) -> None:
        """Signals the server itself."""
        os.kill(self._id, number)


@pytest.mark.parametrize("number", STOPS)
@pytest.mark.parametrize("wrapper", [alone, first])
def test_a_stop_amid_the_imports_ends(wrapper: list[str], number: int, artifact: Path) -> None:
    """Cleanly, and without a stack trace: nothing was begun."""
    starting = Starting(wrapper, "--model", str(artifact))
    try:
        starting.send(number)
        assert starting.process.wait() == 0
        assert "Traceback" not in "".join(starting.process.output)
    finally:
        starting.process.stop(signal.SIGKILL)


@pytest.mark.parametrize("wrapper", [alone, first])
def test_a_hangup_amid_the_imports_is_nothing(wrapper: list[str], artifact: Path) -> None:
    starting = Starting(wrapper, "--model", str(artifact))
    try:
        starting.send(signal.SIGHUP)
        starting.process.wait_until_serving()
        starting.send(signal.SIGTERM)
        assert starting.process.wait() == 0
    finally:
        starting.process.stop(signal.SIGKILL)


def limited(soft: int, hard: int, *args: str) -> ServerProcess:
    """A server that may open so many files, and may ask for more."""
    limits = f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$@"'
    return ServerProcess(*args, wrapper=["sh", "-c", limits, "sh"])


def test_files_are_allowed_as_connections_need(artifact: Path) -> None:
    process = limited(256, 4096, "--model", str(artifact), "--max-connections", "1000")
    try:
        process.wait_until_serving()
        limits = Path(f"/proc/{process.process.pid}/limits").read_text()
        [row] = [line.split() for line in limits.splitlines() if line.startswith("Max open files")]
        assert row[3:5] == ["1128", "4096"]
        assert process.stop() == 0
        assert "--max-connections" not in "".join(process.output)
    finally:
        process.stop(signal.SIGKILL)


def test_too_few_files_bound_the_connections(artifact: Path) -> None:
    """A line at the start says so; beyond the bound connections are closed, and none is harmed."""
    process = limited(130, 130, "--model", str(artifact), "--max-connections", "1000")
    try:
        told = process.wait_for_log("--max-connections")
        assert told.startswith("takes 2 connections, not 1000")
        server = Server(process)
        request = pb.EmbedRequest(texts=["a cat"])
        assert server.stub.Embed(request).embeddings.rows == 1
        host, _, port = server.target.rpartition(":")
        address = (host, int(port))
        with socket.create_connection(address), socket.create_connection(address) as third:
            assert third.recv(1) == b""
            assert server.stub.Embed(request).embeddings.rows == 1
        server.channel.close()
        assert process.stop() == 0
    finally:
        process.stop(signal.SIGKILL)
