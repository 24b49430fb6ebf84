"""Infinity's own HTTP server, as a peer."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Self

from bench.harness.environments import interpreter

_START_TIMEOUT_S = 300.0


class InfinityServer:
    """Infinity's server in an environment of its own; a context manager.

    Attributes:
        url: Where it answers.
        pid: Its process.
    """

    def __init__(self, model_folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        python = interpreter("infinity", {})
        flags = f"--port {port} --engine torch --device cpu --dtype float32 --url-prefix /v1"
        flags += " --no-model-warmup --served-model-name it --log-level error"
        program = str(python.parent / "infinity_emb")
        command = [program, "v2", "--model-id", str(model_folder), *flags.split()]
        environ = os.environ | {"DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
        self._process = subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL)
        self.url, self.pid = f"http://127.0.0.1:{port}/v1", self._process.pid
        self._wait()

    def _wait(self) -> None:
        ends_s = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < ends_s and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/models", timeout=5).close()
            except OSError:
                time.sleep(0.5)
            else:
                return
        self._process.kill()
        raise OSError("Infinity's server did not start")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
