"""Flags of `python -m bench`."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.adapters.plain_export import is_exported
from bench.bulk.commands import add_bulk_command
from bench.console import RESULTS, file_stem, say
from bench.contenders import (
    PLAIN_EXPORT_ENVIRONMENT,
    WorkerSpec,
    all_contenders,
    parse_variant,
    select,
)
from bench.doors import add_doors_command
from bench.fleet import add_fleet_command
from bench.gpu import GPU_DEFAULTS, check_gpu, export_fp16
from bench.harness.adapter import Setup
from bench.harness.environments import EnvironmentMissing, interpreter
from bench.harness.machine import describe_run
from bench.harness.process import ROOT, Command, Worker, WorkerFailed
from bench.harness.runner import Plan, Runner
from bench.http_doors import add_http_command
from bench.pressure.commands import PRESSURE_SUFFIXES, add_pressure_commands, publish_pressure
from bench.report import layers_markdown, report_markdown
from bench.results import Record, Results, Run, collect, read, write
from bench.search import add_search_command
from bench.workloads import COUNTS, TITLES, Corpora, load_corpora, retrieval_task
from unitvec_export.errors import InputError
from unitvec_export.source import Request, resolve_source
from unitvec_server.errors import ArtifactError
from unitvec_server.model.artifact import load_artifact
from unitvec_server.model.cpus import usable_cpus

_CACHE = ROOT / "bench" / ".cache"
_QUICK = {"rounds": 1, "count": 32, "min_s": 0.2, "queries": 16}
_FULL = {"rounds": 5, "count": None, "min_s": 0.5, "queries": 50}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one of the commands.

    Returns:
        Exit status: 0, or 2 if what was asked for cannot be done.
    """
    args = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that workers are ended
    try:
        args.command(args)
    except (ArtifactError, InputError, OSError, ValueError, WorkerFailed) as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 2
    return 0


def _run(args: argparse.Namespace) -> None:
    settings = _settings(args)
    records: list[Record] = []
    with tempfile.TemporaryDirectory() as work:
        plan = _plan(args, settings, Path(work))
        runner = Runner(plan, launch=_Launcher(settings, Path(work)), say=say)
        settings.results_folder.mkdir(parents=True, exist_ok=True)
        path = settings.results_folder / f"{file_stem()}.jsonl"
        with path.open("w", encoding="utf-8") as stream:
            for record in itertools.chain([_describe(settings, plan)], runner.run()):
                write(record, stream)
                records.append(record)
    _publish(collect(records), path)
    say(f"wrote {path} and the report beside it")


def _gpu(args: argparse.Namespace) -> None:
    check_gpu()
    with tempfile.TemporaryDirectory() as folder:
        args.artifact = args.artifact or export_fp16(args.model, Path(folder))
        _run(args)


def _publish(results: Results, path: Path) -> None:
    from bench.plots import draw

    text = report_markdown(results)
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    draw(results, path.with_suffix(".svg"))
    print(text)


def _report(args: argparse.Namespace) -> None:
    path = _file_of(args)
    results = read(path)
    if results.loads:
        publish_pressure(results, path)
    else:
        _publish(results, path)


def _layers(args: argparse.Namespace) -> None:
    print(layers_markdown(read(_file_of(args))))


def _list(args: argparse.Namespace) -> None:
    for contender in all_contenders(map(parse_variant, args.variants.split(","))):
        mark = "*" if contender.standard else " "
        print(f"{mark} {contender.name:28} {contender.title}")


@dataclasses.dataclass(frozen=True)
class _Settings:
    """Flags, read and completed."""

    plan: dict[str, Any]
    threads: int
    artifact: Path
    model: str | None
    pythons: dict[str, Path]
    results_folder: Path


def _settings(args: argparse.Namespace) -> _Settings:
    usual = _QUICK if args.quick else _FULL
    plan = {
        name: value if getattr(args, name) is None else getattr(args, name)
        for name, value in usual.items()
    }
    pairs = (text.partition("=") for text in args.python)
    return _Settings(
        plan=plan,
        threads=min(args.threads or usable_cpus(), usable_cpus()),
        artifact=args.artifact.resolve(),
        model=args.model,
        pythons={name: Path(path).absolute() for name, _, path in pairs},
        results_folder=args.results,
    )


def _describe(settings: _Settings, plan: Plan) -> Run:
    counts = {workload.name: len(workload.texts) for workload in plan.workloads}
    asked = settings.plan | {"workloads": counts}
    return describe_run(settings.artifact, threads=settings.threads, settings=asked)


