"""The commands `overload` and `fairness`: our server under more load than is good for it."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import itertools
import platform
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.console import RESULTS, file_stem, say
from bench.harness.machine import describe_run
from bench.harness.process import ROOT
from bench.pressure.fairness import FairnessPlan, measure_fairness
from bench.pressure.load import Site, open_site
from bench.pressure.overload import OverloadPlan, measure_overload
from bench.pressure.plots import draw_pressure
from bench.pressure.report import FAIRNESS, OVERLOAD, pressure_markdown
from bench.results import Load, Record, Results, collect, write
from unitvec_client import Client
from unitvec_server.model.cpus import usable_cpus

PRESSURE_SUFFIXES = (f"-{OVERLOAD}", f"-{FAIRNESS}")
"""Of the names of files of results."""
_PACKAGES = ("unitvec", "grpcio", "onnxruntime", "numpy")


def add_pressure_commands(commands: Any) -> None:
    """Adds both to the parser."""
    overload = commands.add_parser(OVERLOAD, help="goodput and latency beyond the peak")
    _add_shared(overload, rounds=3, seconds=10.0)
    add = overload.add_argument
    add("--factors", default="0.5,0.8,1,1.5,2,3,5", help="in peaks (default %(default)s)")
    add("--timeout-s", type=float, default=2.0, help="deadline of a call (default %(default)g)")
    add("--texts-per-request", type=int, default=16, help="of a call (default %(default)s)")
    add("--callers", type=int, default=8, help="that find the peak (default %(default)s)")
    overload.set_defaults(command=_overload)
    fairness = commands.add_parser(FAIRNESS, help="a trickle of lone texts beside bulk")
    _add_shared(fairness, rounds=5, seconds=20.0)
    add = fairness.add_argument
    add("--rate", type=float, default=5.0, help="lone texts a second (default %(default)g)")
    add("--in-flight", type=int, default=8, help="requests of the bulk (default %(default)s)")
    add("--stream-texts", type=int, default=64, help="in a message (default %(default)s)")
    add("--call-texts", type=int, default=256, help="in a large call (default %(default)s)")
    fairness.set_defaults(command=_fairness)


def publish_pressure(results: Results, path: Path) -> None:
    """Writes the report and the plot beside the raw results, and prints the report."""
    text = pressure_markdown(results)
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    draw_pressure(results, path.with_suffix(".svg"))
    print(text)


def _add_shared(parser: argparse.ArgumentParser, *, rounds: int, seconds: float) -> None:
    add = parser.add_argument
    add("--artifact", type=Path, default=ROOT / "artifacts" / "all-MiniLM-L6-v2")
    add("--server-flags", default="", metavar="FLAGS", help="more flags of unitvec-serve, quoted")
    add("--rounds", type=int, default=rounds, help="(default %(default)s)")
    add("--seconds", type=float, default=seconds, help="of a measurement (default %(default)g)")
    add("--threads", type=int, help="CPUs for server and load together (default: all usable)")
    add("--results", type=Path, default=RESULTS, help="folder of results")


def _overload(args: argparse.Namespace) -> None:
    plan = OverloadPlan(
        factors=tuple(float(word) for word in args.factors.split(",")),
        rounds=args.rounds,
        timeout_s=args.timeout_s,
        seconds=args.seconds,
        texts_per_request=args.texts_per_request,
        callers=args.callers,
    )
    _run(args, OVERLOAD, plan, lambda site: measure_overload(plan, site, say=say))


def _fairness(args: argparse.Namespace) -> None:
    plan = FairnessPlan(
        rounds=args.rounds,
        seconds=args.seconds,
        rate_per_s=args.rate,
        in_flight=args.in_flight,
        stream_texts=args.stream_texts,
        call_texts=args.call_texts,
    )
    _run(args, FAIRNESS, plan, lambda site: measure_fairness(plan, site, say=say))


def _run(
    args: argparse.Namespace,
    kind: str,
    plan: OverloadPlan | FairnessPlan,
    measure: Callable[[Site], Iterator[Load]],
) -> None:
    flags = ["--model", str(args.artifact.resolve()), *shlex.split(args.server_flags)]
    args.results.mkdir(parents=True, exist_ok=True)
    path = args.results / f"{file_stem()}-{kind}.jsonl"
    records: list[Record] = []
    say(f"this takes some {plan.estimated_s / 60:.0f} minutes")
    with (
        open_site(flags, threads=min(args.threads or usable_cpus(), usable_cpus())) as site,
        path.open("w", encoding="utf-8") as stream,
    ):
        settings = {"kind": kind, **dataclasses.asdict(plan), **_describe_server(args, site)}
        about = describe_run(args.artifact, threads=site.threads, settings=settings)
        every: Iterator[Record] = itertools.chain([about], measure(site))
        for record in every:
            write(record, stream)
            records.append(record)
    publish_pressure(collect(records), path)
    say(f"wrote {path} and the report beside it")


def _describe_server(args: argparse.Namespace, site: Site) -> dict[str, Any]:
    with Client(site.target) as client:
        served = client.models().models[0]
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {
        "server_flags": shlex.split(args.server_flags),
        "precision": served.precision,
        "provider": served.provider,
        "versions": {"python": platform.python_version(), **versions},
    }
