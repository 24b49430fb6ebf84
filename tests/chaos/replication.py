"""Faults of one replica of three, under load that is balanced over all."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence

from tests.chaos.expected import probe
from tests.chaos.load import Callers, balanced_client
from tests.chaos.proxy import envoy, envoy_path
from tests.chaos.replica import Replica, replicas
from tests.chaos.stage import Outcome, Stage
from unitvec_client import AsyncClient

REPLICAS = 3


async def kill_one(stage: Stage) -> Outcome:
    """Kill -9 of one replica; it is started again, as a supervisor would."""
    outcome = Outcome("kill -9 of one of three, round_robin")
    async with (
        replicas(stage.small, REPLICAS) as group,
        balanced_client(group) as client,
        _callers(stage, client, outcome),
    ):
        await outcome.tally.more(stage.scale.answers)
        killed_s = time.monotonic()
        await group[0].end(signal.SIGKILL)
        right = stage.known.are_vectors(await client.embed(stage.known.pick([0])), [0])
        outcome.check(kept=right, promise="the first answer after the kill was wrong")
        outcome.figures["next_answer_s"] = time.monotonic() - killed_s
        await outcome.tally.more(stage.scale.answers)
        started_s = time.monotonic()
        await _revive(group[0], stage, outcome)
        outcome.recovery_s = time.monotonic() - started_s
        await outcome.tally.more(stage.scale.answers)
    return outcome


async def rolling_restart(stage: Stage) -> Outcome:
    """SIGTERM and a new start of each replica in turn, behind the client's round_robin."""
    outcome = Outcome("rolling restart of three, round_robin")
    async with replicas(stage.small, REPLICAS) as group, balanced_client(group) as client:
        await _roll(stage, client, group, outcome=outcome)
    return outcome


async def rolling_restart_envoy(stage: Stage) -> Outcome:
    """The same behind Envoy, which asks for health and retries what no replica has begun."""
    outcome = Outcome("rolling restart of three, Envoy")
    if envoy_path() is None:
        outcome.skipped = "no envoy; `make install` brings one on Linux"
        return outcome
    async with (
        replicas(stage.small, REPLICAS) as group,
        envoy(group) as target,
        AsyncClient(target) as client,
    ):
        await _roll(stage, client, group, outcome=outcome)
    return outcome


async def stall_one(stage: Stage) -> Outcome:
    """SIGSTOP of one replica: callers that it holds wait, and are answered after SIGCONT."""
    outcome = Outcome("one of three frozen and thawed, round_robin")
    async with (
        replicas(stage.small, REPLICAS) as group,
        balanced_client(group) as client,
        _callers(stage, client, outcome),
    ):
        await outcome.tally.more(stage.scale.answers)
        group[0].send(signal.SIGSTOP)
        await asyncio.sleep(stage.scale.stall_s)
        group[0].send(signal.SIGCONT)
        thawed_s = time.monotonic()
        await _check_alive(group[0], stage, outcome)
        outcome.recovery_s = time.monotonic() - thawed_s
        await outcome.tally.more(stage.scale.answers)
    return outcome


def _callers(stage: Stage, client: AsyncClient, outcome: Outcome) -> Callers:
    return Callers(client, stage.known, outcome.tally, stage.scale.callers, seed=stage.seed)


async def _roll(
    stage: Stage, client: AsyncClient, group: Sequence[Replica], *, outcome: Outcome
) -> None:
    slowest_s = 0.0
    async with _callers(stage, client, outcome):
        for replica in group:
            await outcome.tally.more(stage.scale.answers)
            stopped_s = time.monotonic()
            status = await replica.end(signal.SIGTERM)
            outcome.check(kept=status == 0, promise=f"a drained replica ended with {status}")
            await _revive(replica, stage, outcome)
            slowest_s = max(slowest_s, time.monotonic() - stopped_s)
        await outcome.tally.more(stage.scale.answers)
    outcome.recovery_s = slowest_s


async def _revive(replica: Replica, stage: Stage, outcome: Outcome) -> None:
    await replica.start()
    await _check_alive(replica, stage, outcome)


async def _check_alive(replica: Replica, stage: Stage, outcome: Outcome) -> None:
    right = await probe(replica.target, stage.known)
    outcome.check(kept=right, promise="a replica that came back answered wrong")
