"""What holds whatever is asked for: ids, methods, metrics, deadlines, cancellation, drain."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.e2e.faulty_server import HOLD, text
from tests.serving import Server
from unitvec_protos.v1 import embedding_pb2 as pb

EMBED = "/v1/embeddings"


def test_request_ids_are_echoed(http: httpx.Client) -> None:
    """If they can be logged; else there is a new one."""
    for path in ("/v1/models", "/nowhere", "/readyz"):
        reply = http.get(path, headers={"x-request-id": "mine-7"})
        assert reply.headers["x-request-id"] == "mine-7"
    for unfit in ("x" * 129, "a\tb"):
        given = http.get("/v1/models", headers={"x-request-id": unfit}).headers["x-request-id"]
        assert len(given) == 32


def test_methods_and_paths(http: httpx.Client) -> None:
    assert http.get("/nowhere").status_code == 404
    for method in ("PUT", "GET", "DELETE"):
        reply = http.request(method, EMBED)
        assert (reply.status_code, reply.headers["allow"]) == (405, "POST, OPTIONS")
    options = http.options("/v1/models")
    assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    assert "access-control-allow-origin" not in options.headers
    head = http.head("/v1/models/")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len(http.get("/v1/models").content)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/embeddings", "did you mean /v1/embeddings?"),
        ("/v1/embeddings/embeddings", "did you mean /v1/embeddings?"),
        ("/v1/embed", "did you mean /embed or /v2/embed?"),
        ("/nowhere", "/docs lists the paths"),
        ("//", "/docs lists the paths"),
    ],
)
def test_paths_that_end_alike_are_named(http: httpx.Client, path: str, words: str) -> None:
    """An address without the `/v1` of OpenAI's, or with a path that the client adds itself."""
    reply = http.post(httpx.URL(str(http.base_url)).copy_with(path=path), json={})
    assert reply.status_code == 404
    assert words in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("content", "kind", "status", "words"),
    [
        (b"", "application/json", 400, "truncated"),
        (b"{", "application/json", 400, "truncated"),
        (b'{"input": "a"} x', "application/json", 400, "trailing"),
        (b'{"input": "\xff"}', "application/json", 400, "UTF-8"),
        (b'{"input": "\\ud83d"}', "application/json", 400, "half a character"),
        (b'{"input": ["\\uD83D, cut", "b"]}', "application/json", 400, "half a character"),
        (b'{"input": "\\ud83d\\u0041"}', "application/json", 400, "half a character"),
        (b'{"input": "\\ude00"}', "application/json", 400, "half a character"),
        (b'{"input": "\\ud83d\\ude00"', "application/json", 400, "truncated"),
        (b'{"input": "\\\\ud83d"', "application/json", 400, "truncated"),
        (b'{"input": "\\ud83d\\ude00"}', "application/json", 200, ""),
        (b'{"input": NaN}', "application/json", 400, "invalid"),
        (b"[" * 30_000, "application/json", 400, "got array"),
        (b'{"x":' + b"[" * 30_000, "application/json", 400, "nested too deeply"),
        (b"[" * 150_000, "application/json", 400, "more than 66560 strings, lists and"),
        (b'{"input": [' + b"9" * 150_000 + b"]}", "application/json", 400, ""),
        (b'{"input": "a"}', "text/plain", 415, "content-type: application/json"),
        (b'{"input": "a"}', "application/json; charset=utf-8", 200, ""),
        (b'{"input": "a"}', "Application/JSON", 200, ""),
    ],
)
def test_bodies_that_cannot_be_read(
    http: httpx.Client, content: bytes, kind: str, status: int, words: str
) -> None:
    reply = http.post(EMBED, content=content, headers={"content-type": kind})
    assert reply.status_code == status, reply.text
    assert words in reply.text


