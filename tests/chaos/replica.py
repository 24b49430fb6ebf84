"""Server processes that scenarios start, stop, freeze, kill and weigh."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 90.0
_STARTS = 5
"""Tries to start on a port that was ours: another process may hold it for a moment."""

PLAIN = "unitvec_server"
FAULTY = "tests.chaos.faulty_server"


@dataclass(frozen=True)
class Launch:
    """How a server is started.

    Attributes:
        artifact: Folder of its model.
        args: Flags beside --model, --host and --port.
        module: Its entry point: `PLAIN`, or `FAULTY`, whose model fails on purpose.
    """

    artifact: Path
    args: tuple[str, ...] = ()
    module: str = PLAIN

    def with_args(self, *args: str) -> Launch:
        """The same with more flags."""
        return replace(self, args=(*self.args, *args))


@dataclass(frozen=True)
class Weight:
    """What a process holds.

    Attributes:
        rss_bytes: Resident memory.
        descriptors: Open file descriptors.
        threads: Its threads.
    """

    rss_bytes: int
    descriptors: int
    threads: int


class ServerEndedError(RuntimeError):
    """A server ended before it served."""


class Replica:
    """One server at one address, started again where it was after each end.

    Attributes:
        error_lines: The last lines of its log at level error, and gRPC's own.
    """

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.host, self.port = "127.0.0.1", 0
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self.error_lines: deque[str] = deque(maxlen=20)
        self._last_lines: deque[str] = deque(maxlen=20)

    @property
    def target(self) -> str:
        """host:port, the same for all its lives."""
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of its present life."""
        assert self._process is not None, "not started"
        return self._process.pid

    async def start(self) -> Self:
        """Starts it and waits until it serves.

        Raises:
            ServerEndedError: It ended instead.
        """
        for _ in range(_STARTS - 1 if self.port else 0):
            with contextlib.suppress(ServerEndedError):
                return await self._start_in_time()
        return await self._start_in_time()

    async def _start_in_time(self) -> Self:
        async with asyncio.timeout(START_TIMEOUT_S):
            await self._start()
        return self

    async def _start(self) -> None:
        launch = self.launch
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", launch.module, "--model", str(launch.artifact)),
            *("--host", self.host, "--port", str(self.port), *launch.args),
            stderr=asyncio.subprocess.PIPE,
            env={key: val for key, val in os.environ.items() if not key.startswith("UNITVEC_")},
            limit=2**20,
        )
        async for line in self._lines():
            if " serving on " in line:
                address = _message(line).split(" serving on ")[1].split()[0]
                self.port = int(address.rpartition(":")[2])
                self._reader = asyncio.create_task(self._drain())
                return
        raise ServerEndedError(f"status {await self._process.wait()}: {list(self._last_lines)}")

    async def _lines(self) -> AsyncIterator[str]:
        assert self._process is not None
        assert self._process.stderr is not None
        async for raw in self._process.stderr:
            line = raw.decode(errors="replace")
            self._last_lines.append(line)
            if '"level": "error"' in line or not line.startswith("{"):
                self.error_lines.append(line)
            yield line

    async def _drain(self) -> None:
        """Reads on: a full pipe would stop the server."""
        async for _ in self._lines():
            pass

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.returncode is None

    def send(self, number: int) -> None:
        """Signals it."""
        assert self._process is not None, "not started"
        self._process.send_signal(number)

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Signals it, if it lives, and returns its exit status."""
        assert self._process is not None, "not started"
        if self.running:
            self.send(number)
        async with asyncio.timeout(STOP_TIMEOUT_S):
            status = await self._process.wait()
        if self._reader is not None:
            await self._reader
        return status

    def weigh(self) -> Weight:
        """What it holds now, as the kernel tells."""
        return weigh(self.pid)


def weigh(pid: int) -> Weight:
    """What a process holds now, as the kernel tells."""
    folder = Path("/proc") / str(pid)
    status = dict(
        line.split(":", 1) for line in (folder / "status").read_text("ascii").splitlines()
    )
    return Weight(
        rss_bytes=int(status["VmRSS"].split()[0]) * 1024,
        descriptors=len(list((folder / "fd").iterdir())),
        threads=int(status["Threads"]),
    )


@contextlib.asynccontextmanager
async def replicas(launch: Launch, count: int = 1) -> AsyncIterator[list[Replica]]:
    """Started replicas, killed at the end whatever became of them."""
    group = [Replica(launch) for _ in range(count)]
    try:
        await asyncio.gather(*(replica.start() for replica in group))
        yield group
    finally:
        for replica in group:
            if replica.running:
                await replica.end(signal.SIGKILL)


def _message(line: str) -> str:
    return str(json.loads(line)["message"]) if line.startswith("{") else line
