"""One server of all-MiniLM-L6-v2 for all examples; it remembers what they embed in common."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import Server, ServerProcess
from unitvec_client import Client

CACHE_BYTES = 128 * 2**20
"""Room for the vectors of all texts of `examples/data`."""


@pytest.fixture(scope="session")
def server(minilm_artifact: Path) -> Iterator[Server]:
    process = ServerProcess("--model", str(minilm_artifact), "--cache-bytes", str(CACHE_BYTES))
    try:
        made = Server(process)
        yield made
        made.channel.close()
        assert process.stop() == 0
    finally:
        process.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def target(server: Server) -> str:
    """host:port of the server."""
    return server.target


@pytest.fixture(scope="session")
def client(target: str) -> Iterator[Client]:
    with Client(target) as made:
        yield made
