"""More load than a server can bear, in an open loop: callers come whether or not it keeps up."""

from __future__ import annotations

import asyncio
import random
import time

from tests.chaos.expected import probe
from tests.chaos.load import Callers, embed
from tests.chaos.replica import replicas
from tests.chaos.stage import Outcome, Stage
from tests.chaos.tally import Tally
from unitvec_client import AsyncClient, RetryPolicy

ONCE = RetryPolicy(max_attempts=1)
DEADLINE_S = 2.0
TOLERATED = frozenset(
    {
        "OVERLOADED",
        "DEADLINE_EXPIRED_IN_QUEUE",
        "DEADLINE_EXCEEDED",
        "DEADLINE_TOO_SHORT",
        # Where the server's clock reaches the deadline before the client's, gRPC says so.
        "CANCELLED",
    }
)
"""Refusals that an overloaded server owes its callers."""
MIN_GOODPUT = 0.9
"""Of the peak: what overload may cost at most."""
_PEAK_CALLERS = 64
_TICK_S = 0.005


async def overload_twice(stage: Stage) -> Outcome:
    """Twice the load that saturates it."""
    return await _overload(stage, factor=2.0)


async def overload_fivefold(stage: Stage) -> Outcome:
    """Five times the load that saturates it."""
    return await _overload(stage, factor=5.0)


async def _overload(stage: Stage, *, factor: float) -> Outcome:
    outcome = Outcome(f"overload, {factor:g} times the peak", Tally(TOLERATED))
    async with replicas(stage.launch) as (server,):
        async with AsyncClient(server.target, retry=ONCE) as client:
            peak_per_s = await _measure_peak(stage, client, outcome)
            await _flood(stage, client, outcome, rate_per_s=factor * peak_per_s)
            after_per_s = await _measure_peak(stage, client, outcome)
        right = await probe(server.target, stage.known)
        outcome.check(kept=right, promise="wrong after the overload")
    # The machine drifts: the peak is what it was around the overload.
    peak_per_s = (peak_per_s + after_per_s) / 2
    goodput = outcome.figures["goodput_per_s"] / peak_per_s
    outcome.figures |= {"peak_per_s": peak_per_s, "goodput_of_peak": goodput}
    if goodput < MIN_GOODPUT:
        outcome.missed.append(f"goodput is {goodput:.2f} of the peak")
    if (p99_s := outcome.tally.quantile_s(0.99)) > DEADLINE_S:
        outcome.missed.append(f"p99 of accepted calls is {p99_s:.2f} s")
    return outcome


async def _measure_peak(stage: Stage, client: AsyncClient, outcome: Outcome) -> float:
    """Right answers a second while callers enough to saturate it take turns."""
    tally = Tally()
    async with Callers(client, stage.known, tally, _PEAK_CALLERS, kinds={embed: 1}):
        await tally.more(2 * _PEAK_CALLERS)
        before, started_s = tally.right, time.monotonic()
        await asyncio.sleep(stage.scale.overload_s / 2)
        rate_per_s = (tally.right - before) / (time.monotonic() - started_s)
    outcome.check(
        kept=tally.right == tally.sent, promise=f"not all were right below overload: {tally}"
    )
    return rate_per_s


async def _flood(stage: Stage, client: AsyncClient, outcome: Outcome, *, rate_per_s: float) -> None:
    """Sends at this rate and counts the answers that came while it lasted."""
    choice, tally = random.Random(stage.seed), outcome.tally
    tasks: list[asyncio.Task[None]] = []
    # What fills the queue at first is answered later: the measure begins after a deadline.
    lead_s, started_s = DEADLINE_S, time.monotonic()
    end_s = lead_s + stage.scale.overload_s
    right_at_lead = None
    while (elapsed_s := time.monotonic() - started_s) < end_s:
        if right_at_lead is None and elapsed_s >= lead_s:
            right_at_lead, lead_s = tally.right, elapsed_s
        while len(tasks) < elapsed_s * rate_per_s:
            tasks.append(asyncio.create_task(tally.judge(_ask(stage, client, choice))))
        await asyncio.sleep(_TICK_S)
    measured_s = time.monotonic() - started_s - lead_s
    outcome.figures["goodput_per_s"] = (tally.right - (right_at_lead or 0)) / measured_s
    outcome.figures["offered_per_s"] = len(tasks) / (measured_s + lead_s)
    await asyncio.gather(*tasks)


async def _ask(stage: Stage, client: AsyncClient, choice: random.Random) -> bool:
    indices = [choice.randrange(len(stage.known.texts)) for _ in range(choice.randint(1, 8))]
    vectors = await client.embed(stage.known.pick(indices), timeout_s=DEADLINE_S)
    return stage.known.are_vectors(vectors, indices)
