"""More load than a server can bear, in an open loop: callers come whether or not it keeps up.

Counted in texts, for a server that favours small calls would look better by calls. And no two
texts in flight are equal: those are run once, the more of them the longer the queue, so that the
peak would be that of another load.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.chaos.expected import Known, learn, probe, stretches
from tests.chaos.load import Callers
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
MIN_GOODPUT = 0.8
"""Of the peak. The callers run on the server's CPUs and take more of them the more they offer; the
server's own part, where 0.9 is promised, is measured by `python -m bench overload`."""
_PEAK_CALLERS = 64
_MOST_TEXTS = 16
_MEAN_TEXTS = (1 + _MOST_TEXTS) / 2
_TICK_S = 0.005


async def overload_twice(stage: Stage) -> Outcome:
    """Twice the load that saturates it."""
    return await _overload(stage, factor=2.0)


async def overload_fivefold(stage: Stage) -> Outcome:
    """Five times the load that saturates it."""
    return await _overload(stage, factor=5.0)


@dataclass
class _Load:
    """Calls of one to sixteen texts, the next ones in turn.

    Attributes:
        known: The texts, more than are ever in flight.
        texts_right: Texts that were answered rightly so far.
    """

    known: Known
    texts_right: int = 0
    _places: Iterator[int] = field(init=False)

    def __post_init__(self) -> None:
        self._places = itertools.cycle(range(len(self.known.texts)))

    async def embed(self, client: AsyncClient, known: Known, choice: random.Random) -> bool:
        """A call that has time."""
        return await self._embed(client, choice, timeout_s=None)

    async def embed_soon(self, client: AsyncClient, choice: random.Random) -> bool:
        """A call that has not."""
        return await self._embed(client, choice, timeout_s=DEADLINE_S)

    async def _embed(
        self, client: AsyncClient, choice: random.Random, *, timeout_s: float | None
    ) -> bool:
        indices = list(itertools.islice(self._places, choice.randint(1, _MOST_TEXTS)))
        vectors = await client.embed(self.known.pick(indices), timeout_s=timeout_s)
        right = self.known.are_vectors(vectors, indices)
        self.texts_right += right * len(indices)
        return right


async def _overload(stage: Stage, *, factor: float) -> Outcome:
    outcome = Outcome(f"overload, {factor:g} times the peak", Tally(TOLERATED))
    async with replicas(stage.launch) as (server,):
        load = _Load(await learn(server.target, stretches()))
        async with AsyncClient(server.target, retry=ONCE) as client:
            before_per_s = await _measure_peak(stage, client, load, outcome)
            offered_per_s = factor * before_per_s
            await _flood(stage, client, load, outcome, texts_per_s=offered_per_s)
            after_per_s = await _measure_peak(stage, client, load, outcome)
        right = await probe(server.target, load.known)
        outcome.check(kept=right, promise="wrong after the overload")
    # The machine drifts: the peak is what it was around the overload.
    peak_per_s = (before_per_s + after_per_s) / 2
    goodput = outcome.figures["goodput_texts_per_s"] / peak_per_s
    outcome.figures |= {"peak_texts_per_s": peak_per_s, "goodput_of_peak": goodput}
    if goodput < MIN_GOODPUT:
        outcome.missed.append(f"goodput is {goodput:.2f} of the peak")
    if (p99_s := outcome.tally.quantile_s(0.99)) > DEADLINE_S:
        outcome.missed.append(f"p99 of accepted calls is {p99_s:.2f} s")
    return outcome


async def _measure_peak(stage: Stage, client: AsyncClient, load: _Load, outcome: Outcome) -> float:
    """Right texts a second while callers enough to saturate it take turns."""
    tally = Tally()
    async with Callers(client, load.known, tally, _PEAK_CALLERS, kinds={load.embed: 1}):
        await tally.more(2 * _PEAK_CALLERS)
        before, started_s = load.texts_right, time.monotonic()
        await asyncio.sleep(stage.scale.overload_s / 2)
        rate_per_s = (load.texts_right - before) / (time.monotonic() - started_s)
    outcome.check(
        kept=tally.right == tally.sent, promise=f"not all were right below overload: {tally}"
    )
    return rate_per_s


async def _flood(
    stage: Stage, client: AsyncClient, load: _Load, outcome: Outcome, *, texts_per_s: float
) -> None:
    """Sends at this rate and counts the answers that came while it lasted."""
    choice, tally = random.Random(stage.seed), outcome.tally
    tasks: list[asyncio.Task[None]] = []
    # What fills the queue at first is answered later: the measure begins after a deadline.
    lead_s, started_s = DEADLINE_S, time.monotonic()
    end_s = lead_s + stage.scale.overload_s
    right_at_lead = None
    while (elapsed_s := time.monotonic() - started_s) < end_s:
        if right_at_lead is None and elapsed_s >= lead_s:
            right_at_lead, lead_s = load.texts_right, elapsed_s
        while len(tasks) < elapsed_s * texts_per_s / _MEAN_TEXTS:
            tasks.append(asyncio.create_task(tally.judge(load.embed_soon(client, choice))))
        await asyncio.sleep(_TICK_S)
    measured_s = time.monotonic() - started_s - lead_s
    outcome.figures["goodput_texts_per_s"] = (load.texts_right - (right_at_lead or 0)) / measured_s
    outcome.figures["offered_texts_per_s"] = _MEAN_TEXTS * len(tasks) / (measured_s + lead_s)
    await asyncio.gather(*tasks)
