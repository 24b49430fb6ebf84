"""The batching policy as tables: who is first, with whom, how much, who is dropped."""

import itertools
import math
import random
from collections.abc import Iterable

import pytest

from unitvec_server.policy.batching import Batcher, BatchLimits, Plan
from unitvec_server.policy.deadlines import Deadlines, RunSpeed
from unitvec_server.policy.items import Item

LIMITS = BatchLimits(max_batch_tokens=256)


def waiting(lengths: list[int], *, limits: BatchLimits = LIMITS) -> tuple[Batcher, list[Item]]:
    """A queue in which one flow waits with texts of these lengths."""
    queue = Batcher(limits)
    items = [Item(length, flow="flow") for length in lengths]
    queue.add(items)
    return queue, items


def measured(tokens_per_s: float) -> Batcher:
    """A queue whose one worker was measured at this speed."""
    speed = RunSpeed(1)
    speed.record(tokens=100, busy_s=100 / tokens_per_s)
    return Batcher(LIMITS, Deadlines(speed, LIMITS.max_batch_tokens))


def add_each(queue: Batcher, items: Iterable[Item]) -> None:
    """Each as a request of its own."""
    for item in items:
        queue.add([item])


def take(queue: Batcher, *, now_s: float = 0.0, free_workers: int = 1) -> Plan:
    """The next batch."""
    return queue.next_batch(now_s=now_s, free_workers=free_workers)


def drain(queue: Batcher, *, free_workers: int = 1) -> list[list[int]]:
    """Lengths of all batches until nothing waits."""
    batches = []
    while batch := take(queue, free_workers=free_workers).batch:
        batches.append([item.length for item in batch])
    return batches


class TestFirst:
    """Who seeds the next batch."""

    @pytest.mark.parametrize("length", [1, 20, 256])
    def test_lone_text_behind_a_large_request_is_in_the_very_next_batch(self, length: int) -> None:
        random_ = random.Random(length)
        queue = Batcher(LIMITS)
        queue.add([Item(random_.randint(5, 60), flow="bulk") for _ in range(10_000)])
        for _ in range(50):
            take(queue)
            lone = Item(length, flow=object())
            queue.add([lone])
            assert lone in take(queue).batch

    def test_lone_text_behind_a_large_request_of_its_own_length(self) -> None:
        queue, _ = waiting([16] * 10_000)
        take(queue)
        lone = Item(16, flow="lone")
        queue.add([lone])
        assert lone in take(queue).batch

    def test_lone_texts_leave_in_the_order_they_came(self) -> None:
        queue = Batcher(BatchLimits(max_batch_tokens=1))
        lengths = random.Random(0).choices(range(2, 300), k=200)
        items = [Item(length, flow=object()) for length in lengths]
        add_each(queue, items[:100])
        left = [take(queue).batch[0] for _ in range(50)]
        add_each(queue, items[100:])
        left += [take(queue).batch[0] for _ in range(150)]
        assert left == items

    @pytest.mark.parametrize("length", [200, 1000])
    def test_long_text_does_not_starve_among_new_short_ones(self, length: int) -> None:
        """Each short text is a flow of its own, and there are always more than fit."""
        queue = Batcher(LIMITS)
        add_each(queue, (Item(4, flow=object()) for _ in range(128)))
        long = Item(length, flow="long")
        queue.add([long])
        for batches in itertools.count(1):
            if long in take(queue).batch:
                break
            assert batches < 10
            add_each(queue, (Item(4, flow=object()) for _ in range(64)))

    def test_large_request_does_not_starve_among_new_short_ones(self) -> None:
        """It gets at least half of the part of one of the 129 flows that wait at any time."""
        queue = Batcher(LIMITS)
        add_each(queue, (Item(4, flow=object()) for _ in range(128)))
        bulk = [Item(30, flow="bulk") for _ in range(50)]
        queue.add(bulk)
        for batches in itertools.count(1):
            if not any(item.is_waiting for item in bulk):
                break
            # Of a batch of 256 tokens, one of 129 flows gets 2.
            assert batches < 2 * 50 * 30 / 2
            if len(take(queue).batch) > 8:
                add_each(queue, (Item(4, flow=object()) for _ in range(64)))


def test_the_worked_case() -> None:
    """As it is told above the code."""
    queue = Batcher(BatchLimits(max_batch_tokens=64))
    requests = {"A": [20] * 6, "B": [20] * 2, "C": [22]}
    items = {flow: [Item(length, flow) for length in requests[flow]] for flow in requests}
    for request in items.values():
        queue.add(request)
    assert [request[0].request.rank for request in items.values()] == [100, 20, 0]
    batches = ["CB", "BAA", "AAA", "A"]
    assert ["".join(str(item.flow) for item in take(queue).batch) for _ in batches] == batches
    assert queue.waiting_items == 0


