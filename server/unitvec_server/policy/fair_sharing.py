"""Fair sharing: how far each flow would be if all flows were served side by side.

This is the ideal of processor sharing, which a real machine can only follow: every flow that has
work gets the same number of tokens in the same time. Its clock, the virtual time, counts the tokens
that each flow with work has had since the start. The batcher ranks requests by it, and so gives
short work its due without ever holding the machine to it text by text (Friedman and Henderson,
"Fairness and efficiency in web server protocols", SIGMETRICS 2003).
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Hashable


class FairSharing:
    """A model of the machine in which all flows that have work share it.

    The model does as much work as the real machine, in another order. What it has not done yet may
    therefore be done in truth, and the other way round.
    """

    def __init__(self) -> None:
        self._order = itertools.count()
        self.clear()

    def clear(self) -> None:
        """Begins anew, without any work."""
        self._time = 0.0
        self._ends: dict[Hashable, float] = {}  # virtual time at which each flow's work is done
        self._next_ends: list[tuple[float, int, Hashable]] = []  # a heap, with outdated entries

    def start_of(self, flow: Hashable) -> float:
        """Virtual time at which more work of a flow would begin."""
        return self._ends.get(flow, self._time)

    def work_until_end_of(self, flow: Hashable, tokens: int) -> float:
        """Tokens of all flows until so many more of one are done, if as many flows join as end."""
        flows = len(self._ends) + (flow not in self._ends)
        return (self.start_of(flow) + tokens - self._time) * flows

    def begin(self, flow: Hashable, tokens: int) -> float:
        """Adds work to a flow and returns the virtual time at which it begins."""
        start = self._ends.get(flow, self._time)
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
        """Drops flows that wait no more once there are many: dropped work leaves them behind."""
        if len(self._ends) > 2 * len(waiting) + 64:
            self._ends = {flow: end for flow, end in self._ends.items() if flow in waiting}
        if len(self._next_ends) > 2 * len(self._ends) + 64:
            live = self._ends.items()
            self._next_ends = [(end, next(self._order), flow) for flow, end in live]
            heapq.heapify(self._next_ends)
