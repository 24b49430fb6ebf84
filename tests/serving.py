"""Real servers as processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from queue import Queue
from typing import Any

import grpc

from unitvec_protos.v1 import embedding_pb2_grpc as pb_grpc

START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 60


class ServerProcess:
    """A `unitvec-serve` of our own, on a free port."""

    def __init__(
        self,
        *args: str,
        variables: Mapping[str, str] | None = None,
        module: str = "unitvec_server",
        program: Sequence[str] = (),
        wrapper: Sequence[str] = (),
    ) -> None:
        program = program or (sys.executable, "-m", module)
        command = [*wrapper, *program, "--port", "0", *args]
        env = {key: val for key, val in os.environ.items() if not key.startswith("UNITVEC_")}
        env |= variables or {}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
        self.logs: list[dict[str, object]] = []
        self.output: list[str] = []
        self._lines: Queue[str] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                self.output.append(line)
                self._lines.put(line)
        self._lines.put("")

    def wait_for_line(self, part: str) -> None:
        """Reads on until a line holds `part`, whoever wrote it."""
        while line := self._lines.get(timeout=START_TIMEOUT_S):
            if part in line:
                return
        raise AssertionError(f"the server ended without {part!r}: {self.output}")

    def wait_for_log(self, part: str) -> str:
        """The first log message that holds `part`."""
        while line := self._lines.get(timeout=START_TIMEOUT_S):
            if not line.startswith("{"):
                continue  # gRPC's core writes lines of its own
            entry = json.loads(line)
            self.logs.append(entry)
            if part in entry["message"]:
                return str(entry["message"])
        raise AssertionError(f"the server ended without saying {part!r}: {self.logs}")

    def wait_until_serving(self) -> str:
        """Its address, host:port."""
        return self.wait_for_log(" serving on ").split(" serving on ")[1].split()[0]

    def send(self, number: int) -> None:
        """Signals it."""
        self.process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signals it and waits for its exit status."""
        if self.process.poll() is None:
            self.send(number)
        return self.wait()

    def wait(self) -> int:
        """Its exit status, once it has ended; `output`, all that it wrote, is complete then."""
        status = self.process.wait(timeout=STOP_TIMEOUT_S)
        self._reader.join(timeout=STOP_TIMEOUT_S)
        return status


class Server:
    """A serving server."""

    def __init__(self, process: ServerProcess) -> None:
        self.process = process
        self.target = process.wait_until_serving()
        self.channel = grpc.insecure_channel(
            self.target, options=[("grpc.max_receive_message_length", 2**30)]
        )
        self.stub = pb_grpc.EmbeddingServiceStub(self.channel)

    @property
    def url(self) -> str:
        """Where its HTTP APIs are, if it was started with a port for them."""
        lines = (str(entry["message"]) for entry in self.process.logs)
        return next(line for line in lines if line.startswith("HTTP on ")).split()[2]


@contextlib.contextmanager
def serving(*args: str, **how: Any) -> Iterator[Server]:
    """A server with these flags, that must end well when it is stopped."""
    process = ServerProcess(*args, **how)
    try:
        server = Server(process)
        yield server
        server.channel.close()
        assert process.stop() == 0
    finally:
        process.stop(signal.SIGKILL)


def resident_bytes(server: Server) -> int:
    """Memory of the server's process now."""
    pid = server.process.process.pid
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