@pytest.mark.parametrize("numbers", [b"1,", b"[1],"], ids=["numbers", "lists"])
def test_a_body_of_too_many_values_is_refused_before_it_is_whole(
    start: Callable[..., Server], artifact: Path, numbers: bytes
) -> None:
    """So that a lone call beside it need not wait until millions of numbers are made."""
    server = start("--model", str(artifact), "--http-port", "0")
    address = urlsplit(server.url)
    body = b'{"input":[' + numbers * (8_000_000 // (len(numbers) // 2)) + b"1]}"
    whole = request_bytes(body)
    with socket.create_connection((str(address.hostname), address.port or 0), 60) as client:
        client.sendall(whole[: len(whole) // 2])
        assert client.recv(65_536).startswith(b"HTTP/1.1 400 ")
        assert server.stub.Embed(pb.EmbedRequest(texts=["a"]), timeout=60).embeddings.rows == 1


def test_a_body_of_no_type_is_json_unless_a_page_sent_it(http: httpx.Client) -> None:
    """Browsers name the origin of a page, and let those of other sites send what has no type."""
    body = b'{"input": "a"}'
    assert http.post(EMBED, content=body).status_code == 200
    origin = {"origin": "https://example.com"}
    assert http.post(EMBED, content=body, headers=origin).status_code == 415
    assert http.post(EMBED, json={"input": "a"}, headers=origin).status_code == 200


def test_compressed_bodies_are_refused(http: httpx.Client) -> None:
    reply = http.post(EMBED, json={"input": "a"}, headers={"content-encoding": "gzip"})
    assert reply.status_code == 415


def test_requests_are_counted(http: httpx.Client, http_server: Server) -> None:
    """By route and status, beside those of gRPC, before the client has its answer."""

    def count(status: int) -> float:
        metrics = httpx.get(metrics_url(http_server)).text
        labels = f'api="openai",method="POST",route="{EMBED}",status="{status}"'
        start = f"unitvec_http_requests_total{{{labels}}} "
        return float(next(line for line in metrics.splitlines() if start in line).split()[1])

    before = count(200), count(400)
    http.post(EMBED, json={"input": "a"})
    http.post(EMBED, json={"input": 3})
    assert (count(200), count(400)) == (before[0] + 1, before[1] + 1)


def metrics_url(server: Server) -> str:
    """Where its metrics are."""
    lines = (str(entry["message"]) for entry in server.process.logs)
    return next(line for line in lines if line.startswith("metrics on ")).split()[2]


def test_an_expired_deadline_is_told(start_faulty: Callable[..., Server], release: Path) -> None:
    """By each header that names one."""
    server = start_faulty("--http-port", "0")
    for name, value in (("x-request-timeout-ms", "200"), ("x-stainless-read-timeout", "0.2")):
        reply = httpx.post(
            server.url + EMBED, json={"input": text(HOLD)}, headers={name: value}, timeout=60
        )
        assert reply.status_code == 504, reply.text
        assert reply.json()["error"]["type"] == "server_error"
    release.touch()


@pytest.mark.parametrize("blanks", [0, 3_000_000], ids=["short", "long"])
def test_a_client_that_hangs_up_is_forgotten(
    start_faulty: Callable[..., Server], release: Path, blanks: int
) -> None:
    """Its call leaves the queue, and the log has it as cancelled, however long its body was."""
    server = start_faulty("--http-port", "0", "--log-level", "info", "--workers", "1")
    address = urlsplit(server.url)
    with socket.create_connection((str(address.hostname), address.port or 0)) as client:
        client.sendall(request_bytes(json.dumps({"input": text(HOLD)}).encode() + b" " * blanks))
        server.process.wait_for_line("on hold")
    server.process.wait_for_line('"status": 499')
    release.touch()


def request_bytes(body: bytes, *, path: str = EMBED, extra: bytes = b"") -> bytes:
    """A request as it is on the wire."""
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return head.encode() + extra + b"content-length: %d\r\n\r\n" % len(body) + body


def test_a_stop_answers_what_was_asked(start_faulty: Callable[..., Server], release: Path) -> None:
    """Idle connections end, no new ones come in, and the answer is whole."""
    server = start_faulty("--http-port", "0")
    with httpx.Client(base_url=server.url, timeout=60) as client, ThreadPoolExecutor(1) as pool:
        assert client.get("/readyz").status_code == 200
        asked = pool.submit(httpx.post, server.url + EMBED, json={"input": text(HOLD)}, timeout=60)
        server.process.wait_for_line("on hold")
        server.process.send(signal.SIGTERM)
        server.process.wait_for_line("finishing what is in flight")
        release.touch()
        reply = asked.result()
        assert reply.status_code == 200
        assert reply.headers["connection"] == "close"
        with pytest.raises(httpx.TransportError):
            client.get("/readyz")
    assert server.process.wait() == 0
