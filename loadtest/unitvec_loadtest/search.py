"""Which rate to try next when looking for the highest one that holds: pure policy.

The rate grows by doubling until one fails (or shrinks by halving until one holds), then the
bracket between the two is bisected, and the result is confirmed by one more, longer run. If
that fails, the search goes on a step below.
"""

from dataclasses import dataclass, replace
from enum import Enum

GROWTH = 2.0
"""Factor from one rate to the next while no limit is in sight."""
PRECISION = 0.05
"""Bisection ends when the bracket is this narrow, as a fraction of its lower end.

Repeated runs on one machine differ by about as much.
"""
BACK_OFF = 0.9
"""Factor to the next rate after a confirmation has failed."""
MIN_RATE_PER_S = 0.1
"""Below this the search gives up: ten seconds for one request is no rate to speak of."""


class Stage(Enum):
    """How far a search has come."""

    GROW = "grow"
    SHRINK = "shrink"
    BISECT = "bisect"
    CONFIRM = "confirm"
    FOUND = "found"
    NONE_HOLDS = "none holds"


@dataclass(frozen=True)
class Search:
    """A search: `rate_per_s` is to be tried next or, once `done`, what was found.

    Values do not change: `after` returns the next state.
    """

    rate_per_s: float
    max_rate_per_s: float
    stage: Stage = Stage.GROW
    low_per_s: float = 0.0
    """Highest rate known to hold, 0 if none is."""
    high_per_s: float = float("inf")
    """Lowest rate known to fail."""

    @property
    def done(self) -> bool:
        """There is nothing more to try."""
        return self.stage in (Stage.FOUND, Stage.NONE_HOLDS)

    def after(self, *, held: bool) -> "Search":
        """Returns what to do now that `rate_per_s` was tried.

        Raises:
            ValueError: The search is over.
        """
        if self.done:
            raise ValueError("the search is over")
        if self.stage is Stage.CONFIRM:
            return replace(self, stage=Stage.FOUND) if held else _back_off(self)
        return _faster(self) if held else _slower(self)


def _faster(search: Search) -> Search:
    """The next state after a rate that held."""
    rate = search.rate_per_s
    search = replace(search, low_per_s=rate)
    if rate >= search.max_rate_per_s:
        return replace(search, stage=Stage.CONFIRM)
    if search.stage is Stage.GROW:
        return replace(search, rate_per_s=min(rate * GROWTH, search.max_rate_per_s))
    return _narrow(search)


def _slower(search: Search) -> Search:
    """The next state after a rate that failed."""
    search = replace(search, high_per_s=search.rate_per_s)
    if search.low_per_s:
        return _narrow(search)
    return _step_down(replace(search, stage=Stage.SHRINK), factor=1 / GROWTH)


def _narrow(search: Search) -> Search:
    """Bisects the bracket, or confirms its lower end once it is narrow enough."""
    low, high = search.low_per_s, search.high_per_s
    if high <= low * (1 + PRECISION):
        return replace(search, stage=Stage.CONFIRM, rate_per_s=low)
    return replace(search, stage=Stage.BISECT, rate_per_s=(low + high) / 2)


def _back_off(search: Search) -> Search:
    """What held for a step did not hold for longer: earlier successes are not trusted now."""
    search = replace(search, low_per_s=0.0, high_per_s=search.rate_per_s)
    return _step_down(search, factor=BACK_OFF)


def _step_down(search: Search, *, factor: float) -> Search:
    slower = search.rate_per_s * factor
    if slower < MIN_RATE_PER_S:
        return replace(search, stage=Stage.NONE_HOLDS, rate_per_s=0.0)
    return replace(search, rate_per_s=slower)
