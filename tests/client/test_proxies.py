"""What a real nginx answers in the place of the server, as errors that say which setting it is."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import unitvec_client as uv
from tests.proxies import needs_nginx, nginx, statuses
from unitvec_client.core.failures import Failure

pytestmark = needs_nginx

LARGE = ["word " * 150] * 3000
"""2.25 MB, in messages of less than 1 MiB, which is the limit of the server."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for that of a socket."""
    with tempfile.TemporaryDirectory(prefix="nginx") as name:
        yield Path(name)


def passing_to(target: str, *settings: str) -> str:
    return f"{' '.join(settings)} location / {{ grpc_pass grpc://{target}; }}"


def refused(call: Any, kind: type[uv.UnitvecError], status: int) -> str:
    with pytest.raises(uv.UnitvecError) as caught:
        call()
    error = caught.value
    assert type(error) is kind, error
    assert error.reason == "ANSWERED_BY_PROXY"
    assert error.facts.metadata["http_status"] == str(status)
    assert error.request_id
    assert isinstance(error.__cause__, grpc.RpcError)
    assert f"answered HTTP {status} in place of unitvec" in error.message
    return error.message


def test_a_body_that_is_too_large(connect: Any, fake: Any, folder: Path) -> None:
    """Nginx counts the bytes of a whole stream, of which each message alone would pass."""
    fake.servicer.limits.max_message_bytes = 8 << 20
    fake.servicer.limits.max_texts_per_request = 4000
    with nginx(folder, passing_to(fake.target)) as target:
        client = connect(target)
        assert client.embed(LARGE[:10]).shape == (10, 8)
        stream = lambda: list(client.embed_stream(LARGE, chunk_texts=256))  # noqa: E731
        message = refused(stream, uv.MessageTooLargeError, 413)
        assert "client_max_body_size 0" in message
        assert statuses(folder).count(413) == 1  # never sent again
    folder.joinpath("socket").unlink(missing_ok=True)
    with nginx(folder, passing_to(fake.target, "client_max_body_size 0;")) as target:
        assert len(list(connect(target).embed_stream(LARGE, chunk_texts=256))) == len(LARGE)


def test_a_server_that_does_not_answer_in_the_proxy_s_time(
    connect: Any, fake: Any, folder: Path
) -> None:
    release = threading.Event()
    fake.servicer.before_reply = release.wait
    try:
        with nginx(folder, passing_to(fake.target, "grpc_read_timeout 100ms;")) as target:
            client = connect(target)
            client.models()
            for call in (lambda: client.embed("a"), lambda: list(client.embed_stream(["a"]))):
                assert "grpc_read_timeout" in refused(call, uv.UnavailableError, 504)
    finally:
        release.set()
    for method in ("Embed", "StreamEmbed"):
        assert len(fake.servicer.calls(method)) == 1  # It would take as long again.


@pytest.mark.parametrize(
    ("settings", "kind", "status", "tries", "words"),
    [
        ("location / { grpc_pass grpc://127.0.0.1:1; }", uv.UnavailableError, 502, 4, "grpc_pass"),
        ("return 503;", uv.UnavailableError, 503, 4, "no server"),
        ("return 429;", uv.UnavailableError, 429, 4, "rate"),
        ("return 401;", uv.UnauthenticatedError, 401, 1, "credentials"),
        ("return 403;", uv.RefusedError, 403, 1, "does not allow"),
        ("return 404;", uv.UnimplementedError, 404, 1, "grpc_pass"),
        ("return 405;", uv.RefusedError, 405, 1, "no gRPC server"),
        ("return 500;", uv.ServerError, 500, 1, "no gRPC server"),
    ],
)
def test_what_else_it_answers(
    connect: Any,
    folder: Path,
    settings: str,
    kind: type[uv.UnitvecError],
    status: int,
    tries: int,
    words: str,
) -> None:
    with nginx(folder, settings) as target:
        assert words in refused(connect(target).models, kind, status)
        assert statuses(folder) == [status] * tries


def test_words_of_another_status_are_no_proxy_s() -> None:
    for words in ("Received http2 header with status: x", "status: 504", "HTTP 504"):
        failure = Failure(grpc.StatusCode.UNAVAILABLE, words)
        assert failure.proxy is None
        assert failure.retryable
