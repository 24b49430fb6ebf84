"""What may be written as a target, and where a client goes that is given none."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

import unitvec_client as uv
from unitvec_client.targets import find_proxy, is_loopback, resolve_target


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UNITVEC_TARGET", "grpc_proxy", "https_proxy", "http_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("written", "tls", "meant"),
    [
        (None, False, "localhost:50051"),
        ("localhost:50051", False, "localhost:50051"),
        (" localhost:7 ", False, "localhost:7"),
        ("localhost", False, "localhost:50051"),
        ("localhost:", False, "localhost:50051"),
        ("example.com", True, "example.com:50051"),
        ("10.0.0.1", False, "10.0.0.1:50051"),
        ("::1", False, "[::1]:50051"),
        ("[::1]", False, "[::1]:50051"),
        ("[::1]:7", False, "[::1]:7"),
        ("http://localhost:7", False, "localhost:7"),
        ("http://localhost:7/", False, "localhost:7"),
        ("HTTP://localhost", False, "localhost:50051"),
        ("https://localhost:7", True, "localhost:7"),
        ("grpc://localhost:7", False, "localhost:7"),
        ("grpcs://[::1]", True, "[::1]:50051"),
        ("dns:///localhost:7", False, "dns:///localhost:7"),
        ("dns:///localhost", False, "dns:///localhost:50051"),
        ("dns:localhost", False, "dns:localhost:50051"),
        ("dns://8.8.8.8/localhost", False, "dns://8.8.8.8/localhost:50051"),
        ("ipv4:127.0.0.1:7,127.0.0.2", False, "ipv4:127.0.0.1:7,127.0.0.2:50051"),
        ("ipv6:[::1]:7", False, "ipv6:[::1]:7"),
        ("unix:/run/unitvec.sock", False, "unix:/run/unitvec.sock"),
        ("unix:///run/unitvec.sock", False, "unix:///run/unitvec.sock"),
        ("xds:///service", False, "xds:///service"),
    ],
)
def test_what_is_meant(written: str | None, tls: bool, meant: str) -> None:
    assert resolve_target(written, tls=tls) == meant


@pytest.mark.parametrize(
    ("written", "tls", "words"),
    [
        ("", False, "host:port"),
        ("  ", False, "host:port"),
        (":7", False, "not host:port"),
        ("http://", False, "not host:port"),
        ("local host:7", False, "not host:port"),
        ("user@host:7", False, "not host:port"),
        ("localhost:seven", False, "from 1 to 65535"),
        ("localhost:0", False, "from 1 to 65535"),
        ("localhost:65536", False, "from 1 to 65535"),
        ("localhost:7/v1", False, "from 1 to 65535"),
        ("http://localhost:7/v1/embed", False, "has a path"),
        ("https://localhost:7", False, "tls=True"),
        ("grpcs://localhost:7", False, "tls=True"),
        ("http://localhost:7", True, "plaintext"),
    ],
)
@pytest.mark.parametrize("kind", [uv.Client, uv.AsyncClient])
def test_what_cannot_be_meant_is_refused(kind: Any, written: str, tls: bool, words: str) -> None:
    with pytest.raises(uv.InputError, match=words) as caught:
        kind(written, connection=uv.ConnectionOptions(tls=tls))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["", "http://", "grpc://", "dns:///", "ipv4:"])
def test_urls_reach_the_server(connect: Any, fake: Any, scheme: str) -> None:
    assert connect(scheme + fake.target).embed("a").shape == (8,)


def test_the_variable_names_the_target_where_none_is_given(
    connect: Any, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNITVEC_TARGET", f"http://{fake.target}")
    assert connect(None).embed("a").shape == (8,)
    with pytest.raises(uv.UnavailableError, match=r"nothing listens at 127\.0\.0\.1:1"):
        connect("127.0.0.1:1").health()
    monkeypatch.setenv("UNITVEC_TARGET", "")
    assert repr(uv.Client()) == "Client('localhost:50051')"
    assert repr(uv.AsyncClient()) == "AsyncClient('localhost:50051')"


def test_this_machine_is_never_reached_through_a_proxy(fake: Any) -> None:
    """In a process of its own, as gRPC reads its variables when it opens a channel."""
    port = fake.target.rpartition(":")[2]
    program = (
        "import sys, asyncio, unitvec_client as uv\n"
        "for target in sys.argv[1:]:\n"
        "    with uv.Client(target) as client: print(client.embed('a').shape)\n"
        "    async def main():\n"
        "        async with uv.AsyncClient(target) as client: return await client.embed('a')\n"
        "    print(asyncio.run(main()).shape)\n"
    )
    targets = [f"localhost:{port}", f"127.0.0.1:{port}", f"dns:///localhost:{port}"]
    environment = {**os.environ, "http_proxy": "http://127.0.0.1:9", "grpc_proxy": "http://x:9"}
    done = subprocess.run(
        [sys.executable, "-c", program, *targets],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["(8,)"] * 6, done.stderr


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("localhost:7", True),
        ("127.8.8.8:7", True),
        ("[::1]:7", True),
        ("unix:/run/unitvec.sock", True),
        ("ipv4:127.0.0.1:7,127.0.0.2:7", True),
        ("ipv4:127.0.0.1:7,10.0.0.1:7", False),
        ("unix.example.com:7", False),
        ("localhost.example.com:7", False),
        ("dns:///example.com:7", False),
    ],
)
def test_addresses_of_this_machine(target: str, local: bool) -> None:
    assert is_loopback(target) is local


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, None),
        ({"http_proxy": "http://p:1"}, ("http_proxy", "http://p:1")),
        ({"http_proxy": "http://p:1", "grpc_proxy": "http://g:1"}, ("grpc_proxy", "http://g:1")),
        ({"http_proxy": "http://me:secret@p:1"}, ("http_proxy", "http://p:1")),
        ({"http_proxy": "http://p:1", "no_proxy": "other, example.com"}, None),
        ({"http_proxy": "http://p:1", "no_proxy": "other"}, ("http_proxy", "http://p:1")),
    ],
)
def test_the_proxy_on_the_way(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], found: tuple[str, str] | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert find_proxy("host.example.com:7") == found
    assert find_proxy("localhost:7") is None
