"""All scenarios by name, and the run over some of them."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.chaos.expected import learn
from tests.chaos.faults import disconnects, poison, restart, stall
from tests.chaos.overload import overload_fivefold, overload_twice
from tests.chaos.pressure import connections, half_open, slow_reader
from tests.chaos.reloads import reload_often
from tests.chaos.replica import Launch, replicas
from tests.chaos.replication import kill_one, rolling_restart, rolling_restart_envoy, stall_one
from tests.chaos.stage import Outcome, Scale, Stage

Scenario = Callable[[Stage], Awaitable[Outcome]]

SCENARIOS: Mapping[str, Scenario] = {
    "kill": kill_one,
    "rolling": rolling_restart,
    "rolling-envoy": rolling_restart_envoy,
    "stall-one": stall_one,
    "restart": restart,
    "stall": stall,
    "poison": poison,
    "reload": reload_often,
    "overload-2": overload_twice,
    "overload-5": overload_fivefold,
    "slow-reader": slow_reader,
    "half-open": half_open,
    "connections": connections,
    "disconnects": disconnects,
}


def log_line(text: str) -> None:
    """How it goes, to stderr: stdout is for the table."""
    print(text, file=sys.stderr, flush=True)


@asynccontextmanager
async def prepare_stage(artifact: Path | None, *, scale: Scale, seed: int) -> AsyncIterator[Stage]:
    """A stage over this artifact, or over that of a tiny model."""
    launch = Launch(artifact) if artifact else launch_tiny()
    async with replicas(launch.with_args("--max-batch-tokens", "256")) as (server,):
        known = await learn(server.target)
    yield Stage(launch, known, scale, seed, log_line)


def launch_tiny() -> Launch:
    """A server of the tiny model: 32 dimensions, 64 tokens."""
    from tests.artifacts import keep_artifact
    from tests.models import TinyModel

    return Launch(keep_artifact(TinyModel()), ("--precision", "fp32"))


async def play(names: Sequence[str], stage: Stage) -> list[Outcome]:
    """Plays scenarios one after another."""
    outcomes = []
    for name in names:
        started_s = time.monotonic()
        try:
            outcome = await SCENARIOS[name](stage)
        except Exception as exc:  # the others are played all the same
            outcome = Outcome(name, broken=[f"not played to its end: {exc!r}"])
        outcome.figures["took_s"] = time.monotonic() - started_s
        outcomes.append(outcome)
        kept = outcome.sound and not outcome.missed
        stage.note(f"{name}: {'as promised' if kept else 'NOT as promised'}")
    return outcomes
