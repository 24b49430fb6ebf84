"""Which names a server answers to, so that no page of another site reads it by one of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.e2e.http.test_door import metrics_url
from tests.serving import Server

Start = Callable[..., Server]

REBOUND = {"host": "rebound.example.com:8080", "origin": "http://rebound.example.com:8080"}
"""What a browser says for a page whose name its owner has turned to 127.0.0.1."""


@pytest.mark.parametrize("path", ["/v1/models", "/", "/livez", "/openapi.json", "/metrics", "/no"])
def test_a_page_of_another_site_reads_nothing(http: httpx.Client, path: str) -> None:
    reply = http.get(path, headers=REBOUND)
    assert reply.status_code == 403
    assert reply.json()["error"]["code"] == "foreign_host"
    assert "'rebound.example.com'" in reply.json()["error"]["message"]
    assert "access-control-allow-origin" not in reply.headers


def test_each_api_refuses_in_its_own_words(http: httpx.Client) -> None:
    for path, body in (("/embed", {"inputs": "a"}), ("/v2/embed", {"texts": ["a"]})):
        reply = http.post(path, json=body, headers=REBOUND)
        assert reply.status_code == 403
        assert "does not answer to the name" in (
            reply.json().get("error") or reply.json()["message"]
        )


@pytest.mark.parametrize("host", ["localhost", "app.localhost:8080", "[::1]:80", "192.0.2.7", ""])
def test_names_that_lead_nowhere_else_are_answered(http: httpx.Client, host: str) -> None:
    assert http.get("/v1/models", headers={"host": host}).status_code == 200


def test_no_page_of_another_site_is_let_in_by_its_browser(http: httpx.Client) -> None:
    """Before JSON is sent to another site its browser asks, and nothing here says yes."""
    asks = {"origin": "https://example.com", "access-control-request-method": "POST"}
    asks["access-control-request-headers"] = "content-type"
    for reply in (
        http.options("/v1/embeddings", headers=asks),
        http.post("/v1/embeddings", json={"input": "a"}, headers=asks),
    ):
        assert reply.is_success
        assert not [name for name in reply.headers if name.startswith("access-control-")]


def test_metrics_on_loopback_are_no_page_s_either(http_server: Server) -> None:
    url = metrics_url(http_server)
    assert httpx.get(url, headers={"host": "localhost"}).status_code == 200
    refused = httpx.get(url, headers=REBOUND)
    assert refused.status_code == 403
    assert "unitvec_" not in refused.text


def test_with_tokens_any_name_is_answered(start: Start, artifact: Path) -> None:
    """A page of another site has none. Without them, the flag `insecure` allows it."""
    flags = ("--model", str(artifact), "--http-port", "0", "--metrics-port", "0")
    guarded = start(*flags, variables={"UNITVEC_TOKENS": "secret"})
    assert httpx.get(f"{guarded.url}/v1/models", headers=REBOUND).status_code == 401
    known = REBOUND | {"authorization": "Bearer secret"}
    assert httpx.get(f"{guarded.url}/v1/models", headers=known).status_code == 200
    assert httpx.get(metrics_url(guarded), headers=known).status_code == 403
    insecure = start(*flags, "--insecure")
    for url in (f"{insecure.url}/v1/models", metrics_url(insecure)):
        assert httpx.get(url, headers=REBOUND).status_code == 200
