"""Which waiting texts form the next batch. Pure policy: no clock, thread, lock or I/O here.

Two rules hold for this file and its neighbours in `policy/`:

1. Everything that decides when a text runs, and with which others, is written here. The scheduler
   calls `add`, `cancel` and `next_batch` and does what it is told.
2. Nothing else is here. Time is an argument, a text is its length, and what the caller attached to
   it is never looked at. So every decision can be tested as a table, as a property, and on the
   virtual clock of `tests/server/test_overload_policy.py`, from which the figures below come.

The words: a *flow* is one unary call or one stream. A *request* is what a flow adds at a time and
gets answered at a time. An *item* is one distinct text of a request. The *seed* is the first item
of a batch, and its *mates* are the others. A *run* is what a worker does with a batch.

How a batch is chosen
---------------------

**The seed** is the first item in the order of ranks. The rank of a request is the virtual time at
which its last text would begin if all flows shared the machine token by token (`fair_sharing`):

    rank = start + tokens of all its texts but the last
    start = virtual time now, or the end of the flow's request before, whichever is later

All items of a request have its rank, so requests are served one after the other, each whole, in the
order in which fair sharing would begin to finish them. A lone text has no tokens but its last, so
it goes before all that is larger, and lone texts leave in the order in which they came. This is the
Fair Sojourn Protocol (Friedman and Henderson, SIGMETRICS 2003): nobody is done much later than
under fair sharing, and most are done much earlier. Sharing the machine text by text (start-time
fair queueing, our first choice) brings requests of like size near their end together. Under
overload with deadlines nearly all of them are then late: goodput of calls of 16 texts at twice the
load was 0.02 of the peak, and is 0.97 with ranks.

**The mates** of an encoder that takes texts without padding are the items that follow by rank,
until the next one does not fit into `max_batch_tokens`. Where a batch is padded to its longest
text, they come from the lengths nearest to the seed's, lowest ranks first, while the padded batch
keeps within `max_batch_tokens` and padding within `max_padding`; items of requests whose turn is
far are left alone where time is short (`Deadlines.near_tokens`).

**The amount.** If less waits than the free workers can take, each gets an even part, so that one
small request uses all of them.

**Small requests** fit in one batch. While larger ones wait as well, every second batch is seeded
and filled from small ones alone. Padded batches of bulk are made of like lengths, so bulk is done
later than its rank says, and without this a lone text would wait for everything that is overdue:
beside bulk calls it waits 1.1 runs in place of 0.2 in the median, and 5 runs in place of 0.5 at
worst beside a stream.

**Equal texts** have one key. Each waits in its own place, so that none depends on the place,
deadline or caller of another. The first that is taken takes all of them along.

**Late items** are handed back as expired: those past their deadline, and all that waits of a
request that cannot be done in time while others can (`Deadlines.is_late`). Cancelled items just
leave.

A worked case
-------------

A batch is padded and has at most 64 tokens. At virtual time 0 three flows come: A with six texts of
20 tokens, then B with two texts of 20, then C with one text of 22.

    request   tokens   rank                  small
    A         120      0 + 100 = 100         no, 120 > 64
    B         40       0 + 20 = 20           yes
    C         22       0 + 0 = 0             yes

The first batch is for small requests, since larger ones wait as well. C is the seed. Lengths within
10 % of padding of 22 are 20 to 24; a row more of 20 makes 2 * 22 = 44 padded tokens with 2 of
padding, another makes 66, which is too many. So the batch is C and the first text of B: 42 tokens.
The second batch is for all. B's other text has the lowest rank and is the seed; two texts of A fill
it up to 60 tokens. B is answered after two batches, though A came first. The last four texts of A
take two more batches. Fair sharing gave each flow a third of the machine, and so would have
finished C after 66 tokens, B after 102 and A after 182.

The weak spot
-------------

The batcher knows lengths, not times. It takes a batch of 64 tokens for as long as any other one of
64 tokens, while many short texts in truth run somewhat faster than one long one. The speed by which
deadlines are judged is an average over all of them, and it is only as good as the machine is
steady.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

from unitvec_server.policy.deadlines import Deadlines, RunSpeed
from unitvec_server.policy.fair_sharing import FairSharing
from unitvec_server.policy.items import Item, Pool, QueuedRequest


@dataclasses.dataclass(frozen=True)
class BatchLimits:
    """Bounds of one batch.

    Attributes:
        max_batch_tokens: Most tokens in a batch, padding included. A longer text runs alone.
        max_padding: Largest part of a batch's tokens that may be padding; None for encoders that
            take texts one after the other, without padding.
    """

    max_batch_tokens: int
    max_padding: float | None = 0.1


_TINY_PART = 0.25
"""Part of a batch up to which a request is called tiny: the run that it has to wait for takes
longer than its own."""

_TINY_BATCHES = 128
"""Batches, some seconds of work on two cores, for which another tiny request is expected after one
arrived. Meanwhile batches of bulk are half as large, since whoever comes next waits for the end of
one: a lone text beside bulk waits for 0.5 runs at worst in place of 1.0, and for 0.2 in place of
0.4 in the median."""


class Plan(NamedTuple):
    """What to do next.

    Attributes:
        batch: Items to run together, the seed first, no two of one key; empty if nothing waits.
        tokens: Number of tokens of the batch, without padding.
        expired: Items that cannot be done by their deadline, to be failed.
    """

    batch: list[Item]
    tokens: int
    expired: list[Item]


class _Moment(NamedTuple):
    """The time that `next_batch` was told, and the items that it found too late."""

    now_s: float
    expired: list[Item]


class _Batch:
    """A batch that is being filled: with padding its size is rows * longest."""

    def __init__(self, seed: Item, budget_tokens: int, max_padding: float | None) -> None:
        self.items = [seed]
        self.tokens = self._longest = seed.length
        self._budget_tokens = budget_tokens
        self._max_padding = max_padding

    def fits(self, length: int) -> bool:
        """Whether one more item of this length keeps the batch within its bounds."""
        if self._max_padding is None:
            return self.tokens + length <= self._budget_tokens
        padded_tokens = (len(self.items) + 1) * max(self._longest, length)
        padding = padded_tokens - self.tokens - length
        return padded_tokens <= self._budget_tokens and padding <= self._max_padding * padded_tokens

    def append(self, item: Item) -> None:
        """Adds an item that fits."""
        self.items.append(item)
        self._longest = max(self._longest, item.length)
        self.tokens += item.length


class Batcher:
    """The queue of one model, and the choice of its next batch. Not thread-safe.

    Args:
        limits: Bounds of one batch.
        deadlines: Decides what can be done in time; by default all that is not past its deadline.

    Attributes:
        waiting_items: Number of items in the queue.
        waiting_tokens: Number of their tokens.
    """

    def __init__(self, limits: BatchLimits, deadlines: Deadlines | None = None) -> None:
        self._limits = limits
        self._deadlines = deadlines or Deadlines(RunSpeed(1), limits.max_batch_tokens)
        self._all, self._small = Pool(), Pool()
        self._small_items = 0
        self._is_small_next = True
        self._tiny_batches_left = 0
        self._sharing = FairSharing()
        self._requests: dict[QueuedRequest, None] = {}  # those that wait, in order of arrival
        self._far: list[tuple[float, int, QueuedRequest]] = []  # a heap of those that are not near
        self._near_until, self._near_tokens = (-math.inf, 0), 0
        self._flow_tokens: dict[Hashable, int] = {}
        # By key: the waiting item, or all of them where there are several, which is rare.
        self._equals: dict[Hashable, Item | dict[Item, None]] = {}
        self._order = itertools.count()
        self.waiting_items = 0
        self.waiting_tokens = 0

    def add(self, items: Sequence[Item]) -> None:
        """Lets the items of one request wait; all are of one flow."""
        if not items:
            return
        flow, tokens = items[0].flow, sum([item.length for item in items])
        rank = self._sharing.begin(flow, tokens) + (tokens - items[-1].length)
        self._deadlines.forecast.note_arrival(tokens)
        if tokens <= _TINY_PART * self._limits.max_batch_tokens:
            self._tiny_batches_left = _TINY_BATCHES
        request = QueuedRequest(rank, tokens, tokens <= self._limits.max_batch_tokens)
        self._requests[request] = None
        heapq.heappush(self._far, (rank, next(self._order), request))
        self._flow_tokens[flow] = self._flow_tokens.get(flow, 0) + tokens
        self.waiting_items += len(items)
        self.waiting_tokens += tokens
        for item in items:
            self._enter(item, request)

    def _enter(self, item: Item, request: QueuedRequest) -> None:
        item.request, item.is_waiting = request, True
        entry = (request.rank, next(self._order), item)
        self._all.add(entry)
        if request.is_small:
            self._small.add(entry)
            self._small_items += 1
        if item.key is not None:
            equal = self._equals.setdefault(item.key, item)
            if equal is not item:
                self._group(equal, item)

    def cancel(self, items: Iterable[Item]) -> list[Item]:
        """Removes those of the items that still wait, and returns them."""
        cancelled = [item for item in items if item.is_waiting]
        for item in cancelled:
            self._drop(item)
        self._tidy()
        return cancelled

    def snapshot(self) -> list[Item]:
        """All waiting items, and a few that wait no more. Callable from any thread."""
        return [item for _, _, item in self._all.by_rank.copy()]

    def tokens_before(self, lengths: Sequence[int], *, flow: Hashable) -> int:
        """Waiting tokens whose turn comes before the last text of a new request.

        Args:
            lengths: Tokens of each text of the new request.
            flow: Flow of the new request.
        """
        rank = self._sharing.start_of(flow) + sum(lengths[:-1])
        return sum(other.waiting_tokens for other in self._requests if other.rank <= rank)

    def most_tokens_before(self, tokens: int, *, flow: Hashable) -> float:
        """Tokens that fair sharing would give to others before a new request of so many is done."""
        return self._sharing.work_until_end_of(flow, tokens) - tokens

    def next_batch(self, *, now_s: float, free_workers: int) -> Plan:
        """Takes the next batch out of the queue.

        Args:
            now_s: The present, on the clock of the items' deadlines.
            free_workers: Workers that could start now, the asking one included.
        """
        moment = _Moment(now_s, [])
        pool = self._choose_pool()
        seed = self._pop_seed(pool, moment)
        if seed is None:
            self._tidy()
            return Plan([], 0, moment.expired)
        self._tiny_batches_left = max(0, self._tiny_batches_left - 1)
        items, tokens = [seed], seed.length
        if self.waiting_items:
            batch = self._fill(seed, pool, free_workers, moment)
            items, tokens = batch.items, batch.tokens
        self._sharing.advance(tokens)
        self._tidy()
        self._deadlines.forecast.note_batch(tokens)
        return Plan(items, tokens, moment.expired)

    def _fill(self, seed: Item, pool: Pool, free_workers: int, moment: _Moment) -> _Batch:
        """Adds mates to the seed."""
        budget_tokens = self._budget_tokens(seed, free_workers)
        batch = _Batch(seed, budget_tokens, self._limits.max_padding)
        if self._limits.max_padding is None:
            mates = _mates_by_rank(batch, pool)
        else:
            self._draw_near(self._deadlines.near_tokens(seed.deadline_s - moment.now_s))
            mates = _mates_by_length(batch, pool, self._limits.max_padding)
        for item in mates:
            if self._take(item, moment):
                batch.append(item)
        return batch

    def _draw_near(self, tokens: float) -> None:
        """Lets the first requests by rank be near, until they have so many tokens."""
        while self._far:
            rank, order, request = self._far[0]
            if self._near_tokens >= tokens and (rank, order) > self._near_until:
                return
            heapq.heappop(self._far)
            if request.waiting_tokens:
                request.is_near = True
                self._near_until = max(self._near_until, (rank, order))
                self._near_tokens += request.waiting_tokens

    def _budget_tokens(self, seed: Item, free_workers: int) -> int:
        """Most tokens of this batch: an even part of what waits for each free worker."""
        part = math.ceil((self.waiting_tokens + seed.length) / max(1, free_workers))
        # Padding must not make the last part spill over into one batch more.
        part = math.ceil(part * (1 + (self._limits.max_padding or 0)))
        is_halved = self._tiny_batches_left and not seed.request.is_small
        return min(self._limits.max_batch_tokens // (2 if is_halved else 1), part)

    def _choose_pool(self) -> Pool:
        """Small requests have every second batch for themselves while others wait as well."""
        if not 0 < self._small_items < self.waiting_items:
            self._is_small_next = True
            return self._all
        chosen = self._small if self._is_small_next else self._all
        self._is_small_next = not self._is_small_next
        return chosen

    def _pop_seed(self, pool: Pool, moment: _Moment) -> Item | None:
        """Takes the first item of a pool that is in time; of all, if no small one is."""
        while True:
            item = pool.pop()
            if item is None:
                return None if pool is self._all else self._pop_seed(self._all, moment)
            if self._take(item, moment):
                return item

    def _take(self, item: Item, moment: _Moment) -> bool:
        """Takes an item, with its equals, into the batch; False if it expires instead."""
        if self._is_late(item, moment):
            self._expire(item, moment)
            return False
        item.request.is_begun = True
        self._leave(item)
        if item.key in self._equals:
            self._take_equals(item, moment)
        return True

    def _is_late(self, item: Item, moment: _Moment, *, shared_tokens: int = 0) -> bool:
        """Whether the item's request cannot be done in time; `shared_tokens` of it run anyway."""
        request = item.request
        return request.is_failed or self._deadlines.is_late(
            request.waiting_tokens - shared_tokens,
            left_s=item.deadline_s - moment.now_s,
            is_begun=request.is_begun,
            waiting_tokens=self.waiting_tokens,
        )

    def _take_equals(self, item: Item, moment: _Moment) -> None:
        """Lets the items of the same key share the run of one that was taken."""
        group = self._equals[item.key]
        for equal in tuple(group) if isinstance(group, dict) else (group,):
            if self._is_late(equal, moment, shared_tokens=equal.length):
                self._expire(equal, moment)
            else:
                equal.request.is_begun = True
                self._drop(equal)
                item.joined.append(equal)

    def _group(self, equal: Item | dict[Item, None], item: Item) -> None:
        """Adds an item to one that is equal, or to several."""
        if not isinstance(equal, dict):
            equal = self._equals[item.key] = {equal: None}
        equal[item] = None

    def _ungroup(self, item: Item) -> None:
        """Takes an item from its group."""
        group = self._equals[item.key]
        if group is item:
            del self._equals[item.key]
            return
        assert isinstance(group, dict)
        del group[item]
        if not group:
            del self._equals[item.key]

    def _expire(self, item: Item, moment: _Moment) -> None:
        item.request.is_failed = True
        self._drop(item)
        moment.expired.append(item)

    def _drop(self, item: Item) -> None:
        """Lets an item leave whose tokens need not run."""
        self._leave(item)
        self._sharing.drop(item.flow, item.length)

    def _leave(self, item: Item) -> None:
        """Takes an item out of all counts. The pools forget it later."""
        request = item.request
        item.is_waiting = False
        self.waiting_items -= 1
        self.waiting_tokens -= item.length
        self._small_items -= request.is_small
        request.waiting_tokens -= item.length
        if request.is_near:
            self._near_tokens -= item.length
        if not request.waiting_tokens:
            del self._requests[request]
        self._flow_tokens[item.flow] -= item.length
        if not self._flow_tokens[item.flow]:
            del self._flow_tokens[item.flow]
        if item.key is not None:
            self._ungroup(item)

    def _tidy(self) -> None:
        """Forgets items that left once they outnumber the waiting, so that memory is bounded."""
        if not self.waiting_items:
            self._clear()
            return
        bound = 2 * self.waiting_items + 64
        self._all.compact(bound)
        self._small.compact(bound)
        if len(self._far) > 2 * len(self._requests) + 64:
            self._far = [entry for entry in self._far if entry[2].waiting_tokens]
            heapq.heapify(self._far)
        self._sharing.forget_ghosts(self._flow_tokens)

    def _clear(self) -> None:
        """Begins anew: whoever comes next owes nothing to a past that is over."""
        self._all.clear()
        self._small.clear()
        self._sharing.clear()
        self._deadlines.forecast.clear()
        self._far.clear()
        self._near_until, self._near_tokens = (-math.inf, 0), 0


def _mates_by_rank(batch: _Batch, pool: Pool) -> Iterator[Item]:
    """Takes items out of a pool in the order of ranks, until the next one does not fit."""
    while (item := pool.first()) is not None and batch.fits(item.length):
        yield item


def _mates_by_length(batch: _Batch, pool: Pool, max_padding: float) -> Iterator[Item]:
    """Takes items that fit out of a pool, the lengths nearest to the seed's first."""
    for length in pool.lengths_near(batch.items[0].length, max_padding=max_padding):
        while batch.fits(length):
            item = pool.pop_length(length, _may_be_mate)
            if item is None:
                break
            yield item


def _may_be_mate(item: Item) -> bool:
    """Whether it may be taken before its turn: its request is near, begun, or done with it."""
    request = item.request
    return request.is_near or request.is_begun or request.waiting_tokens == item.length
