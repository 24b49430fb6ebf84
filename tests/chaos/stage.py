"""What a scenario is given, and what it hands back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.expected import Known
from tests.chaos.replica import Launch, Weight
from tests.chaos.tally import Tally

SPARE_DESCRIPTORS = 8
"""More than before that are no leak: gRPC opens some of its own when it first needs them."""


@dataclass(frozen=True)
class Scale:
    """How much of it.

    Attributes:
        answers: Right answers that are waited for before and after each fault.
        callers: Callers at a time.
        connections: Of the scenario that opens many.
        overload_s: Seconds of each overload.
        flood_requests: Requests that a client sends without reading.
        stall_s: Seconds that a frozen server stays so.
        reloads: Times that a model is replaced.
    """

    answers: int
    callers: int
    connections: int
    overload_s: float
    flood_requests: int
    stall_s: float
    reloads: int


SHORT = Scale(40, 6, connections=200, overload_s=1.0, flood_requests=2_000, stall_s=1.0, reloads=4)
LONG = Scale(
    400, 16, connections=1_000, overload_s=20.0, flood_requests=20_000, stall_s=10.0, reloads=20
)


@dataclass(frozen=True)
class Stage:
    """Where scenarios play.

    Attributes:
        launch: How a server is started.
        known: What it must answer.
        scale: How much is asked of it.
        seed: Of all choices.
        note: Told how it goes, a line at a time.
    """

    launch: Launch
    known: Known
    scale: Scale = SHORT
    seed: int = 0
    note: Callable[[str], None] = lambda _: None

    @property
    def small(self) -> Launch:
        """A server of one worker that starts fast: several of them share the machine."""
        return self.launch.with_args("--workers", "1", "--max-batch-tokens", "256")


@dataclass
class Outcome:
    """One row of the table.

    Attributes:
        name: Of the scenario.
        tally: What became of its requests.
        recovery_s: From the fault until the server that suffered it answers right again.
        figures: Anything else that was measured; names end in units.
        broken: Promises about counts that were not kept.
        missed: Promises about speed that were not kept.
        skipped: Why it was not played.
    """

    name: str
    tally: Tally = field(default_factory=Tally)
    recovery_s: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    skipped: str = ""

    def check(self, *, kept: bool, promise: str) -> None:
        """Notes a promise about counts that was not kept."""
        if not kept:
            self.broken.append(promise)

    @property
    def sound(self) -> bool:
        """Nothing lost, wrong or unanswered, and no promise about counts broken."""
        tally = self.tally
        return not (tally.wrong or tally.lost or tally.unaccounted or self.broken)

    def weigh(self, before: Weight, after: Weight) -> None:
        """Notes what a server holds more than before; descriptors may not grow."""
        self.figures["rss_growth_mib"] = (after.rss_bytes - before.rss_bytes) / 2**20
        self.figures["descriptors_growth"] = after.descriptors - before.descriptors
        self.check(
            kept=after.descriptors <= before.descriptors + SPARE_DESCRIPTORS,
            promise=f"descriptors grew from {before.descriptors} to {after.descriptors}",
        )

    def as_json(self) -> dict[str, Any]:
        """Plain data of it."""
        tally = self.tally
        return {
            "name": self.name,
            **{key: getattr(tally, key) for key in ("sent", "right", "wrong")},
            "refused": dict(tally.refused),
            "lost": dict(tally.lost),
            "p50_s": tally.quantile_s(0.5),
            "p99_s": tally.quantile_s(0.99),
            "slowest_s": tally.quantile_s(1.0),
            "recovery_s": self.recovery_s,
            "figures": self.figures,
            "examples": tally.examples,
            "broken": self.broken,
            "missed": self.missed,
            "skipped": self.skipped,
        }


def weight_as_json(weight: Weight) -> dict[str, int]:
    """Plain data of it."""
    return dataclasses.asdict(weight)
