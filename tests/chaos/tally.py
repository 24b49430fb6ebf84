"""What became of every request: right, wrong, refused or lost."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field

import grpc

from unitvec_client import UnitvecError

HANG_S = 180.0
"""A request without any outcome for so long is lost: longer than any deadline given here."""


@dataclass
class Tally:
    """Counts. `sent` is the sum of all others once nothing is in flight.

    Attributes:
        tolerated: Reasons, or codes where an error has none, that count as refused; every
            other error is a lost request.
        sent: Requests begun.
        right: Answered, each vector as expected.
        wrong: Answered, and not as expected.
        refused: By reason.
        lost: By reason.
        examples: The first error of each reason among the lost, in full.
        latencies_s: Of right answers, retries included.
    """

    tolerated: frozenset[str] = frozenset()
    sent: int = 0
    right: int = 0
    wrong: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    latencies_s: list[float] = field(default_factory=list)
    _waiters: list[tuple[int, asyncio.Event]] = field(default_factory=list)

    async def judge(self, request: Awaitable[bool]) -> None:
        """Awaits a request that says whether its answer was right, and counts it."""
        self.sent += 1
        started_s = time.monotonic()
        try:
            async with asyncio.timeout(HANG_S):
                right = await request
        except TimeoutError as exc:
            self._fail(_reason(exc) if isinstance(exc, UnitvecError) else "NO_ANSWER", exc)
        except UnitvecError as exc:
            self._fail(_reason(exc), exc)
        except grpc.aio.AioRpcError as exc:
            self._fail(exc.code().name, exc)
        else:
            if right:
                self._succeed(time.monotonic() - started_s)
            else:
                self.wrong += 1
                self._wake()

    def _fail(self, reason: str, error: Exception) -> None:
        (self.refused if reason in self.tolerated else self.lost)[reason] += 1
        if reason not in self.tolerated:
            self.examples.setdefault(reason, f"{error!r} from {error.__cause__!r}")
        self._wake()

    def _succeed(self, latency_s: float) -> None:
        self.right += 1
        self.latencies_s.append(latency_s)
        self._wake()

    def _wake(self) -> None:
        for answered, event in self._waiters:
            if self._answered >= answered:
                event.set()

    @property
    def _answered(self) -> int:
        """Losses count here as well: a scenario in which all is lost must end too."""
        return self.right + self.wrong + self.lost.total()

    async def more(self, count: int) -> None:
        """Waits until this many more requests were answered."""
        waiter = (self._answered + count, asyncio.Event())
        self._waiters.append(waiter)
        try:
            await waiter[1].wait()
        finally:
            self._waiters.remove(waiter)

    @property
    def unaccounted(self) -> int:
        """Requests without an outcome; 0 once nothing is in flight."""
        return self.sent - self.right - self.wrong - self.refused.total() - self.lost.total()

    def quantile_s(self, share: float) -> float:
        """Latency that this share of the right answers kept, in seconds; 0 without any."""
        return quantile(self.latencies_s, share)


def quantile(values: Iterable[float], share: float) -> float:
    """The smallest value that this share of the values does not exceed; 0 without any."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _reason(error: UnitvecError) -> str:
    return error.reason or (error.code.name if error.code else type(error).__name__)
