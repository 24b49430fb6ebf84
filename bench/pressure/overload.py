"""More load than the server can bear: an open loop at multiples of its measured peak.

The machine drifts, by half within minutes on shared hardware. So the peak is measured before
and after each overload, and a goodput is compared with the mean of these two.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterator, Sequence

from bench.harness.runner import rotate
from bench.pressure.load import Site, as_record, load_tester
from bench.results import Load
from bench.summary import Spread, percentile, spread

PEAK, OPEN = "peak", "open loop"
_SETTLE_S = 1.0


@dataclasses.dataclass(frozen=True)
class OverloadPlan:
    """What to measure.

    Attributes:
        factors: Rates, in peaks.
        rounds: How often all of them.
        timeout_s: Deadline of calls in the open loop.
        seconds: Measured time of each open loop and of each peak.
        texts_per_request: Texts in each call.
        callers: Calls in flight in the closed loop that finds the peak.
    """

    factors: tuple[float, ...]
    rounds: int
    timeout_s: float
    seconds: float
    texts_per_request: int
    callers: int

    @property
    def estimated_s(self) -> float:
        """About how long it takes, the start of processes included."""
        peak_s = self.seconds + _SETTLE_S + 1.5
        open_s = self.seconds + 2 * self.timeout_s + _SETTLE_S + 1.5
        return self.rounds * (peak_s + len(self.factors) * (peak_s + open_s))


def measure_overload(
    plan: OverloadPlan, site: Site, *, say: Callable[[str], None]
) -> Iterator[Load]:
    """Runs the plan: peak, open loop, peak, open loop, ..., peak in each round."""
    for number in range(1, plan.rounds + 1):
        before = _peak(plan, site, number)
        yield before
        for factor in rotate(plan.factors, number - 1):
            say(f"round {number} of {plan.rounds}: {factor:g} x {before.ok_per_s:.1f} calls/s")
            yield _overload(plan, site, before, factor)
            before = _peak(plan, site, number)
            yield before


def _peak(plan: OverloadPlan, site: Site, number: int) -> Load:
    with load_tester(
        site,
        texts=site.texts[0],
        concurrency=plan.callers,
        texts_per_request=plan.texts_per_request,
        warmup_s=_SETTLE_S,
        duration_s=plan.seconds,
    ) as tester:
        peak = as_record(tester.wait(), PEAK, number)
    if peak.ok_per_s <= 0:
        raise ValueError(f"no call was answered in {plan.seconds:g} s, without overload")
    return peak


def _overload(plan: OverloadPlan, site: Site, peak: Load, factor: float) -> Load:
    with load_tester(
        site,
        texts=site.texts[1],
        rate=factor * peak.ok_per_s,
        arrivals="poisson",
        seed=peak.round,
        texts_per_request=plan.texts_per_request,
        timeout_s=plan.timeout_s,
        # What fills the queue at first is answered later: a deadline on, its length is steady.
        warmup_s=plan.timeout_s + _SETTLE_S,
        duration_s=plan.seconds,
    ) as tester:
        return as_record(tester.wait(), OPEN, peak.round, factor)


@dataclasses.dataclass(frozen=True)
class Point:
    """One open loop, measured in peaks.

    Attributes:
        factor: The rate that was meant, in peaks before.
        offered: What was sent, in the mean of the peaks before and after.
        goodput: What was answered in time, in the same.
        load: The open loop.
    """

    factor: float
    offered: float
    goodput: float
    load: Load


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """All open loops of one factor.

    Attributes:
        factor: The rate that was meant, in peaks.
        offered: What was sent, median over the rounds.
        goodput: What was answered in time, over the rounds.
        p50_ms: Of the calls that succeeded, all rounds together; None if none did.
        p99_ms: The same.
        shares: Part of the calls by status code, OK included, most frequent first.
        client_cpus: Processors that the load tester took, median.
        others_cpus: Processors that something else on the machine took, median.
        lag_p99_ms: How late the load tester sent, the worst round.
    """

    factor: float
    offered: float
    goodput: Spread
    p50_ms: float | None
    p99_ms: float | None
    shares: dict[str, float]
    client_cpus: float
    others_cpus: float
    lag_p99_ms: float


def points(loads: Sequence[Load]) -> list[Point]:
    """Pairs each open loop with its peaks. One whose second peak is missing is left out.

    Args:
        loads: In the order in which they were measured.
    """
    return [
        _point(load, before, after)
        for before, load, after in zip(loads, loads[1:], loads[2:], strict=False)
        if load.condition == OPEN and before.condition == after.condition == PEAK
    ]


def curve(loads: Sequence[Load]) -> list[CurvePoint]:
    """One point for each factor, in ascending order."""
    found = points(loads)
    factors = sorted({point.factor for point in found})
    return [_curve_point([point for point in found if point.factor == each]) for each in factors]


def _point(load: Load, before: Load, after: Load) -> Point:
    peak_per_s = (before.ok_per_s + after.ok_per_s) / 2
    assert load.factor is not None
    return Point(load.factor, load.sent_per_s / peak_per_s, load.ok_per_s / peak_per_s, load)


def _curve_point(group: Sequence[Point]) -> CurvePoint:
    loads = [point.load for point in group]
    latencies_ms = [value for load in loads for value in load.latencies_ms]
    return CurvePoint(
        factor=group[0].factor,
        offered=statistics.median(point.offered for point in group),
        goodput=spread([point.goodput for point in group]),
        p50_ms=percentile(latencies_ms, 50),
        p99_ms=percentile(latencies_ms, 99),
        shares=_shares(loads),
        client_cpus=statistics.median(load.client_cpu_s / load.run_s for load in loads),
        others_cpus=statistics.median(load.others_cpu_s / load.run_s for load in loads),
        lag_p99_ms=max(load.lag_p99_ms for load in loads),
    )


def _shares(loads: Sequence[Load]) -> dict[str, float]:
    counts: dict[str, int] = {}
    for load in loads:
        for code, count in load.outcomes.items():
            counts[code] = counts.get(code, 0) + count
    total = sum(counts.values()) or 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return {code: count / total for code, count in ordered if count}
