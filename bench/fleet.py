"""The command `fleet`: what one replica, and one client, of a large fleet cost.

One server stands for all replicas. It listens on every address of 127.0.0.0/8, so that a client
that balances over a thousand of these has a thousand connections, as in a fleet of a thousand;
what the server holds for them is what a replica holds for a thousand clients. Calls are of one text
that its cache has, so that they cost what the path around the model costs.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from bench.harness.process import ROOT
from bench.harness.procfs import processor_s
from bench.harness.server_process import ServerProcess
from unitvec_client.connection import ConnectionOptions, channel_arguments
from unitvec_protos.v1 import embedding_pb2 as pb

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_EMBED = "/unitvec.v1.EmbeddingService/Embed"
_REQUEST = pb.EmbedRequest(texts=["a cat on a mat"]).SerializeToString()
_ESTABLISHED = "01"
_IN_FLIGHT = 16
_SCRAPES = 50
_CACHE_BYTES = 2**20


def add_fleet_command(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("fleet", help="connections, calls and scrapes of one replica")
    add = parser.add_argument
    add("--artifact", type=Path, default=ROOT / "artifacts" / "all-MiniLM-L6-v2")
    add("--replicas", default="1,100,1000", help="sizes of the fleet (default %(default)s)")
    add("--calls", type=int, default=5000, help="calls at each size (default %(default)s)")
    parser.set_defaults(command=_fleet)


class _Usage(NamedTuple):
    """Processor time and resident memory of a process."""

    cpu_s: float
    resident_bytes: int

    @classmethod
    def of(cls, pid: int) -> _Usage:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return cls(processor_s(pid), int(fields[21]) * _PAGE_BYTES)


def _fleet(args: argparse.Namespace) -> None:
    flags = ["-m", "unitvec_server", "--model", str(args.artifact), "--port", "0"]
    flags += ["--host", "0.0.0.0", "--insecure", "true", "--cache-bytes", str(_CACHE_BYTES)]
    flags += ["--log-format", "text", "--metrics-port", "0"]
    log = io.StringIO()
    with ServerProcess(flags, log=log) as server:
        sizes = [int(size) for size in args.replicas.split(",")]
        rows = [asyncio.run(_measure(server, size, args.calls)) for size in sizes]
        print(json.dumps({"fleets": rows, "scrape": _scrape(server, log.getvalue())}, indent=2))


async def _measure(server: ServerProcess, replicas: int, calls: int) -> dict[str, Any]:
    """One client of a fleet of this size."""
    port = int(server.target.rpartition(":")[2])
    addresses = [f"127.0.{1 + n // 250}.{1 + n % 250}:{port}" for n in range(replicas)]
    options = channel_arguments(ConnectionOptions(load_balancing="round_robin"))
    # Else it would be the list of addresses, which is longer than a server's bound of metadata.
    options.append(("grpc.default_authority", "fleet"))
    idle = _Usage.of(server.pid), _Usage.of(os.getpid())
    started_s = time.perf_counter()
    channel = grpc.aio.insecure_channel(f"ipv4:{','.join(addresses)}", options=options)
    async with channel:
        embed: Any = channel.unary_unary(_EMBED)
        await embed(_REQUEST, wait_for_ready=True)
        first_s = time.perf_counter() - started_s
        while _connections(server.pid, port) < replicas:
            await embed(_REQUEST)
        connected_s = time.perf_counter() - started_s
        await _call(embed, 2 * replicas)  # each connection has carried some
        before = _Usage.of(server.pid), _Usage.of(os.getpid())
        await _call(embed, calls)
        after = _Usage.of(server.pid), _Usage.of(os.getpid())
    return {
        "replicas": replicas,
        "first_call_s": round(first_s, 3),
        "connected_s": round(connected_s, 3),
        "server_kib_per_connection": _kib_each(idle[0], after[0], replicas),
        "client_kib_per_connection": _kib_each(idle[1], after[1], replicas),
        "server_ms_per_call": round((after[0].cpu_s - before[0].cpu_s) / calls * 1000, 3),
        "client_ms_per_call": round((after[1].cpu_s - before[1].cpu_s) / calls * 1000, 3),
    }


async def _call(embed: Any, count: int) -> None:
    async def caller(part: Sequence[int]) -> None:
        for _ in part:
            await embed(_REQUEST)

    await asyncio.gather(*(caller(range(start, count, _IN_FLIGHT)) for start in range(_IN_FLIGHT)))


def _connections(pid: int, port: int) -> int:
    """Connections of a port, as the server has them."""
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
    ]
    return sum(
        fields[3] == _ESTABLISHED and int(fields[1].rpartition(":")[2], 16) == port
        for fields in lines
    )


def _kib_each(idle: _Usage, busy: _Usage, connections: int) -> float:
    return round((busy.resident_bytes - idle.resident_bytes) / connections / 1024, 1)


def _scrape(server: ServerProcess, log: str) -> dict[str, Any]:
    url = next(line.split()[-1] for line in log.splitlines() if "metrics on " in line)
    before_s = _Usage.of(server.pid).cpu_s
    for _ in range(_SCRAPES):
        with urllib.request.urlopen(url) as response:
            text = response.read().decode()
    cpu_s = _Usage.of(server.pid).cpu_s - before_s
    series = sum(not line.startswith("#") for line in text.splitlines())
    return {
        "bytes": len(text.encode()),
        "series": series,
        "server_ms": round(cpu_s / _SCRAPES * 1000, 2),
    }
