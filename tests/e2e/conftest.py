"""Real servers over real sockets."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.faulty_server import RELEASE, S_PER_TEXT
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


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A file: to touch it lets go what is on hold in a faulty server."""
    return tmp_path / "release"


@pytest.fixture
def start_faulty(
    start: Callable[..., Server], artifact: Path, release: Path
) -> Callable[..., Server]:
    """Starts servers of the tiny model that misbehave on demand, or are slow."""

    def begin(*args: str, s_per_text: float = 0) -> Server:
        options = ("--model", str(artifact), "--provider", "cpu", *args)
        variables = {S_PER_TEXT: str(s_per_text), RELEASE: str(release)}
        return start(*options, variables=variables, module="tests.e2e.faulty_server")

    return begin


@pytest.fixture(scope="session")
def tiny_server(artifact: Path) -> Iterator[Server]:
    """The tiny model, default options; shared by tests that do not harm it."""
    with serving("--model", str(artifact)) as server:
        yield server


@pytest.fixture(scope="session")
def minilm_server(minilm_artifact: Path) -> Iterator[Server]:
    """all-MiniLM-L6-v2, fp32, default options; shared by tests that do not harm it."""
    with serving("--model", str(minilm_artifact), "--precision", "fp32") as server:
        yield server