def _plan(args: argparse.Namespace, settings: _Settings, work: Path) -> Plan:
    everyone = all_contenders(map(parse_variant, args.variants.split(",")))
    corpora = load_corpora(args.texts)
    chosen = settings.plan
    names = ["file"] if args.texts else args.workloads.split(",")
    for name in names:
        if name not in TITLES:
            raise ValueError(f"no workload is called {name!r}; there are {', '.join(COUNTS)}")
    return Plan(
        contenders=tuple(select(everyone, args.contenders.split(","))),
        workloads=tuple(corpora.workload(name, limit=chosen["count"]) for name in names),
        retrieval=retrieval_task(_retrieval_texts(corpora), queries=chosen["queries"]),
        rounds=chosen["rounds"],
        min_s=chosen["min_s"],
        work_folder=work,
        lone_texts=args.lone_texts,
    )


def _retrieval_texts(corpora: Corpora) -> tuple[str, ...]:
    return corpora.file or corpora.long


class _Launcher:
    """Starts workers with what the flags say."""

    def __init__(self, settings: _Settings, work: Path) -> None:
        self._settings = settings
        self._work = work
        self._model_folder = resolve_source(Request(settings.model)).folder
        self._manifest = load_artifact(settings.artifact).manifest
        self._cache = _CACHE / _fingerprint(self._model_folder)
        self._started = 0

    def __call__(self, spec: WorkerSpec) -> Worker:
        python = interpreter(spec.environment, self._settings.pythons)
        if spec.plain_export:
            self._export()
        self._started += 1
        log_path = self._work / f"worker-{self._started}.log"
        return Worker(Command(python, spec.adapter, self._setup(spec), log_path))

    def _export(self) -> None:
        if is_exported(self._cache):
            return
        module, folder = "bench.adapters.plain_export", str(self._model_folder)
        python = interpreter(PLAIN_EXPORT_ENVIRONMENT, self._settings.pythons)
        command = [str(python), "-m", module, folder, str(self._cache)]
        try:
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as exc:
            raise EnvironmentMissing(f"no plain export: {exc.stderr[-500:]}") from exc

    def _setup(self, spec: WorkerSpec) -> Setup:
        return Setup(
            model_folder=str(self._model_folder),
            artifact=str(self._settings.artifact),
            cache=str(self._cache),
            threads=self._settings.threads,
            max_seq_length=self._manifest.max_seq_length,
            dim=self._manifest.dim,
            pooling=self._manifest.pooling,
            precision=spec.precision,
            provider=spec.provider,
            flavour=spec.flavour,
        )


def _fingerprint(folder: Path) -> str:
    """Names what was derived from a model after its files: their names, sizes and ages."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    facts = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _file_of(args: argparse.Namespace) -> Path:
    if args.file is not None:
        return Path(args.file)
    found = sorted(RESULTS.glob("*.jsonl"))
    files = [path for path in found if not path.stem.endswith(PRESSURE_SUFFIXES)]
    if not files:
        raise ValueError(f"there are no results in {RESULTS}; make some with python -m bench run")
    return files[-1]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="measure, keep the raw results, print the report")
    _add_run_flags(run)
    run.set_defaults(command=_run, lone_texts=0)
    gpu = commands.add_parser("gpu", help="export fp16, measure it on CUDA beside its peers")
    _add_run_flags(gpu)
    gpu.set_defaults(command=_gpu, **GPU_DEFAULTS)
    for name, command, text in (
        ("report", _report, "print the report of results and redraw its plot"),
        ("layers", _layers, "print how much each layer loses"),
    ):
        sub = commands.add_parser(name, help=text)
        sub.add_argument("file", nargs="?", help="a .jsonl of results (default: the last of run)")
        sub.set_defaults(command=command)
    rest = (add_pressure_commands, add_doors_command, add_http_command, add_bulk_command)
    for add_command in (*rest, add_fleet_command, add_search_command):
        add_command(commands)
    listing = commands.add_parser("list", help="list the contenders; * marks the standard ones")
    _add_variants(listing)
    listing.set_defaults(command=_list)
    return parser


def _add_variants(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--variants",
        default="fp32,int16,int8",
        help="unitvec's precisions, such as int16,fp16@cuda (default %(default)s)",
    )


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--artifact", type=Path, default=ROOT / "artifacts" / "all-MiniLM-L6-v2")
    add("--model", help="folder of the artifact's source (default: the packaged MiniLM)")
    add(
        "--contenders",
        default="standard",
        help="names, wildcards or groups: standard, peers, layers, all (default %(default)s)",
    )
    _add_variants(parser)
    add("--workloads", default=",".join(COUNTS), help="(default %(default)s)")
    add("--texts", type=Path, help="measure on the texts of this file instead (.jsonl, or lines)")
    add("--rounds", type=int, help=f"counted rounds (default {_FULL['rounds']})")
    add("--count", type=int, help="most texts of a workload")
    add("--min-s", type=float, help=f"least time of a measurement (default {_FULL['min_s']})")
    add("--queries", type=int, help=f"of the retrieval task (default {_FULL['queries']})")
    add("--threads", type=int, help="CPUs for each contender (default: all usable)")
    add("--quick", action="store_true", help="one short round: does everything work?")
    add("--python", action="append", default=[], metavar="ENV=PATH", help="its interpreter")
    add("--results", type=Path, default=RESULTS, help="folder of results")