class TestShare:
    """How flows share the workers."""

    @pytest.mark.parametrize("how", ["joined", "given up"])
    def test_work_that_was_saved_is_not_held_against_a_flow(self, how: str) -> None:
        """Else streams that go on for long would wait long for one that has just come."""
        queue = Batcher(BatchLimits(max_batch_tokens=1))
        for number in range(2_000):
            pair = [Item(10, flow=flow, key=number) for flow in ("first", "second")]
            add_each(queue, pair)
            if how == "given up":
                queue.cancel(pair[1:])
            if number >= 10:
                take(queue)
        add_each(queue, (Item(10, flow="newcomer") for _ in range(1_000)))
        flows = [take(queue).batch[0].flow for _ in range(100)]
        assert flows.count("newcomer") < 100
        assert flows[:40].count("newcomer") < 40

    @pytest.mark.parametrize(("first", "second"), [(16, 16), (10, 50), (50, 10)])
    def test_two_streams_get_the_same_number_of_tokens(self, first: int, second: int) -> None:
        """A stream is a flow of many requests."""
        queue = Batcher(LIMITS)
        add_each(queue, (Item(first, flow="first") for _ in range(2_000)))
        for _ in range(20):
            take(queue)
        add_each(queue, (Item(second, flow="second") for _ in range(2_000)))
        tokens = {"first": 0, "second": 0}
        for _ in range(40):
            for item in take(queue).batch:
                tokens[str(item.flow)] += item.length
            assert abs(tokens["first"] - tokens["second"]) <= 3 * LIMITS.max_batch_tokens

    def test_two_streams_of_mixed_lengths_get_like_numbers_of_tokens(self) -> None:
        random_ = random.Random(1)
        queue = Batcher(LIMITS)
        for flow in ("first", "second"):
            add_each(queue, (Item(random_.randint(3, 80), flow=flow) for _ in range(2_000)))
        tokens = {"first": 0, "second": 0}
        for _ in range(200):
            for item in take(queue).batch:
                tokens[str(item.flow)] += item.length
        assert 0.8 < tokens["first"] / tokens["second"] < 1.25

    def test_requests_of_like_size_are_done_one_after_the_other(self) -> None:
        """Side by side, all would be near their end before the first is done, and then late."""
        queue = measured(20)
        lengths = random.Random(3).choices(range(10, 30), k=64)
        for flow in range(20):
            queue.add([Item(length, flow=flow, deadline_s=1500) for length in lengths])
        left, done, now_s = [64] * 20, [], 0.0
        while batch := queue.next_batch(now_s=now_s, free_workers=1).batch:
            now_s += sum(item.length for item in batch) / 20
            for item in batch:
                left[int(str(item.flow))] -= 1
            done += [flow for flow in range(20) if not left[flow] and flow not in done]
            # One is being finished, and those next fill its batches: fewer where time is short.
            near = math.ceil(0.25 * (1500 - now_s) * 20 / sum(lengths))
            assert sum(0 < count < 64 for count in left) <= near + 3
        assert len(done) == 20
        assert all(abs(place - flow) <= 3 for place, flow in enumerate(done))

    def test_flow_that_comes_back_is_not_made_to_pay_for_the_past(self) -> None:
        queue = Batcher(BatchLimits(max_batch_tokens=1))
        add_each(queue, (Item(10, flow="steady") for _ in range(100)))
        add_each(queue, (Item(10, flow="visitor") for _ in range(20)))
        for _ in range(60):
            take(queue)
        queue.add([again := Item(10, flow="visitor")])
        assert again in take(queue).batch + take(queue).batch


