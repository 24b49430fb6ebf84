"""Overload on a virtual clock: the real policy and admission, before workers of a fixed speed."""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field

import pytest

from tests.server.encoders import Sums
from unitvec_server.batching import BatchLimits, BatchQueue, Item
from unitvec_server.errors import RequestError
from unitvec_server.lanes import Lane

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
        self.lane = Lane(0, Sums(), BatchQueue(BatchLimits(256)))
        self.now_s = 0.0
        self.free_at_s = [0.0] * WORKERS
        self.calls: dict[object, Call] = {}
        self.done: list[tuple[Call, float]] = []

    def submit(self, texts: int, *, lives_s: float = math.inf) -> None:
        """A call arrives, and is refused or waits."""
        flow, deadline_s = object(), self.now_s + lives_s
        lengths = (max(4, int(self.choice.gauss(20, 6))) for _ in range(texts))
        items = [Item(length, flow, deadline_s) for length in lengths]
        try:
            self.lane.check_deadline(items, remaining_s=lives_s)
        except RequestError:
            return
        self.calls[flow] = Call(self.now_s, deadline_s, items)
        self.lane.queue.add(items)

    def work_until(self, time_s: float) -> None:
        """Runs what waits."""
        while self.lane.queue.waiting_items and self.free_at_s[0] < time_s:
            self.now_s = max(self.now_s, self.free_at_s[0])
            plan = self.lane.queue.next_batch(
                now_s=self.now_s,
                free_workers=sum(at_s <= self.now_s for at_s in self.free_at_s),
                run_s=self.lane.run_s,
                tokens_per_s=self.lane.throughput.best_tokens_per_s,
            )
            for item in plan.expired:
                if call := self.calls.pop(item.flow, None):
                    self.lane.queue.cancel(call.items)
            if plan.batch:
                self._run(plan.batch)
        self.now_s = max(self.now_s, time_s)

    def _run(self, batch: list[Item]) -> None:
        padded_tokens = len(batch) * max(item.length for item in batch)
        busy_s = padded_tokens * WORKERS / TOKENS_PER_S
        heapq.heapreplace(self.free_at_s, self.now_s + busy_s)
        tokens = sum(item.length for item in batch)
        self.lane.record(tokens=tokens, busy_s=busy_s, workers=WORKERS)
        for item in batch:
            if call := self.calls.get(item.flow):
                call.left -= 1
                if not call.left:
                    del self.calls[item.flow]
                    self.done.append((call, self.now_s + busy_s))


def goodput(*, texts: int, lives_s: float, factor: float) -> float:
    """Tokens a second of calls that were answered in time, as a part of what is possible."""
    machine = Machine(seed=texts)
    calls_per_s = factor * TOKENS_PER_S / (20 * texts)
    arrival_s = 0.0
    while arrival_s < WARM_UP_S + MEASURED_S:
        machine.work_until(arrival_s)
        machine.submit(texts, lives_s=lives_s)
        arrival_s += machine.choice.expovariate(calls_per_s)
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
    peak = goodput(texts=texts, lives_s=math.inf, factor=2)
    # Order costs some padding: batches of the peak are chosen from all that waits.
    assert goodput(texts=texts, lives_s=2.0, factor=factor) >= 0.85 * peak


def test_lone_texts_beside_bulk_calls() -> None:
    """Four callers of 256 texts at a time fill the machine; each lone text is soon answered."""
    machine = Machine(seed=0)
    for _ in range(4):
        machine.submit(256)
    for number in range(200):
        machine.work_until(0.1 + 0.1 * number)
        machine.submit(1)
        bulk = sum(len(call.items) > 1 for call in machine.calls.values())
        for _ in range(4 - bulk):
            machine.submit(256)
    lone = sorted(end_s - call.born_s for call, end_s in machine.done if len(call.items) == 1)
    run_s = 256 * WORKERS / TOKENS_PER_S
    # It waits for a run in progress and is part of the next one.
    assert lone[int(0.99 * len(lone))] <= 2 * run_s
    assert sum(len(call.items) > 1 for call, _ in machine.done) > 10
