"""When requests are due and which of them count: pure policy, no clock and no asyncio.

Times are offsets in nanoseconds from the start of a run. An open loop follows a `Pacer`,
whatever the server does; a closed loop asks the `Window` alone, whenever an answer arrives.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

NS_PER_S = 1_000_000_000


class Pacer(Protocol):
    """Says when the requests of an open loop are due."""

    @property
    def rate_per_s(self) -> float:
        """Mean rate in requests per second."""

    def due_ns(self) -> Iterator[int]:
        """Yields, without end and in ascending order, when each request is due."""


@dataclass(frozen=True)
class ConstantPacer:
    """Requests at equal distances: the i-th is due at i / rate."""

    rate_per_s: float

    def due_ns(self) -> Iterator[int]:
        """Yields the due times, each computed from its index, so that no error adds up."""
        index = 0
        while True:
            yield round(index * NS_PER_S / self.rate_per_s)
            index += 1


@dataclass(frozen=True)
class PoissonPacer:
    """Requests as independent callers send them: gaps are exponential with mean 1 / rate.

    The same seed gives the same due times.
    """

    rate_per_s: float
    seed: int = 0

    def due_ns(self) -> Iterator[int]:
        """Yields the due times; the first is due one gap after the start."""
        # A simulation needs a seed, not secrecy.
        gaps_s = random.Random(self.seed)  # noqa: S311
        due_s = 0.0
        while True:
            due_s += gaps_s.expovariate(self.rate_per_s)
            yield round(due_s * NS_PER_S)


class Phase(Enum):
    """What becomes of a request that is due at some moment."""

    WARMUP = "warmup"
    """It is sent, and left out of the statistics."""
    MEASURE = "measure"
    """It is sent and counts."""
    STOP = "stop"
    """It is not sent: the run is over."""


@dataclass(frozen=True)
class Window:
    """Which requests are sent and which of them count.

    First come `warmup_ns`, then either `duration_ns` or `count` requests are measured;
    exactly one of the two is set.
    """

    warmup_ns: int
    duration_ns: int | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        """Checks that the window ends in one way.

        Raises:
            ValueError: Neither or both of `duration_ns` and `count` are set.
        """
        if (self.duration_ns is None) == (self.count is None):
            raise ValueError("a window is bounded by a duration or by a count: give one")

    @property
    def end_ns(self) -> int | None:
        """When measuring ends; None if a count ends it."""
        return None if self.duration_ns is None else self.warmup_ns + self.duration_ns

    def phase(self, due_ns: int, *, measured: int) -> Phase:
        """Says what becomes of a request due at `due_ns`, after `measured` that count."""
        if due_ns < self.warmup_ns:
            return Phase.WARMUP
        if self.count is not None:
            return Phase.MEASURE if measured < self.count else Phase.STOP
        assert self.end_ns is not None  # the constructor saw to it
        return Phase.MEASURE if due_ns < self.end_ns else Phase.STOP


class Ticket(NamedTuple):
    """One request to be sent."""

    number: int
    """Number of the request in its run, from 0."""
    due_ns: int
    """When it is due."""
    measured: bool
    """It counts; a warm-up request does not."""


def issue_tickets(pacer: Pacer, window: Window) -> Iterator[Ticket]:
    """Yields the requests of an open loop, in the order in which they are due."""
    measured = 0
    for number, due_ns in enumerate(pacer.due_ns()):
        phase = window.phase(due_ns, measured=measured)
        if phase is Phase.STOP:
            return
        counts = phase is Phase.MEASURE
        measured += counts
        yield Ticket(number, due_ns, counts)
