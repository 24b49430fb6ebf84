"""Overload on a virtual clock: the real policy and admission, before workers of a fixed speed."""

from __future__ import annotations

import heapq
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from tests.server.encoders import Sums
from unitvec_server.engine.model_queue import Lane
from unitvec_server.errors import RequestError
from unitvec_server.policy.batching import BatchLimits, BatchQueue
from unitvec_server.policy.items import Item

TOKENS_PER_S = 8000.0
WORKERS = 2
WARM_UP_S, MEASURED_S = 3.0, 10.0


@dataclass
class Call:
    """A request: `left` of its texts are to come."""

    born_s: float
    deadline_s: float
    items: list[Item]
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.items)


class Machine:
    """Workers that run padded batches at a fixed speed, and a lane before them."""

    def __init__(self, seed: int) -> None:
        self.choice = random.Random(seed)
        self.lane = Lane(0, Sums(), BatchQueue(BatchLimits(256)), WORKERS)
        self.now_s = 0.0
        self.free_at_s = [0.0] * WORKERS
        self.calls: dict[int, Call] = {}  # by the identity of their items
        self.done: list[tuple[Call, float]] = []

    def submit(
        self, texts: int, *, lives_s: float = math.inf, stream: object = None
    ) -> Call | None:
        """A call arrives, or a message of a stream: it waits, or None if it is refused."""
        flow, deadline_s = stream or object(), self.now_s + lives_s
        lengths = [max(4, int(self.choice.gauss(20, 6))) for _ in range(texts)]
        items = [Item(length, flow, deadline_s) for length in lengths]
        try:
            self.lane.check_turn(lengths, flow=flow, remaining_s=lives_s)
        except RequestError:
            return None
        call = Call(self.now_s, deadline_s, items)
        self.calls |= {id(item): call for item in items}
        self.lane.queue.add(items)
        return call

    def work_until(self, time_s: float) -> None:
        """Runs what waits."""
        while self.lane.queue.waiting_items and self.free_at_s[0] < time_s:
            self.now_s = max(self.now_s, self.free_at_s[0])
            plan = self.lane.queue.next_batch(
                now_s=self.now_s,
                free_workers=sum(at_s <= self.now_s for at_s in self.free_at_s),
                speed=self.lane.speed,
            )
            for item in plan.expired:
                self.lane.queue.cancel(self.calls[id(item)].items)
            if plan.batch:
                self._run(plan.batch)
        self.now_s = max(self.now_s, time_s)

    def _run(self, batch: list[Item]) -> None:
        padded_tokens = len(batch) * max(item.length for item in batch)
        busy_s = padded_tokens * WORKERS / TOKENS_PER_S
        heapq.heapreplace(self.free_at_s, self.now_s + busy_s)
        tokens = sum(item.length for item in batch)
        self.lane.record(tokens=tokens, busy_s=busy_s)
        for item in batch:
            call = self.calls[id(item)]
            call.left -= 1
            if not call.left:
                self.done.append((call, self.now_s + busy_s))


def overload(*, sizes: Sequence[int], lives_s: float, factor: float) -> Machine:
    """Calls of texts of these numbers, at random times, at a multiple of what is possible."""
    machine = Machine(seed=sum(sizes))
    calls_per_s = factor * TOKENS_PER_S / (20 * statistics.mean(sizes))
    arrival_s = 0.0
    while arrival_s < WARM_UP_S + MEASURED_S:
        machine.work_until(arrival_s)
        machine.submit(machine.choice.choice(sizes), lives_s=lives_s)
        arrival_s += machine.choice.expovariate(calls_per_s)
    return machine


def goodput(*, sizes: Sequence[int], lives_s: float, factor: float) -> float:
    """Tokens a second of calls that were answered in time, as a part of what is possible."""
    machine = overload(sizes=sizes, lives_s=lives_s, factor=factor)
    in_time = (
        sum(item.length for item in call.items)
        for call, end_s in machine.done
        if end_s <= call.deadline_s and WARM_UP_S <= end_s < WARM_UP_S + MEASURED_S
    )
    return sum(in_time) / (MEASURED_S * TOKENS_PER_S)


@pytest.mark.parametrize("factor", [2, 5])
@pytest.mark.parametrize("texts", [1, 4, 16, 64])
def test_goodput_lasts_under_overload(texts: int, factor: float) -> None:
    """Work that is not finished by its deadline is not begun.

    Next to none of it was in time when all calls shared the machine text by text.
    """
    peak = goodput(sizes=[texts], lives_s=math.inf, factor=2)
    assert goodput(sizes=[texts], lives_s=2.0, factor=factor) >= 0.9 * peak


@pytest.mark.parametrize("factor", [2, 5])
def test_what_is_accepted_is_answered_in_time(factor: float) -> None:
    """Large calls too, which smaller ones that come later overtake."""
    sizes = [1, 2, 4, 8, 16, 32]
    assert goodput(sizes=sizes, lives_s=2.0, factor=factor) >= 0.85
    machine = overload(sizes=sizes, lives_s=2.0, factor=factor)
    accepted = {id(call) for call in machine.calls.values() if call.born_s < MEASURED_S}
    in_time = {id(call) for call, end_s in machine.done if end_s <= call.deadline_s}
    assert len(in_time & accepted) >= 0.95 * len(accepted)


def test_callers_that_wait_for_their_answers_are_not_refused() -> None:
    """64 of them: the larger calls are overtaken, but not for longer than all share the machine."""
    machine = Machine(seed=0)
    longest_s, answered = 0.0, 0
    for _ in range(64):
        assert machine.submit(machine.choice.randint(1, 8))
    while machine.now_s < MEASURED_S:
        machine.work_until(machine.now_s + 0.01)
        for call, end_s in machine.done[answered:]:
            longest_s = max(longest_s, end_s - call.born_s)
            assert machine.submit(machine.choice.randint(1, 8), lives_s=5.0)
            answered += 1
    assert longest_s < 4


@pytest.mark.parametrize("stream", [None, "stream"])
def test_lone_texts_beside_bulk(stream: object) -> None:
    """Bulk calls or messages fill the machine; each lone text is soon answered."""
    machine = Machine(seed=0)
    for number in range(200):
        while machine.lane.queue.waiting_items < 3 * 256:
            machine.submit(256, stream=stream)
        machine.work_until(0.1 * (number + 1))
        machine.submit(1)
    machine.work_until(60)
    waits_s = sorted(end_s - call.born_s for call, end_s in machine.done if len(call.items) == 1)
    assert len(waits_s) == 200
    # It waits for the first of two runs in progress, which are half as large while lone texts keep
    # coming, and is part of the next one.
    run_s = 256 * WORKERS / TOKENS_PER_S
    assert waits_s[100] <= 0.3 * run_s
    assert waits_s[197] <= 0.6 * run_s
