"""What each door costs: `python -m bench http`.

The same texts go through gRPC and through the HTTP APIs of one server, in turn within each round,
from callers that send ready bytes and look at none: so it is the server that is compared. Shown are
texts a second, and the server's processor time for each text, which others on the machine disturb
least; ratios are medians of those of the rounds. With ``--infinity``, Infinity's own server answers
single texts beside ours, both in fp32.
"""

from __future__ import annotations

import argparse
import dataclasses
import http.client
import io
import itertools
import json
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import grpc

from bench.console import say
from bench.harness.process import ROOT
from bench.harness.procfs import processor_s
from bench.harness.server_process import ServerProcess
from bench.infinity_server import InfinityServer
from bench.workloads import load_corpora
from unitvec_protos.v1 import embedding_pb2 as pb

_EMBED = "/unitvec.v1.EmbeddingService/Embed"

Call = Callable[[Sequence[str]], object]
"""Embeds texts over a connection of its own."""


class Pace(NamedTuple):
    """What one measurement found.

    Attributes:
        texts_per_s: Texts a second.
        cpu_us: Processor time of the server for each text, in microseconds.
    """

    texts_per_s: float
    cpu_us: float


@dataclasses.dataclass(frozen=True)
class Door:
    """One way into a server.

    Attributes:
        name: Its name.
        pid: Process of the server.
        open: Makes the call of one caller.
    """

    name: str
    pid: int
    open: Callable[[], Call]


def grpc_door(server: ServerProcess, name: str = "grpc") -> Door:
    """Our own unary method."""

    def open_call() -> Call:
        options = (("grpc.use_local_subchannel_pool", 1),)
        invoke: Any = grpc.insecure_channel(server.target, options=options).unary_unary(_EMBED)
        return lambda texts: invoke(pb.EmbedRequest(texts=texts).SerializeToString(), timeout=60)

    return Door(name, server.pid, open_call)


def http_door(name: str, pid: int, url: str, body: Callable[[Sequence[str]], Any]) -> Door:
    """A path of an HTTP API."""
    parts = urlsplit(url)

    def open_call() -> Call:
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)

        def call(texts: Sequence[str]) -> bytes:
            headers = {"content-type": "application/json"}
            connection.request("POST", parts.path, json.dumps(body(texts)).encode(), headers)
            reply = connection.getresponse()
            data = reply.read()
            if reply.status != http.client.OK:
                raise OSError(data[:300].decode(errors="replace"))
            return data

        return call

    return Door(name, pid, open_call)


def http_doors(server: ServerProcess, url: str) -> list[Door]:
    """The forms of the HTTP APIs."""

    def openai(form: str) -> Callable[[Sequence[str]], Any]:
        return lambda texts: {"input": texts, "encoding_format": form}

    return [
        http_door("openai base64", server.pid, f"{url}/v1/embeddings", openai("base64")),
        http_door("openai float", server.pid, f"{url}/v1/embeddings", openai("float")),
        http_door("tei", server.pid, f"{url}/embed", lambda texts: {"inputs": texts}),
    ]


def pace(door: Door, texts: Sequence[str], *, size: int, callers: int) -> Pace:
    """Sends all texts, so many a call, from callers side by side."""
    parts = iter([texts[start : start + size] for start in range(0, len(texts), size)])
    lock = threading.Lock()
    calls = [door.open() for _ in range(callers)]
    for call in calls:
        call(["warm"])

    def work(call: Call) -> None:
        while True:
            with lock:
                part = next(parts, None)
            if part is None:
                return
            call(part)

    threads = [threading.Thread(target=work, args=(call,)) for call in calls]
    started_s, cpu_s = time.perf_counter(), processor_s(door.pid)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s, cpu_s = time.perf_counter() - started_s, processor_s(door.pid) - cpu_s
    return Pace(len(texts) / took_s, cpu_s / len(texts) * 1e6)


def lone_ms(door: Door, texts: Sequence[str]) -> float:
    """The median time of a call of one text, one after the other."""
    call = door.open()
    call(["warm"])
    times = []
    for text in texts:
        started_s = time.perf_counter()
        call([text])
        times.append(time.perf_counter() - started_s)
    return statistics.median(times) * 1e3


def resident_mib(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    [kib] = re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kib) / 1024