class TestMates:
    """Who joins the seed."""

    def test_like_lengths_go_together(self) -> None:
        queue, _ = waiting([8, 100, 8, 100, 8, 100, 8, 100])
        assert sorted(map(sorted, drain(queue))) == [[8, 8, 8, 8], [100, 100], [100, 100]]

    def test_nearest_lengths_first(self) -> None:
        limits = BatchLimits(max_batch_tokens=4 * 22)
        queue, _ = waiting([20, 22, 18, 21, 20, 19], limits=limits)
        assert take(queue).batch[0].length == 20
        queue, _ = waiting([20, 22, 18, 21, 20, 19], limits=limits)
        assert sorted(item.length for item in take(queue).batch) == [19, 20, 20, 21]

    def test_padding_keeps_within_its_bound(self) -> None:
        queue, _ = waiting(list(range(1, 200)), limits=BatchLimits(2000, max_padding=0.05))
        for batch in drain(queue):
            padded = len(batch) * max(batch)
            assert padded - sum(batch) <= 0.05 * padded

    def test_without_padding_only_equals_go_together(self) -> None:
        queue, _ = waiting([5, 6, 5, 6], limits=BatchLimits(1000, max_padding=0))
        assert drain(queue) == [[5, 5], [6, 6]]

    def test_bulk_in_halves_while_tiny_requests_keep_coming(self) -> None:
        """A few seconds after the last one, batches are whole again; those of others always are."""
        queue, _ = waiting([16] * 10_000)
        assert len(take(queue).batch) == 16
        queue.add([Item(64, flow="tiny")])
        assert len(take(queue).batch) == 1
        assert len(take(queue).batch) == 8
        queue.add([Item(16, flow="small") for _ in range(16)])
        assert len(take(queue).batch) == 16
        sizes = [len(take(queue).batch) for _ in range(200)]
        assert set(sizes) == {8, 16}
        assert sizes == sorted(sizes)

    def test_text_longer_than_the_bound_runs_alone(self) -> None:
        queue, _ = waiting([500, 500, 10])
        assert [500] in (batches := drain(queue))
        assert batches.count([500]) == 2


class TestAmount:
    """How much a batch takes while workers are free."""

    @pytest.mark.parametrize("workers", [1, 2, 3, 4, 8])
    def test_small_request_is_shared_out_over_free_workers(self, workers: int) -> None:
        queue, _ = waiting([10] * 16)
        free = range(workers, 0, -1)
        sizes = [len(take(queue, free_workers=workers).batch) for workers in free]
        assert sum(sizes) == 16
        assert max(sizes) - min(sizes) <= 1

    def test_no_worker_takes_more_than_the_bound(self) -> None:
        queue, _ = waiting([16] * 1000)
        assert len(take(queue, free_workers=2).batch) == 16

    def test_more_workers_than_texts(self) -> None:
        queue, _ = waiting([10, 10])
        assert drain(queue, free_workers=64) == [[10], [10]]


class TestDropped:
    """Who leaves without running."""

    def test_expired_are_handed_back(self) -> None:
        queue = Batcher(LIMITS)
        early, exact, late = (Item(10, flow="a", deadline_s=at) for at in (1.0, 2.0, 3.0))
        add_each(queue, [early, exact, late])
        plan = take(queue, now_s=2.0)
        assert plan.batch == [late]
        assert {id(item) for item in plan.expired} == {id(early), id(exact)}
        assert (queue.waiting_items, queue.waiting_tokens) == (0, 0)

    def test_all_expired(self) -> None:
        queue = Batcher(LIMITS)
        items = [Item(10, flow="a", deadline_s=1.0) for _ in range(100)]
        queue.add(items)
        plan = take(queue, now_s=5.0)
        assert plan.batch == []
        assert len(plan.expired) == 100
        assert take(queue, now_s=5.0) == Plan([], 0, [])

    def test_what_cannot_be_finished_is_not_begun(self) -> None:
        """It would be half done at its deadline, at the cost of one that can be done."""
        queue = measured(890)
        late = [Item(10, flow="late", deadline_s=1.0) for _ in range(30)]
        timely = [Item(10, flow="timely", deadline_s=1.0) for _ in range(31)]
        queue.add(late)
        queue.add(timely)
        plan = queue.next_batch(now_s=0.5, free_workers=1)
        assert set(map(id, plan.expired)) <= set(map(id, late))
        assert plan.expired[0] is late[0]
        queue.cancel(late)  # as their request does
        assert all(item.flow == "timely" for item in plan.batch)

    def test_what_is_due_within_a_run_is_not_begun(self) -> None:
        queue = measured(50)
        add_each(queue, [Item(10, flow=object(), deadline_s=1.0 + n) for n in range(3)])
        plan = queue.next_batch(now_s=0.5, free_workers=1)
        assert [item.deadline_s for item in plan.expired] == [1.0]
        assert len(plan.batch) == 2

    def test_what_delays_nobody_may_try(self) -> None:
        queue = measured(10)
        items = [Item(10, flow="hopeful", deadline_s=1.0) for _ in range(30)]
        queue.add(items)
        plan = queue.next_batch(now_s=0.5, free_workers=1)
        assert plan.batch
        assert plan.expired == []

    def test_cancelled_vanish(self) -> None:
        queue, items = waiting([10] * 6)
        assert queue.cancel(items[:3]) == items[:3]
        assert queue.cancel(items[:3]) == []
        assert take(queue).batch == items[3:]
        assert queue.cancel(items) == []
        assert (queue.waiting_items, queue.waiting_tokens) == (0, 0)

    def test_all_cancelled(self) -> None:
        queue, items = waiting([10, 20, 30])
        queue.cancel(items)
        assert take(queue) == Plan([], 0, [])

    def test_never_expires_without_a_deadline(self) -> None:
        queue, items = waiting([10])
        assert take(queue, now_s=1e18).batch == items


