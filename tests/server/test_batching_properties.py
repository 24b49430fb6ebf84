"""The batching policy as properties, against a model that is a plain list."""

import math
from collections.abc import Hashable
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from unitvec_server.policy.batching import Batcher, BatchLimits, Plan
from unitvec_server.policy.items import Item

lengths = st.integers(1, 40)
flows = st.integers(0, 4)
keys = st.none() | st.integers(0, 4)


class QueueMachine(RuleBasedStateMachine):
    """Every item leaves exactly once: in a batch, expired or cancelled."""

    max_padding: float | None = 0.2

    def __init__(self) -> None:
        super().__init__()
        self.limits = BatchLimits(max_batch_tokens=64, max_padding=self.max_padding)
        self.queue = Batcher(self.limits)
        self.waiting: list[Item] = []
        self.gone: list[Item] = []
        self.now_s = 0.0

    @rule(
        flow=flows,
        texts=st.lists(st.tuples(lengths, keys), min_size=1, max_size=20),
        lives_s=st.none() | lengths,
    )
    def add(self, flow: int, texts: list[tuple[int, int | None]], lives_s: int | None) -> None:
        deadline_s = math.inf if lives_s is None else self.now_s + lives_s
        items = [
            # Equal texts are of equal length.
            Item(length if key is None else 10 + key, flow, deadline_s, key=key)
            for length, key in texts
        ]
        self.queue.add(items)
        self.waiting += items

    @rule(seconds=st.integers(1, 20))
    def wait(self, seconds: int) -> None:
        self.now_s += seconds

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        wanted = data.draw(st.lists(st.sampled_from(self.waiting + self.gone), unique_by=id))
        cancelled = self.queue.cancel(wanted)
        assert ids(cancelled) == ids(item for item in wanted if item in self.waiting)
        self.leave(cancelled)

    @rule(free_workers=st.integers(0, 5))
    def take(self, free_workers: int) -> None:
        plan = self.queue.next_batch(now_s=self.now_s, free_workers=free_workers)
        assert all(item.deadline_s <= self.now_s for item in plan.expired)
        joined = [equal for item in plan.batch for equal in item.joined]
        assert all(item.deadline_s > self.now_s for item in [*plan.batch, *joined])
        self.leave([*plan.batch, *joined, *plan.expired])
        self.check_equals(plan)
        if plan.batch:
            self.check_bounds(plan, free_workers)
        else:
            assert not self.waiting

    def check_equals(self, plan: Plan) -> None:
        taken = [item.key for item in plan.batch if item.key is not None]
        assert len(set(taken)) == len(taken)
        assert not any(item.key in taken for item in self.waiting)
        for item in plan.batch:
            assert all(equal.key == item.key for equal in item.joined)

    def check_bounds(self, plan: Plan, free_workers: int) -> None:
        batch = plan.batch
        longest, tokens = max(i.length for i in batch), sum(i.length for i in batch)
        if len(batch) > 1:
            max_padding = self.max_padding or 0
            size = tokens if self.max_padding is None else len(batch) * longest
            assert size <= self.limits.max_batch_tokens
            assert size - tokens <= max_padding * size
            # What turns out to have expired still counted when the work was shared out.
            others = [*self.waiting, *plan.expired, *(e for i in batch for e in i.joined)]
            everything = tokens + sum(i.length for i in others)
            share = math.ceil(everything / max(1, free_workers)) * (1 + max_padding)
            assert size <= math.ceil(share)

    def leave(self, items: list[Item]) -> None:
        for item in items:
            self.waiting.remove(item)  # ValueError: it left before, or never came
            assert not item.is_waiting
        self.gone += items

    @invariant()
    def counters_are_exact(self) -> None:
        assert self.queue.waiting_items == len(self.waiting)
        assert self.queue.waiting_tokens == sum(item.length for item in self.waiting)
        assert all(item.is_waiting for item in self.waiting)

    @invariant()
    def memory_is_bounded(self) -> None:
        bound = 2 * len(self.waiting) + 64
        for pool in (self.queue._all, self.queue._small):
            assert len(pool.by_rank) <= bound
            entries = sum(len(items) for items in pool.by_length.values())
            assert entries == pool.length_entries <= bound
        assert self.queue._small_items == sum(item.request.is_small for item in self.waiting)
        assert len(self.queue._equals) == len({i.key for i in self.waiting} - {None})
        assert len(self.queue._requests) == len({id(item.request) for item in self.waiting})
        assert set(self.queue._flow_tokens) == {item.flow for item in self.waiting}
        assert len(self.queue._far) <= bound
        assert len(self.queue._sharing._ends) <= bound
        assert len(self.queue._sharing._next_ends) <= 2 * bound + 64

    def teardown(self) -> None:
        self.wait(100)
        while self.waiting:
            self.take(1)


QueueMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestQueue = QueueMachine.TestCase


class UnpaddedQueueMachine(QueueMachine):
    """The same where batches have no padding."""

    max_padding = None


UnpaddedQueueMachine.TestCase.settings = QueueMachine.TestCase.settings
TestUnpaddedQueue = UnpaddedQueueMachine.TestCase


def ids(items: object) -> set[int]:
    """Identities: items are compared by themselves."""
    return {id(item) for item in items}  # type: ignore[attr-defined]


# Longer than the batch that follows: small requests have an order of their own.
long_texts = st.lists(st.integers(2, 40), min_size=1, max_size=5)
arrivals = st.lists(st.tuples(flows, long_texts), max_size=30)


@settings(deadline=None)
@given(arrivals, st.integers(0, 30))
def test_seed_is_the_fair_one(rounds: list[tuple[int, list[int]]], takes: int) -> None:
    """With one text a batch the order is that of fair sharing, as written on paper."""
    queue, oracle = Batcher(BatchLimits(max_batch_tokens=1)), PaperQueue()
    for index, (flow, texts) in enumerate(rounds):
        items = [Item(length, flow) for length in texts]
        queue.add(items)
        oracle.add(items)
        if index % 2 and takes:
            takes -= 1
            assert queue.next_batch(now_s=0, free_workers=1).batch == [oracle.take()]
    while queue.waiting_items:
        assert queue.next_batch(now_s=0, free_workers=1).batch == [oracle.take()]


class PaperQueue:
    """Fair sharing by linear search, in exact numbers, and requests in the order of their ranks."""

    def __init__(self) -> None:
        self.entries: list[tuple[Fraction, Item]] = []
        self.time = Fraction(0)
        self.ends: dict[Hashable, Fraction] = {}

    def add(self, items: list[Item]) -> None:
        """Starts at the virtual time, or where the flow's work ends."""
        flow, tokens = items[0].flow, sum(item.length for item in items)
        start = max(self.time, self.ends.get(flow, self.time))
        self.ends[flow] = start + tokens
        self.entries += [(start + tokens - items[-1].length, item) for item in items]

    def take(self) -> Item:
        """The lowest rank; `min` keeps the first of equals."""
        entry = min(self.entries, key=lambda entry: entry[0])
        self.entries.remove(entry)
        self.share(Fraction(entry[1].length))
        if not self.entries:
            self.ends.clear()
        return entry[1]

    def share(self, tokens: Fraction) -> None:
        """Gives all flows with work the same number of tokens."""
        while tokens and (busy := [end for end in self.ends.values() if end > self.time]):
            step = min(tokens / len(busy), min(busy) - self.time)
            self.time += step
            tokens -= step * len(busy)


@settings(deadline=None)
@given(st.lists(st.tuples(lengths, flows), min_size=1, max_size=100), st.data())
def test_no_item_is_passed_for_ever(texts: list[tuple[int, int]], data: st.DataObject) -> None:
    """Whatever comes later, each item leaves after a number of batches known when it comes."""
    queue = Batcher(BatchLimits(max_batch_tokens=40))
    items = [Item(length, flow) for length, flow in texts]
    by_flow: dict[object, list[Item]] = {}
    for item in items:
        by_flow.setdefault(item.flow, []).append(item)
    for request in by_flow.values():
        queue.add(request)
    # A newcomer is a flow more until it would be done by fair sharing. What waits grows by 39
    # tokens a batch at most, so that all get some part of each batch.
    most_batches = 40 * sum(item.length for item in items)
    for _ in range(most_batches):
        if not any(item.is_waiting for item in items):
            return
        newcomer = Item(data.draw(lengths), flow=object())
        queue.add([newcomer])
        queue.next_batch(now_s=0, free_workers=1)
    assert not any(item.is_waiting for item in items)
