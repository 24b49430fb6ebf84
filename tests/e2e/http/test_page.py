"""The page's files and routes: safe, small, and not there when they are not wanted."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

import unitvec_server.http
from tests.e2e.test_lifecycle import refused
from tests.serving import Server

FILES = sorted((Path(unitvec_server.http.__file__).parent / "page").iterdir())
MAX_PAGE_BYTES = 100_000
HANDLERS = r"\son[a-z]+\s*=|\sstyle\s*=|<style|<script(?![^>]*\ssrc=)|javascript:"


def test_it_is_small_and_needs_nothing_from_elsewhere() -> None:
    assert sum(one.stat().st_size for one in FILES) < MAX_PAGE_BYTES
    for one in FILES:
        text = one.read_text("utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?://|\bimport\s*\(|@import", text), one.name


def test_nothing_runs_inline_and_nothing_is_written_as_html() -> None:
    for one in FILES:
        text = one.read_text("utf-8")
        if one.suffix == ".html":
            assert not re.search(HANDLERS, text)
        if one.suffix == ".js":
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", text)


def test_files_are_served_under_a_strict_policy(http: httpx.Client) -> None:
    for path in ("/", *(f"/page/{one.name}" for one in FILES)):
        reply = http.get(path)
        assert reply.status_code == 200
        policy = reply.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
    kinds = {one.suffix: http.get(f"/page/{one.name}").headers["content-type"] for one in FILES}
    assert kinds == {
        ".css": "text/css; charset=utf-8",
        ".html": "text/html; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
    }
    for wrong in ("nothing.js", "../config.py", "%2e%2e/config.py", "..%2fconfig.py"):
        assert http.get(f"/page/{wrong}").status_code == 404


def test_facts_are_those_of_the_server(http: httpx.Client, http_server: Server) -> None:
    facts = http.get("/page/facts").json()
    assert facts["grpc_port"] == int(http_server.target.rpartition(":")[2])
    [model] = facts["models"]
    assert (model["dimensions"], model["max_tokens"]) == (32, 64)
    assert model["prompts"].items() >= {"query": "query: ", "passage": "passage: "}.items()
    assert (model["default_prompt_name"], facts["wants_token"]) == ("query", False)


@pytest.mark.parametrize("prompt_name", ["passage", ""])
def test_tokens_are_marked_as_the_model_cuts_them(http: httpx.Client, prompt_name: str) -> None:
    text = "a café on a mat, " * 40
    asked = {"text": text, "prompt_name": prompt_name}
    found = http.post("/page/tokens", json=asked).json()
    tokens = found["tokens"]
    kept = [token for token in tokens if token["is_kept"]]
    assert len(kept) == found["kept_tokens"] == found["max_tokens"] == 64
    assert len(tokens) > 64
    assert [token["is_special"] for token in (tokens[0], tokens[-1])] == [True, True]
    prompted = "".join(token["text"] for token in tokens if token["is_prompt"])
    assert prompted == ("passage:" if prompt_name else "")
    whole = "".join(token["text"] for token in tokens if not token["is_special"])
    assert whole == prompted + text.replace(" ", "")


@pytest.mark.parametrize("body", [{}, {"text": 1}, {"text": "a", "model": "no"}, []])
def test_wrong_bodies_are_refused(http: httpx.Client, body: object) -> None:
    reply = http.post("/page/tokens", json=body)
    assert reply.status_code in (400, 404)
    assert reply.json()["error"]["message"]


def test_it_can_be_turned_off(start: Callable[..., Server], artifact: Path) -> None:
    server = start("--model", str(artifact), "--http-port", "0", "--http-apis", "openai,tei")
    found = {
        path: httpx.get(server.url + path, timeout=60).status_code
        for path in ("/", "/page/main.js", "/page/facts", "/info")
    }
    assert found == {"/": 405, "/page/main.js": 404, "/page/facts": 404, "/info": 200}


def test_it_is_not_served_without_the_api_that_it_calls(artifact: Path) -> None:
    said = refused("--model", str(artifact), "--http-port", "0", "--http-apis", "page,tei")
    assert "page calls openai" in said


def test_files_are_for_anyone_and_the_rest_is_not(
    start: Callable[..., Server], artifact: Path, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("secret\n")
    server = start(*("--model", str(artifact), "--http-port", "0", "--token-file", str(tokens)))
    with httpx.Client(base_url=server.url, timeout=60) as http:
        assert (http.get("/").status_code, http.get("/page/main.js").status_code) == (200, 200)
        assert http.get("/page/facts").status_code == 401
        assert http.post("/page/tokens", json={"text": "a"}).status_code == 401
        facts = http.get("/page/facts", headers={"authorization": "Bearer secret"}).json()
        assert facts["wants_token"] is True
