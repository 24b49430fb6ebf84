"""The command `bulk`: jobs on Ray beside the bare encoder, beside themselves, beside the reference.

Glosses go from Parquet to Parquet by `unitvec_bulk.run`, its start left out. In turn with it, the
same encoder runs the same texts alone, split beforehand, on as many threads as the job has workers:
the ratio is what reading, splitting into tokens, the engine and writing leave of it. With
``--nodes`` one node of one core is compared with two, with ``--sentence-transformers`` one step of
a Ray pipeline with the same step by sentence-transformers. ``--memory`` follows a job of texts of
mixed length and tells the memory of each of its processes over time.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.bulk.bare import BareEncoder
from bench.bulk.corpora import glosses, mixed, write_corpus
from bench.bulk.memory import MemoryWatch
from bench.bulk.steps import pipeline_pace, steps
from bench.console import say
from bench.harness.process import ROOT
from unitvec_bulk.cluster import Cluster, connected, load_ray
from unitvec_bulk.job import Request, prepare
from unitvec_bulk.run import RunOptions, run
from unitvec_server.model.cpus import usable_cpus


def add_bulk_command(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("bulk", help="jobs on Ray beside the bare encoder")
    add = parser.add_argument
    add("--artifact", type=Path, default=ROOT / "artifacts" / "all-MiniLM-L6-v2")
    add("--rows", type=int, default=100_000, help="(default %(default)s)")
    add("--rounds", type=int, default=3, help="(default %(default)s)")
    form = parser.add_mutually_exclusive_group().add_argument
    form("--nodes", action="store_true", help="one node of one core beside two")
    form("--sentence-transformers", action="store_true", help="the same step by the reference")
    form("--memory", action="store_true", help="memory of the processes over time, one round")
    add("--minutes", type=float, help="with --memory: stop then, and tell what was seen so far")
    parser.set_defaults(command=_bulk)


def _bulk(args: argparse.Namespace) -> None:
    forms = {"nodes": _nodes, "sentence_transformers": _reference, "memory": _memory}
    chosen = [form for name, form in forms.items() if getattr(args, name)]
    with tempfile.TemporaryDirectory(prefix="unitvec-bench-") as folder:
        report = (chosen or [_whole_job])[0](args, Path(folder))
    print(json.dumps({"rows": args.rows, **report}))


def _whole_job(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    workers = usable_cpus()
    corpus = write_corpus(work / "corpus", glosses(args.rows))
    bare = BareEncoder(args.artifact, list(glosses(args.rows)))
    ratios = []
    with connected(Cluster(cpus=workers)):
        for number in range(args.rounds):
            alone = bare.rows_per_s(workers)
            job = _job(args, corpus, work / f"out-{number}", workers)
            ratios.append(job / alone)
            say(f"bare encoder {alone:,.0f} rows/s, whole job {job:,.0f}: {ratios[-1]:.3f}")
    return _summary(ratios)


def _nodes(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    corpus = write_corpus(work / "corpus", glosses(args.rows))
    ratios = []
    for number in range(args.rounds):
        rates = []
        for nodes in (1, 2):
            with _cluster(nodes) as address:
                out = work / f"out-{number}-{nodes}"
                rates.append(_job(args, corpus, out, nodes, address=address))
            say(f"{nodes} nodes of one core: {rates[-1]:,.0f} rows/s")
        ratios.append(rates[1] / rates[0])
    return _summary(ratios)


@contextmanager
def _cluster(nodes: int) -> Iterator[str]:
    """Several nodes on this machine, of one core each."""
    load_ray()
    from ray.cluster_utils import Cluster as SimulatedCluster

    cluster = SimulatedCluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        for _ in range(nodes - 1):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()


def _reference(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    corpus = write_corpus(work / "corpus", glosses(args.rows))
    ratios, of_cpu_time = [], []
    with connected(Cluster()) as ray:
        for number in range(args.rounds):
            paces = {
                name: pipeline_pace(ray, corpus, work / f"{name}-{number}", step)
                for name, step in steps(ray, args.artifact).items()
            }
            ours, theirs = paces["ours"], paces["theirs"]
            ratios.append(ours.rows_per_s / theirs.rows_per_s)
            of_cpu_time.append(ours.rows_per_cpu_s / theirs.rows_per_cpu_s)
            say(
                ", ".join(
                    f"{name} {pace.rows_per_s:,.0f} rows/s, {pace.rows_per_cpu_s:,.0f} a second of "
                    "processor time"
                    for name, pace in paces.items()
                )
            )
    return {**_summary(ratios), "processor_time": _summary(of_cpu_time)}


def _memory(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    corpus = write_corpus(work / "corpus", mixed(args.rows))
    with connected(Cluster()), MemoryWatch(work / "out") as watch, _at_most(args.minutes):
        _job(args, corpus, work / "out", usable_cpus())
    return {"rows_done": watch.rows, "processes": watch.report()}


@contextmanager
def _at_most(minutes: float | None) -> Iterator[None]:
    """Interrupts what it holds after so many minutes, as Ctrl-C does."""
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, (minutes or 0) * 60)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _job(
    args: argparse.Namespace, corpus: Path, out: Path, workers: int, *, address: str = ""
) -> float:
    request = Request((str(corpus),), str(out), str(args.artifact))
    options = RunOptions(Cluster(address), workers)
    return float(run(prepare(request), options)["this_run"]["rows_per_s"])


def _summary(ratios: list[float]) -> dict[str, Any]:
    return {"ratio": statistics.median(ratios), "all": ratios}
