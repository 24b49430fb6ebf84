"""The command `doors`: what one text costs over each door of the server, beside our own contract.

One server answers all of them, in rounds that take the doors in turn. The cost of a door is the
processor time of the server for each call, which other work on the machine disturbs least. The rate
of calls also has the cost of the callers in this process. They send bytes that were made beforehand
and look at none that come back, so that it is about the same for each door.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from bench.harness.process import ROOT
from bench.harness.procfs import processor_s
from bench.harness.server_process import ServerProcess
from unitvec_protos.inference import inference_pb2
from unitvec_protos.tei import tei_pb2
from unitvec_protos.v1 import embedding_pb2 as pb

_Call = Callable[[bytes], Awaitable[object]]


class Door(NamedTuple):
    """A method that embeds a text.

    Attributes:
        path: Path of the method.
        write: Makes the bytes of a request.
    """

    path: str
    write: Callable[[str], bytes]


class Round(NamedTuple):
    """A measurement of one door.

    Attributes:
        server_ms: Processor time of the server for each call.
        calls_per_s: Calls answered in a second.
    """

    server_ms: float
    calls_per_s: float


def _write_ours(text: str) -> bytes:
    return pb.EmbedRequest(texts=[text]).SerializeToString()


def _write_tei(text: str) -> bytes:
    return tei_pb2.EmbedRequest(inputs=text, truncate=True).SerializeToString()


def _write_inference(text: str) -> bytes:
    data = text.encode()
    raw = struct.pack("<I", len(data)) + data
    request = inference_pb2.ModelInferRequest(raw_input_contents=[raw])
    request.inputs.add(name="text", datatype="BYTES", shape=[1, 1])
    return request.SerializeToString()


DOORS: Mapping[str, Door] = {
    "unitvec.v1 Embed": Door("/unitvec.v1.EmbeddingService/Embed", _write_ours),
    "tei.v1 Embed": Door("/tei.v1.Embed/Embed", _write_tei),
    "inference ModelInfer": Door("/inference.GRPCInferenceService/ModelInfer", _write_inference),
}
"""The doors; the others are compared with the first."""


def add_doors_command(commands: Any) -> None:
    """Adds it to the parser."""
    doors = commands.add_parser("doors", help="the cost of one text over each door")
    add = doors.add_argument
    add("--artifact", type=Path, default=ROOT / "artifacts" / "all-MiniLM-L6-v2")
    add("--rounds", type=int, default=6, help="(default %(default)s)")
    add("--calls", type=int, default=2000, help="of a door in a round (default %(default)s)")
    add("--callers", type=int, default=32, help="at a time (default %(default)s)")
    doors.set_defaults(command=_doors)


def _doors(args: argparse.Namespace) -> None:
    flags = ["--model", str(args.artifact), "--port", "0", "--log-format", "text"]
    with ServerProcess(["-m", "unitvec_server", *flags], log=sys.stderr) as server:
        rounds = asyncio.run(_measure(server, args))
    print(doors_markdown(rounds))


async def _measure(
    server: ServerProcess, args: argparse.Namespace
) -> Mapping[str, Sequence[Round]]:
    """All rounds of each door. The first one warms up and does not count.

    The doors take turns in being the first of a round, which on a busy machine is the fastest.
    """
    doors = list(DOORS.items())
    found: dict[str, list[Round]] = {name: [] for name in DOORS}
    texts = [f"the cat number {number} sat on the mat" for number in range(args.calls)]
    async with grpc.aio.insecure_channel(server.target) as channel:
        for number in range(args.rounds + 1):
            turn = number % len(doors)
            for name, door in (*doors[turn:], *doors[:turn]):
                call: Any = channel.unary_unary(door.path)
                requests = list(map(door.write, texts))
                measured = await _measure_once(call, requests, server.pid, args.callers)
                if number:
                    found[name].append(measured)
    return found


async def _measure_once(call: _Call, requests: Sequence[bytes], pid: int, callers: int) -> Round:
    async def caller(first: int) -> None:
        for request in requests[first::callers]:
            await call(request)

    busy_s, started_s = processor_s(pid), time.perf_counter()
    await asyncio.gather(*map(caller, range(callers)))
    wall_s = time.perf_counter() - started_s
    server_s = processor_s(pid) - busy_s
    return Round(1000 * server_s / len(requests), len(requests) / wall_s)


def doors_markdown(rounds: Mapping[str, Sequence[Round]]) -> str:
    """A table of medians.

    Speeds are ratios to the first door within each round, so that what disturbs a round disturbs
    both sides.
    """
    lines = [
        "| door | server ms a call | speed by that | calls a second | speed by that |",
        "|---|---|---|---|---|",
    ]
    first = next(iter(rounds.values()))
    for name, own in rounds.items():
        by_cost = [a.server_ms / b.server_ms for a, b in zip(first, own, strict=True)]
        by_rate = [b.calls_per_s / a.calls_per_s for a, b in zip(first, own, strict=True)]
        server_ms = statistics.median(each.server_ms for each in own)
        rate = statistics.median(each.calls_per_s for each in own)
        lines.append(
            f"| {name} | {server_ms:.3f} | {statistics.median(by_cost):.2f} "
            f"| {rate:.0f} | {statistics.median(by_rate):.2f} |"
        )
    return "\n".join(lines)
