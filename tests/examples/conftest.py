"""One server of all-MiniLM-L6-v2 for all examples; it remembers what they embed in common."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import Server, serving
from unitvec_client import Client

WHOLE = {"minilm_artifact", "reference_model", "example"}
"""What only tests that run an example from end to end ask for."""
CACHE_BYTES = 128 * 2**20
"""Room for the vectors of all texts of `examples/data`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests that run an example from end to end are of the deep tier."""
    for item in items:
        if Path(__file__).parent in item.path.parents and WHOLE & set(item.fixturenames):  # type: ignore[attr-defined]
            item.add_marker(pytest.mark.deep)


@pytest.fixture(scope="session")
def server(minilm_artifact: Path) -> Iterator[Server]:
    with serving(
        "--model", str(minilm_artifact), "--precision", "fp32", "--cache-bytes", str(CACHE_BYTES)
    ) as made:
        yield made


@pytest.fixture(scope="session")
def target(server: Server) -> str:
    """host:port of the server."""
    return server.target


@pytest.fixture(scope="session")
def client(target: str) -> Iterator[Client]:
    with Client(target) as made:
        yield made
