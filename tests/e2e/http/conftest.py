"""Servers with an HTTP port."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.http.listening import PATIENT, Serve, Served, until
from tests.serving import Server, serving
from unitvec_server.config import ServerConfig

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


@pytest.fixture
def serve() -> Serve:
    """Serves with these limits."""

    @contextlib.asynccontextmanager
    async def begin(*, arrival_s: float = 60.0, **limits: float) -> AsyncIterator[Served]:
        made = Served(dataclasses.replace(PATIENT, **limits), arrival_s)
        await made.listener.start(ServerConfig(http_port=0), None)
        yield made
        await made.listener.drain(5)
        await until(lambda: not made.listener.connections)
        assert (made.rules.calls.count, made.rules.messages.count) == (0, 0)

    return begin
