"""Servers with an HTTP port."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving import Server, serving

MAX_BODY_BYTES = 200_000


@pytest.fixture(scope="session")
def http_server(prompted_artifact: Path) -> Iterator[Server]:
    """A tiny model with prompts, small limits; shared by tests that do not harm it."""
    limits = ("--max-message-bytes", str(MAX_BODY_BYTES), "--max-text-bytes", "100000")
    flags = ("--model", str(prompted_artifact), "--http-port", "0", "--metrics-port", "0")
    with serving(*flags, *limits, "--max-connections", "64") as server:
        yield server


@pytest.fixture
def http(http_server: Server) -> Iterator[httpx.Client]:
    """A client of it."""
    with httpx.Client(base_url=http_server.url, timeout=60) as client:
        yield client
