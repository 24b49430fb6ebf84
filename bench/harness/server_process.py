"""A server of our own in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Self, TextIO

from bench.harness.process import WorkerFailed

_SERVING = " serving on "
_STOP_TIMEOUT_S = 20.0


class ServerProcess:
    """Runs from its construction to `stop`; a context manager, too.

    Args:
        args: Of the interpreter. The server takes a free port and logs, as text, where it is.
        log: Takes its log.
        env: Its environment variables; None for ours.

    Attributes:
        target: ``host:port``.
        pid: Its process.

    Raises:
        WorkerFailed: It ended before it served. The message is the last line of its log.
    """

    def __init__(
        self, args: Sequence[str], *, log: TextIO, env: Mapping[str, str] | None = None
    ) -> None:
        command = [sys.executable, *args]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
        self.pid = self._process.pid
        self._log = log
        self.target = self._wait_until_serving()
        self._reader = threading.Thread(target=self._forward, daemon=True)
        self._reader.start()

    def stop(self) -> None:
        """Ends it as a supervisor would, and waits."""
        self._process.terminate()
        self._process.wait(_STOP_TIMEOUT_S)
        self._reader.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_until_serving(self) -> str:
        assert self._process.stderr is not None
        last = ""
        for last in self._process.stderr:
            self._log.write(last)
            if _SERVING in last:
                return last.split(_SERVING)[1].split()[0]
        self._process.stderr.close()
        status = self._process.wait()
        raise WorkerFailed(f"the server ended with status {status}: {last.strip()}")

    def _forward(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self._log.write(line)
