"""Ray, as this job uses it: a cluster of this process alone, or one that is there.

Nothing is sent to anyone: usage statistics are off before Ray is imported. A local cluster has its
files in a folder of its own, which goes with it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unitvec_bulk.errors import JobFailed, UsageError
from unitvec_protos.installation import install_command
from unitvec_server.model.cpus import usable_cpus

_STORE_BYTES = 512 * 2**20
"""Memory for what travels between processes of a local cluster: chunks and the model's files."""

_FOLDER = "unitvec-ray-"


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Where a job runs.

    Attributes:
        address: Address of a cluster, or ``auto``; empty for one of this process alone.
        cpus: CPUs of a local cluster; 0 for all that this process may use.
        dashboard: Whether a local cluster has Ray's dashboard, on the loopback address.
    """

    address: str = ""
    cpus: int = 0
    dashboard: bool = False


def load_ray() -> Any:
    """Imports Ray, silent towards the network.

    Raises:
        UsageError: It is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Its core prints an error about the way in which Ray Data itself starts actors.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray.data
    except ImportError as exc:
        raise UsageError(f"Ray is not installed: {install_command('bulk')}") from exc
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return ray


@contextlib.contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """Ray, connected as long as the context lasts; one that is connected already stays so.

    Raises:
        UsageError: Ray is not installed.
        JobFailed: The cluster cannot be reached or started.
    """
    ray = load_ray()
    if ray.is_initialized():
        yield ray
        return
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"address": cluster.address}
        if not cluster.address:
            options = _local(cluster, stack.enter_context(_folder()))
        try:
            ray.init(log_to_driver=False, configure_logging=False, **options)
        except (ConnectionError, RuntimeError, ValueError) as exc:
            where = cluster.address or "a local cluster"
            hint = "; one with tokens wants RAY_AUTH_MODE=token" if cluster.address else ""
            raise JobFailed(f"Ray cannot connect to {where}: {exc}{hint}") from exc
        stack.callback(ray.shutdown)
        yield ray


def _local(cluster: Cluster, folder: Path) -> dict[str, Any]:
    return {
        "address": "local",
        "num_cpus": cluster.cpus or usable_cpus(),
        "include_dashboard": cluster.dashboard,
        "dashboard_host": "127.0.0.1",
        "object_store_memory": _STORE_BYTES,
        "_temp_dir": str(folder),
    }


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder that goes at the end; those of processes that were killed go at the beginning."""
    root = Path(tempfile.gettempdir())
    for left in root.glob(f"{_FOLDER}*"):
        owner = left.name.removeprefix(_FOLDER).partition("-")[0]
        if owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(left, ignore_errors=True)
    # Ray puts sockets below it, whose paths may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
