"""Which waiting texts form the next batch. Pure policy: no clock, thread, queue or I/O here.

Everything about *when and with whom* is decided in this file:

- **Who is first.** The request of the lowest rank, and of equals the one that came first. The
  rank is when the request's last text would begin if all flows (a flow is a unary request, or a
  stream) shared the machine by tokens: `start + tokens - tokens of the last text`, with
  `start = max(virtual time, end of the flow's request before)`. So a lone text behind a request
  of 10,000 texts waits for the running batch, not for the request, and lone texts leave in the
  order they came. But requests of like size are begun one after the other: each is done hardly
  later, and on average much earlier, than if all were in work and near their end together (the
  Fair Sojourn Protocol; Friedman and Henderson, SIGMETRICS 2003). Under overload with deadlines
  that is the difference between most of them and none.
  And while larger requests wait, every second batch is for the small ones, which fit in one.
  Batches of bulk are made of like lengths, so its requests are done later than sharing would
  have it, at about the same time, and a lone text would have to wait for all that is overdue.
- **With whom.** Items of like length join the seed, nearest lengths first and lowest ranks first
  among equals, while the padded batch keeps within `max_batch_tokens` and padding within
  `max_padding` of it. Where time is short, only those whose turn is near.
- **How much.** If less work waits than the free workers can take, it is shared out among
  them, so that one small request uses all of them. While tiny requests keep coming, batches of
  bulk are half as large: whoever comes next waits for the end of one.
- **Who joins.** Items of one key want the same result. Each waits in its own place, so that none
  depends on the place, deadline or caller of another; the first to be taken takes all along.
- **Who is dropped.** Cancelled items vanish; items past their deadline are handed back, and so are
  all that wait of a request that could not be finished in time while others could.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import math
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

from unitvec_server.policy.fair_sharing import FairSharing, Overtaking
from unitvec_server.policy.items import Item, Pool, Request


@dataclasses.dataclass(frozen=True)
class BatchLimits:
    """Bounds of one batch.

    Attributes:
        max_batch_tokens: Most tokens in a batch, padding included. A longer text runs alone.
        max_padding: Most padding, as a fraction of the batch's tokens.
    """

    max_batch_tokens: int
    max_padding: float = 0.1


BEGIN_MARGIN = 1.5
"""How much more time a request must have than its work takes at best, to be begun: what is begun
should be finished."""

_NEAR = 0.25
"""Part of the work that could be done until the deadline of the first text, which a batch is chosen
from: at least a batch, and all where there is no deadline. More choice makes fuller batches; but
texts are then taken long before the rest of their request, which is late for want of those, and by
the deadline most work is half done."""

_HALF_LIFE_BATCHES, _KNOWN_BATCHES = 32, 4
"""Runs after which a request that came counts half in what newcomers may expect of the future, a
second or two on two cores; and how many count as run before the first."""

_TINY = 0.25
"""Part of a batch, up to which a request spends more time behind a run than in its own."""

_TINY_BATCHES = 128
"""Batches for which another tiny request is expected after one came: a few seconds on two cores."""


class _Batch:
    """A batch in the making: its padded size is rows * longest."""

    def __init__(self, seed: Item, budget_tokens: int, max_padding: float) -> None:
        self.items = [seed]
        self._budget_tokens = budget_tokens
        self._max_padding = max_padding
        self._longest = self._tokens = seed.length

    def fits(self, length: int) -> bool:
        """Whether one more item of this length keeps the batch within its bounds."""
        padded_tokens = (len(self.items) + 1) * max(self._longest, length)
        padding = padded_tokens - self._tokens - length
        return padded_tokens <= self._budget_tokens and padding <= self._max_padding * padded_tokens

    def append(self, item: Item) -> None:
        """Adds an item that fits."""
        self.items.append(item)
        self._longest = max(self._longest, item.length)
        self._tokens += item.length


class Speed(NamedTuple):
    """What the machine can do.

    Attributes:
        tokens_per_s: Of all workers together.
        workers: How many share it.
    """

    tokens_per_s: float
    workers: int


UNKNOWN = Speed(math.inf, 1)
"""Of which everything can be expected."""


class _Moment(NamedTuple):
    """What `next_batch` is told, and whom it finds too late."""

    now_s: float
    speed: Speed
    expired: list[Item]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to do next.

    Attributes:
        batch: Items to run together, the seed first, no two of one key; empty if nothing waits.
        expired: Items that are past their deadline, to be failed.
    """

    batch: list[Item]
    expired: list[Item]


