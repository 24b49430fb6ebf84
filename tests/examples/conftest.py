"""One server of all-MiniLM-L6-v2 for all examples; it remembers what they embed in common."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import Server, serving
from unitvec_client import Client

CACHE_BYTES = 128 * 2**20
"""Room for the vectors of all texts of `examples/data`."""


@pytest.fixture(scope="session")
def server(minilm_artifact: Path) -> Iterator[Server]:
    with serving("--model", str(minilm_artifact), "--cache-bytes", str(CACHE_BYTES)) as made:
        yield made


@pytest.fixture(scope="session")
def target(server: Server) -> str:
    """host:port of the server."""
    return server.target


@pytest.fixture(scope="session")
def client(target: str) -> Iterator[Client]:
    with Client(target) as made:
        yield made
