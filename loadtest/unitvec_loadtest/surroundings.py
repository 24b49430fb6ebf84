"""What a run measured: which model of which server, and from which machine."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from unitvec_protos.v1 import embedding_pb2 as pb

if TYPE_CHECKING:
    from unitvec_protos.v1.embedding_pb2_grpc import EmbeddingServiceAsyncStub


@dataclass(frozen=True)
class ServedModel:
    """What the server says of itself and of the model that is called."""

    server_version: str
    name: str
    model_id: str
    revision: str
    dim: int
    precision: str
    provider: str

    def __str__(self) -> str:
        """Says it in one line."""
        known = [self.model_id, self.revision and f"revision {self.revision}"]
        origin = ", ".join(filter(None, [*known, f"{self.dim} dimensions"]))
        ways = " on ".join(filter(None, [self.precision, self.provider]))
        return f"unitvec {self.server_version}, {self.name} in {ways or '?'} ({origin})"


@dataclass(frozen=True)
class Machine:
    """The machine that the load tester ran on, which need not be the server's."""

    cpu: str
    cpus: int
    """Those that this process may use."""
    system: str

    def __str__(self) -> str:
        """Says it in one line."""
        return f"{self.cpu}, {self.cpus} CPU{'s' * (self.cpus > 1)}, {self.system}"


async def ask_model(
    stub: "EmbeddingServiceAsyncStub",
    name: str,
    *,
    timeout_s: float,
    metadata: tuple[tuple[str, str], ...] = (),
) -> ServedModel | None:
    """Asks the server what it serves; None if it does not say, for that is no reason to fail.

    Args:
        stub: Of the server.
        name: Of the model; empty for the default one.
        timeout_s: How long to wait.
        metadata: Sent with the call, such as the token.
    """
    try:
        response = await stub.ListModels(
            pb.ListModelsRequest(), timeout=timeout_s, metadata=metadata
        )
    except grpc.aio.AioRpcError:
        return None
    for model in response.models:
        if model.name == name or (not name and model.is_default):
            about = (model.name, model.model_id, model.revision, model.dim)
            return ServedModel(response.server_version, *about, model.precision, model.provider)
    return None


def describe_machine() -> Machine:
    """Describes the machine of this process."""
    return Machine(
        _cpu_name() or platform.processor() or platform.machine(),
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        f"{platform.system()} {platform.machine()}",
    )


def _cpu_name(path: Path = Path("/proc/cpuinfo")) -> str:
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError:
        return ""
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "")
