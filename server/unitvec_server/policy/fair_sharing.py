"""Fair sharing, the ideal that real machines can only follow: who would be how far by now.

All flows that have work are served at the same time, each at the same number of tokens a second.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Hashable

_MOST = 0.8
"""Part of the machine that others may be thought to take: it is a guess about the future."""


class FairSharing:
    """The machine as if all flows that have work shared it.

    It does as much as the real one, in another order: what it has not done may be done in truth.
    """

    def __init__(self) -> None:
        self._time = 0.0  # tokens that each flow with work has had since the start
        self._ends: dict[Hashable, float] = {}
        self._next_ends: list[tuple[float, int, Hashable]] = []
        self._order = itertools.count()

    def start_of(self, flow: Hashable) -> float:
        """When more work of a flow would begin."""
        return self._ends.get(flow, self._time)

    def work_until_end_of(self, flow: Hashable, tokens: int) -> float:
        """Work of all until so much more of one flow is done, if no more flows join than end."""
        flows = len(self._ends) + (flow not in self._ends)
        return (self.start_of(flow) + tokens - self._time) * flows

    def begin(self, flow: Hashable, tokens: int) -> float:
        """Adds work to a flow and returns when it begins."""
        start = self.start_of(flow)
        self._ends[flow] = start + tokens
        heapq.heappush(self._next_ends, (start + tokens, next(self._order), flow))
        return start

    def advance(self, tokens: float) -> None:
        """Does so much work."""
        while self._ends and tokens > 0:
            end, _, flow = self._next_ends[0]
            if self._ends.get(flow) != end:
                heapq.heappop(self._next_ends)
                continue
            flows = len(self._ends)
            if tokens < (end - self._time) * flows:
                self._time += tokens / flows
                return
            tokens -= (end - self._time) * flows
            self._time = end
            del self._ends[flow]

    def drop(self, flow: Hashable, tokens: int) -> None:
        """Takes work from a flow that need not be done."""
        if flow not in self._ends:
            return
        end = self._ends[flow] - tokens
        if end <= self._time:
            del self._ends[flow]
        else:
            self._ends[flow] = end
            heapq.heappush(self._next_ends, (end, next(self._order), flow))

    def forget_ghosts(self, waiting: Collection[Hashable]) -> None:
        """Drops flows that wait no more where they are many: dropped work leaves them behind."""
        if len(self._ends) > 2 * len(waiting) + 64:
            self._ends = {flow: end for flow, end in self._ends.items() if flow in waiting}
        if len(self._next_ends) > 2 * len(self._ends) + 64:
            live = self._ends.items()
            self._next_ends = [(end, next(self._order), flow) for flow, end in live]
            heapq.heapify(self._next_ends)


class Overtaking:
    """How much of the machine goes to requests that come later, are smaller, and so are done first.

    Measured by work, not by a clock: what came for each token that was run meanwhile.

    Args:
        half_life_tokens: After so much work, what came before it counts half.
        known_tokens: With so much work in which nothing came it begins, lest a few decide.
    """

    def __init__(self, half_life_tokens: float, *, known_tokens: float) -> None:
        self._half_life_tokens = half_life_tokens
        self._worked_tokens = known_tokens
        self._came_tokens: dict[int, float] = {}  # by the power of two of the request's tokens

    def come(self, tokens: int) -> None:
        """Notes a request of so many tokens."""
        size = tokens.bit_length()
        self._came_tokens[size] = self._came_tokens.get(size, 0.0) + tokens

    def work(self, tokens: int) -> None:
        """Notes work that was done, and forgets by it."""
        kept = 0.5 ** (tokens / self._half_life_tokens)
        self._worked_tokens = kept * self._worked_tokens + tokens
        for size in self._came_tokens:
            self._came_tokens[size] *= kept

    def part(self, tokens: int) -> float:
        """Part of the machine that will be left to others by a request of so many tokens."""
        size = tokens.bit_length()
        came_tokens = sum(came for other, came in self._came_tokens.items() if other < size)
        return min(_MOST, came_tokens / self._worked_tokens)