class TestMemory:
    """What the queue holds on to."""

    def test_bounded_after_many_cycles_of_rare_lengths(self) -> None:
        """One long text always waits, so that the queue is never empty and never cleared."""
        random_ = random.Random(2)
        queue = Batcher(BatchLimits(max_batch_tokens=4))
        queue.add([Item(1, flow="stays") for _ in range(5)])
        for cycle in range(10_000):
            items = [Item(random_.randint(1, 10_000), flow=cycle) for _ in range(10)]
            queue.add(items)
            queue.cancel(items[:9])
            queue.add([Item(1, flow="stays")])
            while queue.waiting_items > 5:
                take(queue)
        assert queue.waiting_items == 5
        assert held(queue) <= 10 * (queue.waiting_items + 64)

    def test_nothing_is_held_once_nothing_waits(self) -> None:
        queue, items = waiting([3, 5, 900, 7] * 100)
        queue.cancel(items[::3])
        drain(queue)
        assert held(queue) == 0


def held(queue: Batcher) -> int:
    """Entries in all collections of the queue, whatever they are called."""
    pools = (queue._all, queue._small, queue._sharing)
    values = [value for owner in (queue, *pools) for value in vars(owner).values()]
    total = 0
    for value in values:
        if isinstance(value, dict):
            total += len(value) + sum(len(v) for v in value.values() if hasattr(v, "__len__"))
        elif isinstance(value, list):
            total += len(value)
    return total


class TestWorkAhead:
    """How much runs before a newcomer is done."""

    def test_lone_texts_are_all_ahead_of_a_later_one(self) -> None:
        queue = Batcher(BatchLimits(64))
        add_each(queue, [Item(length, object()) for length in (3, 5, 8)])
        assert queue.tokens_before([8], flow=object()) == 16

    def test_a_bulk_request_is_ahead_of_a_larger_one_only(self) -> None:
        queue = Batcher(BatchLimits(64))
        queue.add([Item(10, "bulk") for _ in range(100)])
        assert queue.tokens_before([5] * 5, flow=object()) == 0
        assert queue.tokens_before([10] * 200, flow=object()) == 1000

    def test_a_flow_stands_behind_itself(self) -> None:
        queue = Batcher(BatchLimits(64))
        queue.add([Item(10, "bulk") for _ in range(100)])
        queue.add([Item(10, "other") for _ in range(200)])
        assert queue.tokens_before([5], flow="bulk") == 1000

    def test_what_is_taken_or_cancelled_is_ahead_no_more(self) -> None:
        queue = Batcher(BatchLimits(10))
        items = [Item(10, n) for n in range(3)]
        add_each(queue, items)
        take(queue)
        assert queue.tokens_before([10], flow="new") == 20
        queue.cancel(items)
        assert queue.tokens_before([10], flow="new") == 0


class TestWithoutPadding:
    """Encoders that take texts one after the other need no like lengths."""

    def test_mates_follow_by_rank_until_one_does_not_fit(self) -> None:
        limits = BatchLimits(max_batch_tokens=100, max_padding=None)
        queue, _ = waiting([5, 60, 30, 10, 90, 8], limits=limits)
        assert drain(queue) == [[5, 60, 30], [10, 90], [8]]

    def test_a_longer_text_runs_alone(self) -> None:
        limits = BatchLimits(max_batch_tokens=100, max_padding=None)
        queue, _ = waiting([150, 1, 2], limits=limits)
        assert drain(queue) == [[150], [1, 2]]

    def test_work_is_shared_out_among_free_workers(self) -> None:
        limits = BatchLimits(max_batch_tokens=100, max_padding=None)
        queue, _ = waiting([10, 20, 30, 20], limits=limits)
        assert [item.length for item in take(queue, free_workers=2).batch] == [10, 20]