def compare(
    doors: Sequence[Door], texts: Sequence[str], *, rounds: int, size: int, callers: int
) -> None:
    """Measures doors in turn and prints each beside the first."""
    found: dict[str, list[Pace]] = {door.name: [] for door in doors}
    for number in range(rounds):
        for door in [*doors[number % len(doors) :], *doors[: number % len(doors)]]:
            found[door.name].append(pace(door, texts, size=size, callers=callers))
    first = found[doors[0].name]
    print(f"\n{size} texts a call, {callers} callers, {rounds} rounds of {len(texts)} texts\n")
    print("| door | texts/s | ratio | server us a text | ratio |\n|---|---|---|---|---|")
    for name, paces in found.items():
        speed = [one.texts_per_s / base.texts_per_s for one, base in zip(paces, first, strict=True)]
        cost = [one.cpu_us / base.cpu_us for one, base in zip(paces, first, strict=True)]
        typical = Pace(*(statistics.median(column) for column in zip(*paces, strict=True)))
        print(
            f"| {name} | {typical.texts_per_s:.0f} | {statistics.median(speed):.2f} "
            f"| {typical.cpu_us:.0f} | {statistics.median(cost):.2f} |",
            flush=True,
        )


def compare_lone(doors: Sequence[Door], texts: Sequence[str], *, rounds: int) -> None:
    """Prints the median time of a lone text at each door."""
    found: dict[str, list[float]] = {door.name: [] for door in doors}
    for _ in range(rounds):
        for door in doors:
            found[door.name].append(lone_ms(door, texts))
    print(f"\none text at a time, {rounds} rounds of {len(texts)} texts\n")
    print("| door | p50, ms | above the first, ms |\n|---|---|---|")
    first = found[doors[0].name]
    for name, times in found.items():
        above = statistics.median([one - base for one, base in zip(times, first, strict=True)])
        print(f"| {name} | {statistics.median(times):.2f} | {above:.2f} |", flush=True)


def start_server(artifact: Path, *flags: str) -> tuple[ServerProcess, str]:
    """A server of ours and where its HTTP APIs are, if it has some."""
    log = io.StringIO()
    given = ("-m", "unitvec_server", "--model", str(artifact), "--port", "0", *flags)
    server = ServerProcess((*given, "--log-format", "text"), log=log)
    urls = re.findall(r"HTTP on (\S+)", log.getvalue())
    return server, urls[0] if urls else ""


def add_http_command(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("http", help="what the HTTP APIs cost beside our own gRPC")
    add = parser.add_argument
    add("--artifact", type=Path, default=ROOT / "artifacts" / "all-MiniLM-L6-v2")
    add("--rounds", type=int, default=5, help="(default %(default)s)")
    add("--texts", type=int, default=4096, help="texts of a round (default %(default)s)")
    add("--infinity", type=Path, metavar="FOLDER", help="model's folder for Infinity's server")
    parser.set_defaults(command=_compare_doors)


def _compare_doors(args: argparse.Namespace) -> None:
    texts = list(itertools.islice(_distinct(), args.texts))
    with ExitStack() as stack:
        plain, _ = start_server(args.artifact)
        stack.callback(plain.stop)
        server, url = start_server(args.artifact, "--http-port", "0")
        stack.callback(server.stop)
        say(f"memory at the start: {_memory(plain, server)}")
        doors = [grpc_door(server), *http_doors(server, url)]
        compare(doors, texts, rounds=args.rounds, size=64, callers=4)
        lone = texts[: max(1, len(texts) // 16)]
        compare_lone(doors, lone, rounds=args.rounds)
        both = [grpc_door(plain, "grpc, no HTTP port"), grpc_door(server, "grpc, HTTP port")]
        compare(both, texts[: len(texts) // 2], rounds=args.rounds, size=1, callers=4)
        say(f"memory at the end: {_memory(plain, server)}")
    if args.infinity:
        _beside_infinity(args, texts)


def _beside_infinity(args: argparse.Namespace, texts: list[str]) -> None:
    server, url = start_server(args.artifact, "--http-port", "0", "--precision", "fp32")
    with server, InfinityServer(args.infinity) as peer:
        doors = [
            http_door("Infinity", peer.pid, f"{peer.url}/embeddings", _for_infinity),
            http_door("unitvec", server.pid, f"{url}/v1/embeddings", lambda some: {"input": some}),
        ]
        compare(doors, texts[: len(texts) // 2], rounds=args.rounds, size=1, callers=16)


def _for_infinity(texts: Sequence[str]) -> Any:
    return {"input": texts, "model": "it"}


def _memory(plain: ServerProcess, server: ServerProcess) -> str:
    one, other = resident_mib(plain.pid), resident_mib(server.pid)
    return f"{one:.0f} MiB without the HTTP port, {other:.0f} MiB with it"


def _distinct() -> Iterator[str]:
    """Short texts, each once: equal ones in flight would be run once."""
    for number in itertools.count():
        for text in load_corpora(None).short:
            yield f"{text} {number}" if number else text
