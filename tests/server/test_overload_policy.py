"""Overload on a virtual clock: the real policy and admission, before workers of a fixed speed."""

from __future__ import annotations

import heapq
import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from tests.server.encoders import Sums
from unitvec_server.engine.model_queue import ModelQueue
from unitvec_server.errors import RequestError
from unitvec_server.policy.batching import BatchLimits
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


def steady(_: float) -> float:
    """Speed in tokens a second, whatever the time."""
    return TOKENS_PER_S


def drifting(now_s: float) -> float:
    """The same, but half of it in the second half of each second: 0.75 of it on average."""
    return TOKENS_PER_S * (1.0 if now_s % 1.0 < 0.5 else 0.5)


class Machine:
    """Workers, and the queue of a model before them.

    Args:
        seed: Of the lengths of texts.
        tokens_per_s: Speed of all workers at a time in seconds.
        pads: Whether batches are padded to their longest text.
    """

    def __init__(
        self, seed: int, tokens_per_s: Callable[[float], float] = steady, *, pads: bool = True
    ) -> None:
        self.choice = random.Random(seed)
        self.tokens_per_s = tokens_per_s
        self.pads = pads
        limits = BatchLimits(256) if pads else BatchLimits(256, max_padding=None)
        self.queue = ModelQueue(0, Sums(), limits, WORKERS)
        self.batcher = self.queue.batcher
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
            deadlines = self.queue.deadlines
            deadlines.check(lengths, flow=flow, left_s=lives_s, queue=self.batcher)
        except RequestError:
            return None
        call = Call(self.now_s, deadline_s, items)
        self.calls |= {id(item): call for item in items}
        self.batcher.add(items)
        return call

    def work_until(self, time_s: float) -> None:
        """Runs what waits."""
        while self.batcher.waiting_items and self.free_at_s[0] < time_s:
            self.now_s = max(self.now_s, self.free_at_s[0])
            plan = self.batcher.next_batch(
                now_s=self.now_s,
                free_workers=sum(at_s <= self.now_s for at_s in self.free_at_s),
            )
            for item in plan.expired:
                self.batcher.cancel(self.calls[id(item)].items)
            if plan.batch:
                self._run(plan.batch)
        self.now_s = max(self.now_s, time_s)

    def _run(self, batch: list[Item]) -> None:
        tokens = sum(item.length for item in batch)
        run_tokens = len(batch) * max(item.length for item in batch) if self.pads else tokens
        busy_s = run_tokens * WORKERS / self.tokens_per_s(self.now_s)
        heapq.heapreplace(self.free_at_s, self.now_s + busy_s)
        self.queue.record(tokens=tokens, busy_s=busy_s)
        for item in batch:
            call = self.calls[id(item)]
            call.left -= 1
            if not call.left:
                self.done.append((call, self.now_s + busy_s))


def overload(
    *, sizes: Sequence[int], lives_s: float, factor: float, machine: Machine | None = None
) -> Machine:
    """Calls of texts of these numbers, at random times, at a multiple of what is possible."""
    machine = machine or Machine(seed=sum(sizes))
    calls_per_s = factor * TOKENS_PER_S / (20 * statistics.mean(sizes))
    arrival_s = 0.0
    while arrival_s < WARM_UP_S + MEASURED_S:
        machine.work_until(arrival_s)
        machine.submit(machine.choice.choice(sizes), lives_s=lives_s)
        arrival_s += machine.choice.expovariate(calls_per_s)
    return machine


def goodput(*, sizes: Sequence[int], lives_s: float, factor: float) -> float:
    """Tokens a second of calls that were answered in time, as a part of what is possible."""
    return in_time(overload(sizes=sizes, lives_s=lives_s, factor=factor))


def in_time(machine: Machine) -> float:
    """The same for a machine that has run."""
    tokens = (
        sum(item.length for item in call.items)
        for call, end_s in machine.done
        if end_s <= call.deadline_s and WARM_UP_S <= end_s < WARM_UP_S + MEASURED_S
    )
    return sum(tokens) / (MEASURED_S * TOKENS_PER_S)


def late(machine: Machine) -> float:
    """Part of the accepted calls that were not answered in time."""
    accepted = {id(call) for call in machine.calls.values() if call.born_s < MEASURED_S}
    answered = {id(call) for call, end_s in machine.done if end_s <= call.deadline_s}
    return 1 - len(answered & accepted) / len(accepted)


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
    assert late(machine) <= 0.05


@pytest.mark.parametrize(
    ("texts", "factor", "least_goodput", "most_late"), [(64, 5, 0.88, 0.1), (16, 2, 0.88, 0.06)]
)
def test_a_machine_that_drifts_finishes_what_it_begins(
    texts: int, factor: float, least_goodput: float, most_late: float
) -> None:
    """Its speed drops by half and comes back within each second; no average can know.

    A batch that is chosen from all that waits, and not from the near work only, is fuller. But it
    begins many calls long before they can be finished, and at their deadlines they are half done:
    16 % of the large calls and 9 % of the others are late, and goodput of the large ones is 0.82.
    """
    machines = [
        overload(sizes=[texts], lives_s=2.0, factor=factor, machine=Machine(seed, drifting))
        for seed in range(5)
    ]
    assert statistics.mean(map(in_time, machines)) >= least_goodput * 0.75
    assert statistics.mean(map(late, machines)) <= most_late


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


@pytest.mark.parametrize("factor", [2, 5])
@pytest.mark.parametrize("sizes", [[1], [16], [64], [1, 2, 4, 8, 16, 32]])
def test_without_padding_nothing_is_lost(sizes: list[int], factor: float) -> None:
    """Batches in the order of ranks are full, and requests are done one after the other."""
    machine = Machine(seed=0, pads=False)
    overload(sizes=sizes, lives_s=2.0, factor=factor, machine=machine)
    assert in_time(machine) >= 0.97
    assert late(machine) <= 0.02


@pytest.mark.parametrize("pads", [True, False])
@pytest.mark.parametrize("stream", [None, "stream"])
def test_lone_texts_beside_bulk(stream: object, pads: bool) -> None:
    """Bulk calls or messages fill the machine; each lone text is soon answered."""
    machine = Machine(seed=0, pads=pads)
    for number in range(200):
        while machine.batcher.waiting_items < 3 * 256:
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
