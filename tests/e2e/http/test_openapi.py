"""The description of the APIs is true of them, and can be read without the internet."""

from __future__ import annotations

import re
from typing import Any

import httpx
import jsonschema
import pytest

OPERATIONS = {
    *(f"POST {path}" for path in ("/", "/embed", "/similarity", "/tokenize", "/decode")),
    *("POST /v1/embeddings", "GET /v1/models", "GET /v1/models/{id}", "GET /info"),
    *("POST /v2/embed", "POST /vectors", "GET /meta", "GET /metrics", "GET /health"),
    *("GET /livez", "GET /readyz", "GET /.well-known/live", "GET /.well-known/ready"),
}


@pytest.fixture
def spec(http: httpx.Client) -> Any:
    """The specification."""
    return http.get("/openapi.json").json()


def operations(spec: Any) -> dict[str, Any]:
    """Operations by method and path."""
    return {
        f"{method.upper()} {path}": operation
        for path, methods in spec["paths"].items()
        for method, operation in methods.items()
    }


def test_all_routes_are_described(spec: Any) -> None:
    assert set(operations(spec)) == OPERATIONS
    names = [operation["operationId"] for operation in operations(spec).values()]
    assert len(set(names)) == len(names)
    assert not [name for name in spec["components"]["schemas"] if "." in name]


def test_replies_are_as_described(http: httpx.Client, spec: Any) -> None:
    """Of each route, to its example."""
    model = http.get("/v1/models").json()["data"][0]["id"]
    for name, operation in operations(spec).items():
        method, path = name.replace("{id}", model).split(" ", 1)
        asked = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        reply = http.request(method, path, json=asked.get("example") if asked else None)
        [status] = operation["responses"].keys() - {"4XX", "5XX"}
        assert reply.status_code == int(status), name
        content = operation["responses"][status].get("content", {})
        assert [kind in reply.headers.get("content-type", "") for kind in content] == [True] * len(
            content
        )
        if schema := content.get("application/json", {}).get("schema"):
            whole = {**schema, "components": spec["components"]}
            jsonschema.Draft202012Validator(whole).validate(reply.json())
        for wrong in ({}, []):
            if asked:
                assert http.request(method, path, json=wrong).status_code in (400, 422), name


def test_the_page_shows_them_and_needs_nothing_else(http: httpx.Client) -> None:
    reply = http.get("/docs")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    shown = set(re.findall(r'<span class="method">(\w+)</span><code>([^<]+)</code>', reply.text))
    assert shown == {tuple(name.split(" ", 1)) for name in OPERATIONS}
    assert not re.search(r"(?:src|href|url\()\W*(?:https?:)?//", reply.text)
    ids = re.findall(r' id="([^"]+)"', reply.text)
    assert len(set(ids)) == len(ids)
