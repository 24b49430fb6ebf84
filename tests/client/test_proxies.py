"""What real proxies answer in place of the server, as errors that say which setting it is."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import unitvec_client as uv
from tests.proxies import (
    LIST_MODELS,
    buffer,
    envoy,
    needs_envoy,
    needs_nginx,
    nginx,
    statuses,
    wait_for_log,
)
from unitvec_client.core.failures import Failure

LARGE = ["word " * 1600] * 256
"""2 MB, which is one message for the client, and twice as much as nginx takes by itself."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for that of a socket."""
    with tempfile.TemporaryDirectory(prefix="nginx") as name:
        yield Path(name)


def passing_to(target: str, settings: str = "") -> str:
    passes = f"grpc_pass grpc://{target};"
    return f"location {LIST_MODELS} {{ {passes} }} location / {{ {settings} {passes} }}"


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


@pytest.fixture
def roomy(fake: Any) -> Any:
    """The fake, with limits that `LARGE` is within."""
    limits = fake.servicer.limits
    limits.max_message_bytes, limits.max_text_bytes = 8 << 20, 1 << 20
    limits.max_texts_per_request = len(LARGE)
    return fake


@needs_nginx
def test_a_message_that_is_too_large(connect: Any, roomy: Any, folder: Path) -> None:
    with nginx(folder, passing_to(roomy.target)) as target:
        client = connect(target)
        assert client.embed(LARGE[:10]).shape == (10, 8)
        for call in (
            lambda: client.embed(LARGE),
            lambda: list(client.embed_stream(LARGE, chunk_texts=len(LARGE))),
        ):
            assert "client_max_body_size 0" in refused(call, uv.MessageTooLargeError, 413)
        wait_for_log(folder, lambda found: found.count(413) == 2)
    assert statuses(folder).count(413) == 2  # It is never sent again.


@needs_nginx
def test_a_stream_that_is_too_large_goes_on_in_another(
    connect: Any, roomy: Any, folder: Path
) -> None:
    """Nginx counts the bytes of all its messages, and resets it where replies have begun."""
    with nginx(folder, passing_to(roomy.target)) as target:
        items = list(connect(target).embed_stream(LARGE * 2, chunk_texts=16))
        assert [item.index for item in items] == list(range(len(LARGE) * 2))
        assert len(roomy.servicer.calls("StreamEmbed")) > 3


@needs_nginx
def test_a_stream_that_is_reset_again_and_again(connect: Any, fake: Any, folder: Path) -> None:
    """Silence for longer than nginx waits: for the server after a reply, else for the client."""
    release = threading.Event()
    replies = iter([None])
    fake.servicer.before_reply = lambda: next(replies, 0) is None or release.wait()
    settings = "grpc_read_timeout 100ms; client_body_timeout 100ms;"
    with nginx(folder, passing_to(fake.target, settings)) as target:
        client = connect(target)
        try:
            with pytest.raises(uv.UnavailableError, match=r"broken off by a proxy.*_timeout"):
                list(client.embed_stream(["a", "b"], chunk_texts=1))
            # A reply begins the count of tries anew.
            wait_for_log(folder, lambda found: len(found) > 4)
        finally:
            release.set()


@needs_nginx
def test_with_the_settings_that_errors_name(connect: Any, roomy: Any, folder: Path) -> None:
    with nginx(folder, passing_to(roomy.target, "client_max_body_size 0;")) as target:
        client = connect(target)
        assert client.embed(LARGE).shape == (len(LARGE), 8)
        assert len(list(client.embed_stream(LARGE * 2, chunk_texts=16))) == len(LARGE) * 2
        assert len(roomy.servicer.calls("StreamEmbed")) == 1


@needs_nginx
def test_a_server_that_does_not_answer_in_the_proxy_s_time(
    connect: Any, fake: Any, folder: Path
) -> None:
    release = threading.Event()
    fake.servicer.before_reply = release.wait
    try:
        with nginx(folder, passing_to(fake.target, "grpc_read_timeout 100ms;")) as target:
            client = connect(target)
            client.models()
            message = refused(lambda: client.embed("a"), uv.UnavailableError, 504)
            assert "grpc_read_timeout" in message
            wait_for_log(folder, lambda found: len(found) == 2)
    finally:
        release.set()
    assert statuses(folder) == [200, 504]  # It is not sent again: that would take as long.


@needs_nginx
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
        ("return 200 page;", uv.RefusedError, 200, 1, "no gRPC server"),
        ("return 301 https://example.com/;", uv.RefusedError, 301, 1, "no gRPC server"),
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
        wait_for_log(folder, lambda found: len(found) == tries)
    assert statuses(folder) == [status] * tries


@needs_nginx
def test_http_1_towards_the_server(connect: Any, fake: Any, folder: Path) -> None:
    with nginx(folder, f"location / {{ proxy_pass http://{fake.target}; }}") as target:
        assert "not proxy_pass" in refused(connect(target).models, uv.ServerError, 0)


@needs_nginx
def test_headers_that_are_longer_than_a_proxy_takes(connect: Any, fake: Any, folder: Path) -> None:
    connection = uv.ConnectionOptions(token="x" * 20_000)
    with (
        nginx(folder, passing_to(fake.target)) as target,
        pytest.raises(uv.UnavailableError, match="large_client_header_buffers"),
    ):
        connect(target, connection=connection).models()


@needs_envoy
def test_what_envoy_s_own_times_make_of_calls(connect: Any, fake: Any, folder: Path) -> None:
    release = threading.Event()
    port = int(fake.target.rpartition(":")[2])
    try:
        with envoy(folder, port, route={"timeout": "0.2s"}) as target:
            client = connect(target)
            client.models()
            fake.servicer.before_reply = release.wait
            message = refused(lambda: client.embed("a"), uv.UnavailableError, 504)
            assert "timeout 0s of the route" in message
            assert len(fake.servicer.calls("Embed")) <= 1
        with envoy(folder, port, connection={"stream_idle_timeout": "0.2s"}) as target:
            stream = lambda: list(connect(target).embed_stream(["a"]))  # noqa: E731
            assert "stream_idle_timeout 0s" in refused(stream, uv.UnavailableError, 408)
        times = {"timeout": "0s", "max_stream_duration": {"grpc_timeout_header_max": "0s"}}
        with (
            envoy(folder, port, route=times) as target,  # which keeps the caller's deadline
            pytest.raises(uv.DeadlineExceededError, match=r"within timeout_s=0\.5"),
        ):
            connect(target).embed("a", timeout_s=0.5)
    finally:
        release.set()


@needs_envoy
def test_what_else_envoy_answers(connect: Any, roomy: Any, folder: Path) -> None:
    port = int(roomy.target.rpartition(":")[2])
    with envoy(folder, port, filters=(buffer(1000),)) as target:
        call = lambda: connect(target).embed(LARGE)  # noqa: E731
        assert "filter that buffers" in refused(call, uv.MessageTooLargeError, 413)
    with envoy(folder, 1) as target:
        assert "no server" in refused(connect(target).models, uv.UnavailableError, 503)


def test_words_of_another_status_are_no_proxy_s() -> None:
    for words in ("Received http2 header with status: x", "a request timeout", "HTTP 504"):
        failure = Failure(grpc.StatusCode.UNAVAILABLE, words)
        assert failure.proxy is None
        assert failure.retryable
