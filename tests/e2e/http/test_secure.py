"""TLS, client certificates and tokens over HTTP: the same secrets as over gRPC, renewed alike."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.e2e.certificates import Pair, write_certificate
from tests.e2e.test_lifecycle import refused
from tests.serving import Server, ServerProcess

Start = Callable[..., Server]


def trusting(certificate: Path, own: Pair | None = None) -> ssl.SSLContext:
    """What a client trusts, and what it shows."""
    context = ssl.create_default_context(cafile=str(certificate))
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context


def ask(url: str, context: ssl.SSLContext) -> int:
    """The status of a request over a connection of its own."""
    target = url.replace("127.0.0.1", "localhost") + "/v1/models"
    return httpx.get(target, verify=context, trust_env=False, timeout=60).status_code


def url_of(process: ServerProcess) -> str:
    """Where a server's HTTP APIs are; gRPC's client is not made, since it would need TLS."""
    return process.wait_for_log("HTTP on ").split()[2]


def test_tokens_open_all_but_probes(start: Start, artifact: Path, tmp_path: Path) -> None:
    """Those of the file are renewed."""
    tokens = tmp_path / "tokens"
    tokens.write_text("old-token\n")
    flags = ("--model", str(artifact), "--http-port", "0", "--token-file", str(tokens))
    server = start(*flags)
    with httpx.Client(base_url=server.url, timeout=60) as http:

        def status(path: str, token: str = "") -> int:
            headers = {"authorization": f"Bearer {token}"} if token else {}
            return http.get(path, headers=headers).status_code

        probes = ("/livez", "/readyz", "/health", "/.well-known/live", "/.well-known/ready")
        assert all(status(path) in (200, 204) for path in probes)
        for path in ("/v1/models", "/info", "/meta", "/nowhere"):
            assert (status(path), status(path, "wrong")) == (401, 401)
        assert (status("/v1/models", "old-token"), status("/info", "old-token")) == (200, 200)
        tokens.write_text("new-token\n")
        server.process.send(signal.SIGHUP)
        server.process.wait_for_log("tokens reloaded")
        assert (status("/info", "old-token"), status("/info", "new-token")) == (401, 200)


def test_certificates_are_shown_asked_for_and_renewed(artifact: Path, tmp_path: Path) -> None:
    """The server's own, and the authorities of its clients."""
    pair, team, other = (write_certificate(tmp_path, name) for name in ("server", "team", "other"))
    authorities = tmp_path / "authorities.pem"
    shutil.copy(team.certificate, authorities)
    flags = ["--model", str(artifact), "--http-port", "0", "--tls-client-ca", str(authorities)]
    flags += ["--tls-cert", str(pair.certificate), "--tls-key", str(pair.key)]
    process = ServerProcess(*flags)
    try:
        url = url_of(process)
        process.wait_for_log(" serving on ")
        assert url.startswith("https://")
        assert ask(url, trusting(pair.certificate, team)) == 200
        for wrong in (trusting(pair.certificate), trusting(pair.certificate, other)):
            with pytest.raises(httpx.TransportError):
                ask(url, wrong)
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            ask(url, trusting(other.certificate, team))
        session = resumable(url, trusting(pair.certificate, team))
        write_certificate(tmp_path, "server")
        shutil.copy(other.certificate, authorities)
        process.send(signal.SIGHUP)
        process.wait_for_log("certificate reloaded")
        assert ask(url, trusting(pair.certificate, other)) == 200
        with pytest.raises(httpx.TransportError):
            ask(url, trusting(pair.certificate, team))
        assert session is None or not session.has_ticket
        assert process.stop() == 0
    finally:
        process.stop(signal.SIGKILL)


def resumable(url: str, context: ssl.SSLContext) -> ssl.SSLSession | None:
    """The session of a connection that was answered."""
    port = int(url.rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port)) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        connection.recv(1)
        return connection.session


def test_public_addresses_need_both(artifact: Path) -> None:
    flags = ("--model", str(artifact), "--http-port", "0", "--host", "0.0.0.0")
    assert "reachable from other machines, without TLS" in refused(*flags)


def test_a_port_that_is_taken_is_named(artifact: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = refused("--model", str(artifact), "--http-port", port, "--port", "0")
    assert f"--host, --http-port: cannot listen on 127.0.0.1:{port}" in said


def run(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in Python."""
    command = [sys.executable, "-c", code, *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_without_the_extra_it_says_what_to_install(artifact: Path) -> None:
    code = (
        "import sys; sys.modules['uvicorn.config'] = None; sys.modules['uvicorn'] = None\n"
        "from unitvec_server.server import main; sys.exit(main(sys.argv[1:]))"
    )
    done = run(code, "--model", str(artifact), "--port", "0", "--http-port", "0")
    assert done.returncode == 2
    assert "--http-port: uvicorn" in done.stderr
    assert "server-http" in done.stderr


def test_without_the_port_none_of_it_is_loaded() -> None:
    code = (
        "import json, sys; import unitvec_server.server, unitvec_server.observability.metrics\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    loaded = set(json.loads(run(code).stdout))
    assert "unitvec_server.server" in loaded
    assert not loaded & {"uvicorn", "httptools", "msgspec", "orjson", "unitvec_server.http"}


def test_apis_can_be_left_out(start: Start, artifact: Path) -> None:
    """Probes stay."""
    server = start("--model", str(artifact), "--http-port", "0", "--http-apis", "openai,weaviate")
    found = {
        path: httpx.get(server.url + path, timeout=60).status_code
        for path in ("/v1/models", "/info", "/meta", "/readyz", "/v2/embed")
    }
    assert found == {
        "/v1/models": 200,
        "/info": 404,
        "/meta": 200,
        "/readyz": 200,
        "/v2/embed": 404,
    }
