"""Overload over HTTP: who is refused, how each API says so, and when to try again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.faulty_server import HOLD, text
from tests.serving import Server

LONG = text(60)
CALLS: dict[str, Any] = {
    "/v1/embeddings": {"input": LONG},
    "/embed": {"inputs": LONG},
    "/similarity": {"inputs": {"source_sentence": LONG, "sentences": ["a"]}},
    "/v2/embed": {"texts": [LONG]},
    "/vectors": {"text": LONG},
}
SHAPES: dict[str, Any] = {
    "/v1/embeddings": {"error": {"type": "rate_limit_error", "code": "overloaded"}},
    "/embed": {"error_type": "overloaded"},
}

Begin = Callable[..., httpx.Client]


@pytest.fixture
def begin(start_faulty: Callable[..., Server], release: Path) -> Iterator[Begin]:
    """A client of a server that is at work on a text, which ends with the test."""
    with ThreadPoolExecutor(1) as pool, httpx.Client(timeout=60) as client:

        def at_work(*flags: str) -> httpx.Client:
            server = start_faulty("--http-port", "0", "--workers", "1", *flags)
            client.base_url = httpx.URL(server.url)
            body = {"input": text(HOLD)}
            url = f"{server.url}/v1/embeddings"
            held.append(pool.submit(httpx.post, url, json=body, timeout=60))
            server.process.wait_for_line("on hold")
            return client

        held: list[Any] = []
        yield at_work
        release.touch()
        assert [reply.result().status_code for reply in held] == [200]


@pytest.mark.parametrize("flags", [("--max-queued-tokens", "70"), ("--max-calls", "1")], ids=str)
def test_what_there_is_no_room_for_may_come_again(begin: Begin, flags: tuple[str, ...]) -> None:
    client = begin(*flags)
    for path, body in CALLS.items():
        reply = client.post(path, json=body)
        assert reply.status_code == 429, (path, reply.text)
        assert int(reply.headers["retry-after"]) >= 1
        assert 0 < int(reply.headers["retry-after-ms"]) <= 1000 * int(reply.headers["retry-after"])
        assert contains(reply.json(), SHAPES.get(path, {}))


def test_probes_are_answered_meanwhile(begin: Begin) -> None:
    client = begin("--max-calls", "1")
    for path in ("/livez", "/readyz", "/.well-known/ready", "/openapi.json"):
        assert client.get(path).is_success


def contains(found: Any, wanted: Any) -> bool:
    """Whether all that is wanted is there."""
    if isinstance(wanted, dict):
        return all(contains(found[name], value) for name, value in wanted.items())
    return bool(found == wanted)
