"""Real servers over real sockets."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving import Server, ServerProcess, serving


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Starts servers that end with the test."""
    with contextlib.ExitStack() as stack:

        def begin(*args: str, **how: Any) -> Server:
            process = ServerProcess(*args, **how)
            stack.callback(process.stop, signal.SIGKILL)
            server = Server(process)
            stack.callback(server.channel.close)
            return server

        yield begin


@pytest.fixture(scope="session")
def minilm_server(minilm_artifact: Path) -> Iterator[Server]:
    """all-MiniLM-L6-v2, fp32, default options; shared by tests that do not harm it."""
    with serving("--model", str(minilm_artifact)) as server:
        yield server
