"""Faults of a single server and of its clients."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
import time
from dataclasses import replace

from tests.chaos.expected import probe
from tests.chaos.faulty_server import POISON
from tests.chaos.load import Callers, embed
from tests.chaos.replica import FAULTY, Replica, replicas
from tests.chaos.stage import SPARE_DESCRIPTORS, Outcome, Stage
from tests.chaos.tally import Tally
from unitvec_client import AsyncClient, RetryPolicy, UnitvecError

PATIENT = RetryPolicy(max_attempts=1_000, max_backoff_s=1.0)
"""For clients of one server only, who must outlast its start."""
_POISONERS = 2
_SETTLE_TIMEOUT_S = 60.0
_POLL_S = 0.1


async def restart(stage: Stage) -> Outcome:
    """Kill -9 of the only server; patient clients lose nothing."""
    outcome = Outcome("kill -9 and restart of the only server")
    async with (
        replicas(stage.small) as (server,),
        AsyncClient(server.target, retry=PATIENT) as client,
        Callers(client, stage.known, outcome.tally, stage.scale.callers, seed=stage.seed),
    ):
        await outcome.tally.more(stage.scale.answers)
        killed_s = time.monotonic()
        await server.end(signal.SIGKILL)
        await server.start()
        await outcome.tally.more(1)
        outcome.recovery_s = time.monotonic() - killed_s
        await outcome.tally.more(stage.scale.answers)
    return outcome


async def poison(stage: Stage) -> Outcome:
    """Texts that make any batch fail, batches that fail once: mates of both are right."""
    outcome = Outcome("poison and flaky batches")
    blamed = Tally(tolerated=frozenset({"INFERENCE_FAILED"}))
    async with replicas(replace(stage.small, module=FAULTY)) as (server,):
        async with AsyncClient(server.target) as client:
            poisoners = Callers(client, stage.known, blamed, _POISONERS, kinds={poisonous: 1})
            async with _callers(stage, client, outcome), poisoners:
                await outcome.tally.more(2 * stage.scale.answers)
        right = await probe(server.target, stage.known)
        outcome.check(kept=right, promise="wrong after the poison")
    outcome.figures["poisoned_requests"] = blamed.sent
    outcome.check(
        kept=blamed.sent == blamed.refused.total() > 0,
        promise=f"poison was not refused each time: {blamed}",
    )
    return outcome


async def poisonous(client: AsyncClient, known: object, choice: random.Random) -> bool:
    """A text that cannot be embedded: an answer is wrong, whatever it is."""
    await client.embed(f"{POISON} {choice.random()}")
    return False


async def stall(stage: Stage) -> Outcome:
    """SIGSTOP of the only server: whoever waits is answered after SIGCONT."""
    outcome = Outcome("the only server frozen and thawed")
    async with (
        replicas(stage.small) as (server,),
        AsyncClient(server.target, retry=PATIENT) as client,
        _callers(stage, client, outcome),
    ):
        await outcome.tally.more(stage.scale.answers)
        server.send(signal.SIGSTOP)
        await asyncio.sleep(stage.scale.stall_s)
        server.send(signal.SIGCONT)
        thawed_s = time.monotonic()
        await outcome.tally.more(1)
        outcome.recovery_s = time.monotonic() - thawed_s
        await outcome.tally.more(stage.scale.answers)
    return outcome


async def disconnects(stage: Stage) -> Outcome:
    """Clients that cancel and clients that are killed, beside others who go on."""
    outcome = Outcome("clients that vanish")
    rounds = max(2, stage.scale.answers // 40)
    async with replicas(stage.launch) as (server,):
        await probe(server.target, stage.known)
        before = server.weigh()
        async with AsyncClient(server.target) as client, _callers(stage, client, outcome):
            for _ in range(rounds):
                await vanish(server.target)
                await cancel_many(server.target, stage, count=50)
                await outcome.tally.more(stage.scale.answers // 4)
        await settle(server, descriptors=before.descriptors)
        outcome.weigh(before, server.weigh())
    outcome.figures["killed_clients"] = rounds
    outcome.figures["cancelled_calls"] = 50 * rounds
    return outcome


async def vanish(target: str) -> None:
    """A client process with calls and streams in flight, killed."""
    victim = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.chaos.victim", target), stdout=asyncio.subprocess.PIPE
    )
    assert victim.stdout is not None
    await victim.stdout.readline()  # it says when its calls are in flight
    victim.kill()
    await victim.wait()


async def cancel_many(target: str, stage: Stage, *, count: int) -> None:
    """Calls that are given up at any point of their lives."""
    choice = random.Random(stage.seed)

    async def give_up(client: AsyncClient) -> None:
        with contextlib.suppress(TimeoutError, UnitvecError):
            async with asyncio.timeout(choice.random() * 0.1):
                await embed(client, stage.known, choice)

    async with AsyncClient(target) as client:
        await asyncio.gather(*(give_up(client) for _ in range(count)))


async def settle(server: Replica, *, descriptors: int) -> None:
    """Waits until a server has noticed that its clients are gone; gives up after a minute."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SETTLE_TIMEOUT_S):
            most = descriptors + SPARE_DESCRIPTORS
            while server.weigh().descriptors > most:  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(_POLL_S)


def _callers(stage: Stage, client: AsyncClient, outcome: Outcome) -> Callers:
    return Callers(client, stage.known, outcome.tally, stage.scale.callers, seed=stage.seed)
