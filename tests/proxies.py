"""A real nginx and a real Envoy with few settings of ours, so that their defaults show."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.proxy import envoy_path, read_address

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/bin")

ENVOY = envoy_path()

needs_envoy = pytest.mark.skipif(
    ENVOY is None, reason="no envoy; `make install` brings one on Linux"
)
needs_nginx = pytest.mark.skipif(NGINX is None, reason="no nginx")

LIST_MODELS = "/unitvec.v1.EmbeddingService/ListModels"
"""The call that a client makes first, which settings under test leave alone."""

_CONFIG = """
daemon off; master_process off; pid {folder}/pid; error_log stderr crit;
events {{}}
http {{
    access_log {folder}/access.log combined;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    server {{
        listen unix:{folder}/socket http2;
        {settings}
    }}
}}
"""


@contextlib.contextmanager
def nginx(folder: Path, settings: str) -> Iterator[str]:
    """Runs it, and yields its target for gRPC.

    Args:
        folder: Where its files go; its path must be short enough for a socket's.
        settings: Of its one `server`, in place of nothing.
    """
    assert NGINX is not None
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, settings=settings), "utf-8")
    command = [NGINX, "-p", str(folder), "-c", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            _wait_until_it_listens(process, folder / "socket")
            yield f"unix:{folder}/socket"
        finally:
            process.terminate()


def wait_for_log(folder: Path, condition: Callable[[list[int]], bool]) -> None:
    """Returns once the HTTP statuses in its log are such: it writes them after it has answered."""
    while not condition(statuses(folder)):
        os.sched_yield()


def statuses(folder: Path) -> list[int]:
    """The HTTP statuses in its log."""
    lines = (folder / "access.log").read_text("utf-8").splitlines()
    return [int(line.split('"')[2].split()[0]) for line in lines if line.endswith('"')]


def _wait_until_it_listens(process: subprocess.Popen[str], path: Path) -> None:
    while process.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(path))
            return
    assert process.stderr is not None
    raise AssertionError(process.stderr.read())


@contextlib.contextmanager
def envoy(
    folder: Path,
    port: int,
    *,
    route: Mapping[str, Any] | None = None,
    connection: Mapping[str, Any] | None = None,
    filters: tuple[Mapping[str, Any], ...] = (),
) -> Iterator[str]:
    """Runs one before a server, and yields its target for gRPC.

    Args:
        folder: Where its files go.
        port: Of the server.
        route: Further settings of the route of all calls but the client's first.
        connection: Further settings of its connection manager.
        filters: HTTP filters before the router.
    """
    assert ENVOY is not None
    config, admin = folder / "envoy.json", folder / "admin"
    listener = _listener({"cluster": "server", **(route or {})}, connection or {}, filters)
    resources = {"listeners": [listener], "clusters": [_cluster(port)]}
    config.write_text(
        json.dumps({"admin": {"address": _address(0)}, "static_resources": resources}), "utf-8"
    )
    command = [ENVOY, "-c", str(config), "--admin-address-path", str(admin), "--concurrency", "1"]
    process = subprocess.Popen([*command, "--use-dynamic-base-id", "--log-level", "critical"])
    try:
        yield _wait_for_address(process, admin)
    finally:
        process.terminate()
        process.wait()


def _listener(
    route: Mapping[str, Any],
    connection: Mapping[str, Any],
    filters: tuple[Mapping[str, Any], ...],
) -> dict[str, Any]:
    router = _extension("filters.http.router.v3.Router", "envoy.filters.http.router")
    routes = [
        {"match": {"path": LIST_MODELS}, "route": {"cluster": "server"}},
        {"match": {"prefix": "/"}, "route": route},
    ]
    hosts = [{"name": "all", "domains": ["*"], "routes": routes}]
    manager = _extension(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "envoy.filters.network.http_connection_manager",
        stat_prefix="tests",
        codec_type="HTTP2",
        route_config={"virtual_hosts": hosts},
        http_filters=[*filters, router],
        **connection,
    )
    return {"name": "tests", "address": _address(0), "filter_chains": [{"filters": [manager]}]}


def _cluster(port: int) -> dict[str, Any]:
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    protocol = {
        "@type": f"type.googleapis.com/{kind}",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}]
    return {
        "name": "server",
        "type": "STATIC",
        "typed_extension_protocol_options": {kind: protocol},
        "load_assignment": {"cluster_name": "server", "endpoints": endpoints},
    }


def _extension(kind: str, name: str, **settings: Any) -> dict[str, Any]:
    config = {"@type": f"type.googleapis.com/envoy.extensions.{kind}", **settings}
    return {"name": name, "typed_config": config}


def buffer(max_bytes: int) -> dict[str, Any]:
    """A filter of Envoy that holds whole requests, up to a size."""
    return _extension(
        "filters.http.buffer.v3.Buffer", "envoy.filters.http.buffer", max_request_bytes=max_bytes
    )


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _wait_for_address(process: subprocess.Popen[bytes], admin: Path) -> str:
    while True:
        with contextlib.suppress(OSError, HTTPException, IndexError, KeyError, ValueError):
            return read_address(admin)
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise AssertionError(f"envoy ended with status {process.wait(0.05)}")
