"""Errors of connections and deadlines: the target, the cause and what to do, in one line."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import unitvec_client as uv
from unitvec_client.core.diagnosis import Circumstances, explain
from unitvec_client.core.failures import Failure
from unitvec_protos.v1 import embedding_pb2 as pb

ONCE = uv.RetryPolicy(max_attempts=1)


@pytest.fixture
def web_server() -> Iterator[str]:
    """A server of HTTP/1, which answers nothing."""

    class Silent(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def refused(client: Any) -> str:
    """The words with which a call that finds no server is refused."""
    with pytest.raises(uv.UnavailableError) as caught:
        client.embed("a")
    assert "\n" not in caught.value.message
    assert isinstance(caught.value.__cause__, grpc.RpcError)  # It has gRPC's own words.
    return caught.value.message


def test_nothing_listens(connect: Any) -> None:
    message = refused(connect("127.0.0.1:1", retry=ONCE))
    assert message == "nothing listens at 127.0.0.1:1: is unitvec-serve running there?"


def test_no_socket(connect: Any, tmp_path: Path) -> None:
    target = f"unix:{tmp_path}/none"
    assert refused(connect(target, retry=ONCE)).startswith(f"nothing listens at {target}:")


def test_no_such_host(connect: Any) -> None:
    message = refused(connect("no-such-host.invalid", retry=ONCE))
    assert message == "there is no host of the name in no-such-host.invalid:50051: check the target"


def test_a_web_server(connect: Any, web_server: str) -> None:
    message = refused(connect(web_server, retry=ONCE))
    assert message == f"{web_server} does not speak gRPC: check the port"


def test_streams_say_the_same(connect: Any) -> None:
    with pytest.raises(uv.UnavailableError, match=r"nothing listens at 127\.0\.0\.1:1"):
        list(connect("127.0.0.1:1", retry=ONCE).embed_stream(["a"]))


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
def test_a_proxy_that_is_not_there(variable: str) -> None:
    """In a process of its own, as gRPC reads its variables when it opens a channel."""
    program = (
        "import unitvec_client as uv\n"
        "once = uv.RetryPolicy(max_attempts=1)\n"
        "try: uv.Client('example.com:7', retry=once).health()\n"
        "except uv.UnavailableError as error: print(error.message)\n"
    )
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    environment[variable] = "http://me:secret@127.0.0.1:9"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=True,
    )
    expected = (
        "cannot reach example.com:7 through the proxy http://127.0.0.1:9, "
        f"which the variable {variable} names: unset it, or put the host into no_proxy"
    )
    assert done.stdout.startswith(expected)
    assert "secret" not in done.stdout


def test_words_that_are_not_known_are_quoted() -> None:
    failure = Failure(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses; new words")
    message = explain(failure, Circumstances("h:7"))
    assert message == "cannot reach h:7: failed to connect to all addresses; new words"


def test_a_deadline_says_what_to_change(connect: Any, fake: Any) -> None:
    release = threading.Event()
    fake.servicer.before_reply = release.wait
    client = connect(fake.target)
    client.models()
    try:
        with pytest.raises(uv.DeadlineExceededError) as caught:
            client.embed(["ä"] * 1200, timeout_s=0.2)
        assert caught.value.message == (
            f"{fake.target} did not finish within timeout_s=0.2: 1,200 texts of 2,400 bytes; "
            "allow more time (timeout_s) or send less at a time"
        )
        with pytest.raises(uv.DeadlineExceededError, match=r"within timeout_s=0\.2; allow"):
            list(client.embed_stream(["a"], timeout_s=0.2))
    finally:
        release.set()


def test_a_token_that_is_too_long_is_permanent_and_named(connect: Any, fake: Any) -> None:
    client = connect(fake.target, connection=uv.ConnectionOptions(token="x" * 20_000))
    for call in (lambda: client.embed("a"), lambda: list(client.embed_stream(["a"]))):
        with pytest.raises(uv.MessageTooLargeError, match="token of 20,000 characters") as caught:
            call()
        assert fake.target in caught.value.message
    assert not fake.servicer.seen


def test_a_token_of_which_grpc_tells_all_headers() -> None:
    words = "received metadata size exceeds soft limit (10683 vs. 8192);  :path:76B :method:43B"
    failure = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, words)
    message = explain(failure, Circumstances("h:7", token_chars=10_000))
    assert message == (
        "the token of 10,000 characters is too long: the call's metadata is more than h:7 takes: "
        "received metadata size exceeds soft limit (10683 vs. 8192); give a shorter token"
    )


def test_a_lone_text_that_no_message_holds(connect: Any, fake: Any) -> None:
    client = connect(fake.target, connection=uv.ConnectionOptions(max_message_bytes=10_000))
    with pytest.raises(uv.MessageTooLargeError) as caught:
        client.embed("ä" * 10_000)
    assert caught.value.message.startswith(f"a message of {fake.target} or to it is too large: ")
    assert caught.value.message.endswith("number 0, has 20,000 bytes: shorten it")


@pytest.mark.parametrize("words", ["Deadline Exceeded", "Stream removed (Deadline Exceeded)", ""])
def test_all_words_of_grpc_for_a_deadline(words: str) -> None:
    failure = Failure(grpc.StatusCode.DEADLINE_EXCEEDED, words)
    message = explain(failure, Circumstances("h:7", timeout_s=2.0))
    assert message == (
        "h:7 did not finish within timeout_s=2; allow more time (timeout_s) or send less at a time"
    )


def test_a_deadline_that_the_server_explains() -> None:
    error = pb.Error(code=4, reason="DEADLINE_EXPIRED_IN_QUEUE")
    failure = Failure(grpc.StatusCode.DEADLINE_EXCEEDED, "not run", error)
    message = explain(failure, Circumstances("h:7", timeout_s=2.0, texts=["a", "b"]))
    assert message.startswith("not run: h:7 did not finish within timeout_s=2: 2 texts of 2 bytes")
