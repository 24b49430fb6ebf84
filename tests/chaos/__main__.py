"""`python -m tests.chaos`: `run`, `soak` or `fuzz`."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.chaos.fuzzing import fuzz
from tests.chaos.report import format_failures, format_table, write_json
from tests.chaos.scenarios import SCENARIOS, log_line, play, prepare_stage
from tests.chaos.soak import soak
from tests.chaos.stage import LONG, SHORT, Outcome, Scale, Stage

Work = Callable[[Stage], Awaitable[list[Outcome]]]


def main(argv: list[str] | None = None) -> int:
    """Runs a command and prints its table.

    Returns:
        1 if anything was lost, wrong or not as promised.
    """
    asked = _parser().parse_args(argv)
    outcomes = asyncio.run(_perform(asked))
    print(format_table(outcomes))
    failures = format_failures(outcomes)
    for line in failures:
        log_line(f"NOT AS PROMISED: {line}")
    if asked.json:
        write_json(asked.json, outcomes, settings=_settings(asked))
    return 1 if failures else 0


async def _perform(asked: argparse.Namespace) -> list[Outcome]:
    async with prepare_stage(asked.artifact, scale=_scale(asked), seed=asked.seed) as prepared:
        launch = prepared.launch.with_args(*asked.server_args.split())
        stage = dataclasses.replace(prepared, launch=launch)
        if asked.command == "soak":
            return [await soak(stage, minutes=asked.minutes)]
        if asked.command == "fuzz":
            return [await fuzz(stage, cases=asked.cases)]
        return await play(asked.scenarios or list(SCENARIOS), stage)


def _scale(asked: argparse.Namespace) -> Scale:
    scale = SHORT if asked.short else LONG
    if asked.connections:
        scale = dataclasses.replace(scale, connections=asked.connections)
    return scale


def _settings(asked: argparse.Namespace) -> dict[str, object]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in _items(asked)}


def _items(asked: argparse.Namespace) -> list[tuple[str, object]]:
    return sorted(vars(asked).items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="inject faults one after another")
    run.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}")
    soaking = commands.add_parser("soak", help="mixed traffic and faults, weighed")
    soaking.add_argument("--minutes", type=float, default=20.0)
    fuzzing = commands.add_parser("fuzz", help="what no honest client sends")
    fuzzing.add_argument("--cases", type=int, default=100_000)
    for command in (run, soaking, fuzzing):
        _add_common(command)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--artifact", type=Path, help="default: a tiny model made on the spot")
    parser.add_argument("--server-args", default="", help="more flags of the servers")
    parser.add_argument("--short", action="store_true", help="a tenth of it")
    parser.add_argument("--connections", type=int, help="of the scenario connections")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write all figures")


if __name__ == "__main__":
    sys.exit(main())
