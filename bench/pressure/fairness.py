"""A trickle of lone texts, alone and beside callers who send all they can."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bench.harness.runner import rotate
from bench.pressure.load import Site, as_record, load_tester
from bench.results import Load
from bench.summary import Spread, percentile, spread

ALONE = "alone"
STREAM, CALLS = "beside a bulk stream", "beside large calls"
BULK = "bulk of "
"""Before the name of a condition: the load that the trickle ran beside."""
_SETTLE_S = 2.0
_FOREVER_S = 3600.0


@dataclasses.dataclass(frozen=True)
class FairnessPlan:
    """What to measure.

    Attributes:
        rounds: How often each condition.
        seconds: Measured time of each.
        rate_per_s: Lone texts a second.
        in_flight: Requests in flight of either bulk.
        stream_texts: Texts in each message of the stream.
        call_texts: Texts in each large call.
    """

    rounds: int
    seconds: float
    rate_per_s: float
    in_flight: int
    stream_texts: int
    call_texts: int

    @property
    def estimated_s(self) -> float:
        """About how long it takes, the start of processes included."""
        return self.rounds * len(_CONDITIONS) * (self.seconds + _SETTLE_S + 4)

    def bulk(self, condition: str) -> dict[str, Any] | None:
        """Flags of the load that the trickle runs beside; None if it is alone."""
        if condition == ALONE:
            return None
        streamed = condition == STREAM
        return {
            "rpc": "stream" if streamed else "embed",
            "texts_per_request": self.stream_texts if streamed else self.call_texts,
            "concurrency": self.in_flight,
            "warmup_s": _SETTLE_S,
            "duration_s": _FOREVER_S,
        }


_CONDITIONS = (ALONE, STREAM, CALLS)


def measure_fairness(
    plan: FairnessPlan, site: Site, *, say: Callable[[str], None]
) -> Iterator[Load]:
    """Runs the plan: all conditions in each round, beginning with another each time."""
    for number in range(1, plan.rounds + 1):
        for condition in rotate(_CONDITIONS, number - 1):
            say(f"round {number} of {plan.rounds}: a trickle {condition}")
            yield from _measure(plan, site, condition, number)


def _measure(plan: FairnessPlan, site: Site, condition: str, number: int) -> Iterator[Load]:
    bulk_flags = plan.bulk(condition)
    with contextlib.ExitStack() as stack:
        bulk = None
        if bulk_flags is not None:
            bulk = stack.enter_context(load_tester(site, texts=site.texts[1], **bulk_flags))
        trickle = stack.enter_context(
            load_tester(
                site,
                texts=site.texts[0],
                rate=plan.rate_per_s,
                arrivals="constant",
                warmup_s=_SETTLE_S,
                duration_s=plan.seconds,
                seed=number,
            )
        )
        yield as_record(trickle.wait(), condition, number)
        if bulk is not None:
            yield as_record(bulk.stop(), BULK + condition, number)


@dataclasses.dataclass(frozen=True)
class TrickleLine:
    """The trickle in one condition, all rounds together.

    Attributes:
        condition: Which.
        count: Lone texts that were answered.
        failed: Those that were not.
        p50_ms: Median latency.
        p99_ms: 99th percentile.
        p50_ratio: Over that of the trickle alone.
        p99_ratio: The same of the 99th percentile.
        round_p99_ratios: The same within a round; None where no round has both.
        server_p99_ms: 99th percentile of the server's own time.
        server_p99_ratio: Over that of the trickle alone.
        bulk_texts_per_s: Answered to the bulk beside it, median; 0 without one.
    """

    condition: str
    count: int
    failed: int
    p50_ms: float
    p99_ms: float
    p50_ratio: float
    p99_ratio: float
    round_p99_ratios: Spread | None
    server_p99_ms: float
    server_p99_ratio: float
    bulk_texts_per_s: float


def trickle_lines(loads: Sequence[Load]) -> list[TrickleLine]:
    """One line for each condition that was measured and answered, the trickle alone first.

    Raises:
        ValueError: The trickle alone was not measured, or never answered.
    """
    alone = _of(loads, ALONE)
    if not any(load.latencies_ms for load in alone):
        raise ValueError("the trickle was never answered alone: there is nothing to compare with")
    groups = [(condition, _of(loads, condition)) for condition in _CONDITIONS]
    return [
        _line(group, alone, _of(loads, BULK + condition))
        for condition, group in groups
        if any(load.latencies_ms for load in group)
    ]


def _of(loads: Sequence[Load], condition: str) -> list[Load]:
    return [load for load in loads if load.condition == condition]


def _line(group: Sequence[Load], alone: Sequence[Load], bulk: Sequence[Load]) -> TrickleLine:
    p50_ms, p99_ms = _percentile(group, 50), _percentile(group, 99)
    server_p99_ms = _percentile(group, 99, "server_ms")
    bulk_texts_per_s = [load.ok_per_s * load.texts_per_request for load in bulk]
    return TrickleLine(
        condition=group[0].condition,
        count=sum(len(load.latencies_ms) for load in group),
        failed=sum(sum(load.outcomes.values()) - load.outcomes.get("OK", 0) for load in group),
        p50_ms=p50_ms,
        p99_ms=p99_ms,
        p50_ratio=p50_ms / _percentile(alone, 50),
        p99_ratio=p99_ms / _percentile(alone, 99),
        round_p99_ratios=_round_ratios(group, alone),
        server_p99_ms=server_p99_ms,
        server_p99_ratio=server_p99_ms / _percentile(alone, 99, "server_ms"),
        bulk_texts_per_s=statistics.median(bulk_texts_per_s) if bulk else 0.0,
    )


def _percentile(loads: Sequence[Load], rank: float, field: str = "latencies_ms") -> float:
    value = percentile([value for load in loads for value in getattr(load, field)], rank)
    assert value is not None  # the callers saw to it
    return value


def _round_ratios(group: Sequence[Load], alone: Sequence[Load]) -> Spread | None:
    base = {load.round: load for load in alone if load.latencies_ms}
    found = [
        _percentile([load], 99) / _percentile([base[load.round]], 99)
        for load in group
        if load.latencies_ms and load.round in base
    ]
    return spread(found) if found else None