class BatchQueue:
    """The waiting texts of one model. Not thread-safe: the scheduler holds its lock.

    Args:
        limits: Bounds of one batch.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._all, self._small = Pool(), Pool()
        self._small_items = 0
        self._small_next = True
        self._batches_for_tiny = 0
        self._sharing = FairSharing()
        self._overtaking = self._nobody_came()
        self._requests: dict[Request, None] = {}  # those that wait, in order of arrival
        self._later: list[tuple[float, int, Request]] = []  # those that are not near
        self._near_until, self._near_tokens = (-math.inf, 0), 0
        self._flow_tokens: dict[Hashable, int] = {}
        # By key: the waiting item, or all of them where there are several, which is rare.
        self._equals: dict[Hashable, Item | dict[Item, None]] = {}
        self._order = itertools.count()
        self.waiting_items = 0
        self.waiting_tokens = 0

    def add(self, items: Iterable[Item]) -> None:
        """Lets the items of one request wait; all are of one flow."""
        items = list(items)
        if not items:
            return
        flow, tokens = items[0].flow, sum(item.length for item in items)
        start = self._sharing.begin(flow, tokens)
        self._overtaking.come(tokens)
        is_small = tokens <= self._limits.max_batch_tokens
        if tokens <= _TINY * self._limits.max_batch_tokens:
            self._batches_for_tiny = _TINY_BATCHES
        request = Request(start + (tokens - items[-1].length), tokens, is_small)
        self._requests[request] = None
        heapq.heappush(self._later, (request.rank, next(self._order), request))
        self._flow_tokens[flow] = self._flow_tokens.get(flow, 0) + tokens
        self.waiting_items += len(items)
        self.waiting_tokens += tokens
        for item in items:
            self._enter(item, request)

    def _enter(self, item: Item, request: Request) -> None:
        item.request, item.waiting = request, True
        entry = (request.rank, next(self._order), item)
        self._all.add(entry)
        if request.small:
            self._small.add(entry)
            self._small_items += 1
        if item.key is not None:
            equal = self._equals.setdefault(item.key, item)
            if equal is not item:
                self._group(equal, item)

    def cancel(self, items: Iterable[Item]) -> list[Item]:
        """Removes those of the items that still wait, and returns them."""
        cancelled = [item for item in items if item.waiting]
        for item in cancelled:
            self._give_up(item)
        self._compact()
        return cancelled

    def snapshot(self) -> list[Item]:
        """All waiting items, and a few that wait no more. Callable from any thread."""
        return [item for _, _, item in self._all.by_rank.copy()]

    def tokens_before(self, lengths: Sequence[int], *, flow: Hashable) -> int:
        """Waiting tokens whose turn comes before the last text of such a request would."""
        rank = self._sharing.start_of(flow) + sum(lengths[:-1])
        return sum(other.waiting_tokens for other in self._requests if other.rank <= rank)

    def overtaken(self, tokens: int) -> float:
        """Part of the machine that smaller requests will take while one of so many tokens waits."""
        return self._overtaking.part(tokens)

    def most_tokens_before(self, tokens: int, *, flow: Hashable) -> float:
        """Tokens that sharing would give to others before a request of so many is done."""
        return self._sharing.work_until_end_of(flow, tokens) - tokens

    def _nobody_came(self) -> Overtaking:
        batch_tokens = self._limits.max_batch_tokens
        return Overtaking(
            _HALF_LIFE_BATCHES * batch_tokens, known_tokens=_KNOWN_BATCHES * batch_tokens
        )

    def run_s(self, speed: Speed) -> float:
        """Time that a batch of what waits takes."""
        tokens = min(self._limits.max_batch_tokens, self.waiting_tokens)
        return tokens * speed.workers / speed.tokens_per_s

    def next_batch(
        self,
        *,
        now_s: float,
        free_workers: int,
        speed: Speed = UNKNOWN,
    ) -> Plan:
        """Takes the next batch out of the queue.

        Args:
            now_s: The present, on the clock of the items' deadlines.
            free_workers: Workers that could start now, the asking one included.
            speed: Of the machine, at its best.
        """
        expired: list[Item] = []
        moment = _Moment(now_s, speed, expired)
        pool = self._choose_pool()
        seed = self._pop_seed(pool, moment)
        if seed is None:
            return Plan([], expired)
        self._batches_for_tiny = max(0, self._batches_for_tiny - 1)
        self._draw_near(_NEAR * (seed.deadline_s - now_s) * speed.tokens_per_s)
        batch = _Batch(seed, self._budget(seed, free_workers), self._limits.max_padding)
        for length in pool.lengths_near(seed.length, max_padding=self._limits.max_padding):
            while batch.fits(length):
                item = pool.pop_length(length, _may_be_mate)
                if item is None:
                    break
                if self._take(item, moment):
                    batch.append(item)
        tokens = sum(item.length for item in batch.items)
        self._sharing.advance(tokens)
        self._overtaking.work(tokens)
        self._compact()
        return Plan(batch.items, expired)

    def _draw_near(self, tokens: float) -> None:
        """Lets the first requests by rank be mates: those of so many tokens, at least a batch."""
        least_tokens = max(tokens, self._limits.max_batch_tokens)
        while self._later:
            rank, order, request = self._later[0]
            if self._near_tokens >= least_tokens and (rank, order) > self._near_until:
                return
            heapq.heappop(self._later)
            if request.waiting_tokens:
                request.near = True
                self._near_until = max(self._near_until, (rank, order))
                self._near_tokens += request.waiting_tokens

    def _budget(self, seed: Item, free_workers: int) -> int:
        """Tokens for this batch: a fair share of what waits, at most the limit."""
        share = math.ceil((self.waiting_tokens + seed.length) / max(1, free_workers))
        # Padding must not make the last share spill over into one batch more.
        share = math.ceil(share * (1 + self._limits.max_padding))
        is_halved = self._batches_for_tiny and not _request_of(seed).small
        return min(self._limits.max_batch_tokens // (2 if is_halved else 1), share)

    def _choose_pool(self) -> Pool:
        """Small requests have every second batch for themselves while others wait as well."""
        if not 0 < self._small_items < self.waiting_items:
            self._small_next = True
            return self._all
        chosen = self._small if self._small_next else self._all
        self._small_next = not self._small_next
        return chosen

    def _pop_seed(self, pool: Pool, moment: _Moment) -> Item | None:
        """Takes the first of a pool that is in time; of all, if none of the small is."""
        while True:
            item = pool.pop()
            if item is None:
                return None if pool is self._all else self._pop_seed(self._all, moment)
            if self._take(item, moment):
                return item

    def _take(self, item: Item, moment: _Moment) -> bool:
        if self._is_late(item, moment):
            self._expire(item, moment)
            return False
        _request_of(item).begun = True
        self._settle(item)
        if item.key in self._equals:
            self._take_equals(item, moment)
        return True

    def _is_late(self, item: Item, moment: _Moment, *, left_out: int = 0) -> bool:
        """Whether it is past its deadline, or its request will be while others could be done."""
        request, left_s = _request_of(item), item.deadline_s - moment.now_s
        if request.failed or left_s <= 0:
            return True
        tokens = request.waiting_tokens - left_out
        if not tokens or tokens == self.waiting_tokens:
            return False
        margin = 1.0 if request.begun else BEGIN_MARGIN
        least_s = max(self.run_s(moment.speed), margin * tokens / moment.speed.tokens_per_s)
        return least_s > left_s

    def _take_equals(self, item: Item, moment: _Moment) -> None:
        group = self._equals[item.key]
        for equal in tuple(group) if isinstance(group, dict) else (group,):
            # It is done with the seed: only the others of its request still take time.
            if self._is_late(equal, moment, left_out=equal.length):
                self._expire(equal, moment)
            else:
                _request_of(equal).begun = True
                self._give_up(equal)
                item.joined.append(equal)

    def _group(self, equal: Item | dict[Item, None], item: Item) -> None:
        """Adds an item to an equal one, or to several."""
        if not isinstance(equal, dict):
            equal = self._equals[item.key] = {equal: None}
        equal[item] = None

    def _ungroup(self, item: Item) -> None:
        """Takes an item from its group."""
        group = self._equals[item.key]
        assert isinstance(group, dict)
        del group[item]
        if not group:
            del self._equals[item.key]

    def _expire(self, item: Item, moment: _Moment) -> None:
        _request_of(item).failed = True
        self._give_up(item)
        moment.expired.append(item)

    def _give_up(self, item: Item) -> None:
        """Settles an item that does not run."""
        self._settle(item)
        self._sharing.drop(item.flow, item.length)

    def _settle(self, item: Item) -> None:
        request = _request_of(item)
        item.waiting = False
        self.waiting_items -= 1
        self.waiting_tokens -= item.length
        self._small_items -= request.small
        request.waiting_tokens -= item.length
        if request.near:
            self._near_tokens -= item.length
        if not request.waiting_tokens:
            del self._requests[request]
        self._flow_tokens[item.flow] -= item.length
        if not self._flow_tokens[item.flow]:
            del self._flow_tokens[item.flow]
        if item.key is not None:
            if self._equals[item.key] is item:
                del self._equals[item.key]
            else:
                self._ungroup(item)
        if not self.waiting_items:
            self._all.clear()
            self._small.clear()
            self._sharing = FairSharing()
            self._overtaking = self._nobody_came()
            self._later.clear()
            self._near_until, self._near_tokens = (-math.inf, 0), 0

    def _compact(self) -> None:
        """Forgets settled items once they outnumber the waiting: memory stays bounded."""
        bound = 2 * self.waiting_items + 64
        self._all.compact(bound)
        self._small.compact(bound)
        if len(self._later) > 2 * len(self._requests) + 64:
            self._later = [e for e in self._later if e[2].waiting_tokens]
            heapq.heapify(self._later)
        self._sharing.forget_ghosts(self._flow_tokens)


def _may_be_mate(item: Item) -> bool:
    """Whether it may be taken before its turn: its request is near, begun, or done with it."""
    request = _request_of(item)
    return request.near or request.begun or request.waiting_tokens == item.length


def _request_of(item: Item) -> Request:
    assert item.request is not None
    return item.request
