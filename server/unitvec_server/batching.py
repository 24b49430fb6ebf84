"""Which waiting texts form the next batch. Pure policy: no clock, thread, queue or I/O here.

Everything about *when and with whom* is decided in this file:

- **Who is first.** Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): each item
  of a flow (a request or a stream) gets `start = max(virtual time, start + length of the
  flow's item before)`, and the waiting item of the lowest start seeds the next batch. A lone
  text behind a request of 10,000 texts therefore waits for the running batch, not for the
  request; lone texts leave in the order they came; flows that wait share by tokens.
- **With whom.** Items of like length join the seed, nearest lengths first and lowest starts
  first among equals, while the padded batch keeps within `max_batch_tokens` and padding
  within `max_padding` of it.
- **How much.** If less work waits than the free workers can take, it is shared out among
  them, so that one small request uses all of them.
- **Who joins.** Items of one key want the same result. Each waits in its own place, so that none
  depends on the place, deadline or caller of another; the first to be taken takes all along.
- **Who is dropped.** Cancelled items vanish; items past their deadline are handed back,
  never run.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import math
from collections.abc import Hashable, Iterable, Iterator


@dataclasses.dataclass(frozen=True)
class BatchLimits:
    """Bounds of one batch.

    Attributes:
        max_batch_tokens: Most tokens in a batch, padding included. A longer text runs alone.
        max_padding: Most padding, as a fraction of the batch's tokens.
    """

    max_batch_tokens: int
    max_padding: float = 0.1


@dataclasses.dataclass(slots=True, eq=False)
class Item:
    """One waiting text.

    Attributes:
        length: Its tokens, at least one.
        flow: The request or stream it belongs to.
        deadline_s: When it stops being worth running, on the caller's clock.
        payload: The caller's own.
        key: Items of one key are equal; None is equal to nothing.
        waiting: False once taken, joined, cancelled or expired.
        joined: Equal items that left with it, to be served by its run; later ones may follow.
    """

    length: int
    flow: Hashable
    deadline_s: float = math.inf
    payload: object = None
    key: Hashable = None
    waiting: bool = False
    joined: list[Item] = dataclasses.field(default_factory=list)


_MAX_STEP_TOKENS = 8
"""How far past its start a seed carries the virtual time, at which newcomers start. A whole
length would rank them behind the rest of the seed's flow; nothing, as in the paper, would rank
an endless run of them before that rest for ever."""

_Entry = tuple[float, int, Item]
"""Start, order of arrival, item: entries of a heap, which never come to compare items."""


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
        self._by_start: list[_Entry] = []
        self._by_length: dict[int, list[_Entry]] = {}
        self._length_entries = 0
        self._next_starts: dict[Hashable, float] = {}
        self._flow_tokens: dict[Hashable, int] = {}
        # By key: the waiting item, or all of them where there are several, which is rare.
        self._equals: dict[Hashable, Item | dict[Item, None]] = {}
        self._virtual_time = 0.0
        self._order = itertools.count()
        self.waiting_items = 0
        self.waiting_tokens = 0

    def add(self, items: Iterable[Item]) -> None:
        """Lets items wait."""
        for item in items:
            start = max(self._virtual_time, self._next_starts.get(item.flow, 0.0))
            self._next_starts[item.flow] = start + item.length
            self._flow_tokens[item.flow] = self._flow_tokens.get(item.flow, 0) + item.length
            entry = (start, next(self._order), item)
            heapq.heappush(self._by_start, entry)
            heapq.heappush(self._by_length.setdefault(item.length, []), entry)
            self._length_entries += 1
            if item.key is not None:
                equal = self._equals.setdefault(item.key, item)
                if equal is not item:
                    self._group(equal, item)
            item.waiting = True
            self.waiting_items += 1
            self.waiting_tokens += item.length

    def cancel(self, items: Iterable[Item]) -> list[Item]:
        """Removes those of the items that still wait, and returns them."""
        cancelled = [item for item in items if item.waiting]
        for item in cancelled:
            self._settle(item)
        self._compact()
        return cancelled

    def snapshot(self) -> list[Item]:
        """All waiting items, and a few that wait no more. Callable from any thread."""
        return [item for _, _, item in self._by_start.copy()]

    def tokens_before(self, tokens: int, *, flow: Hashable) -> int:
        """Waiting tokens that come, by fair queueing, before the last of so many more of a flow.

        That is all that waits of the flow itself and, of every other, as much as of this one.
        """
        own = self._flow_tokens.get(flow, 0)
        most = own + tokens
        return sum(min(waiting, most) for waiting in self._flow_tokens.values())

    def next_batch(self, *, now_s: float, free_workers: int) -> Plan:
        """Takes the next batch out of the queue.

        Args:
            now_s: The present, on the clock of the items' deadlines.
            free_workers: Workers that could start now, the asking one included.
        """
        expired: list[Item] = []
        seed = self._pop_seed(now_s, expired)
        if seed is None:
            return Plan([], expired)
        batch = _Batch(seed, self._budget(seed, free_workers), self._limits.max_padding)
        for length in self._lengths_near(seed.length):
            while batch.fits(length):
                item = self._pop_length(length, now_s, expired)
                if item is None:
                    break
                batch.append(item)
        self._compact()
        return Plan(batch.items, expired)

    def _budget(self, seed: Item, free_workers: int) -> int:
        """Tokens for this batch: a fair share of what waits, at most the limit."""
        share = math.ceil((self.waiting_tokens + seed.length) / max(1, free_workers))
        # Padding must not make the last share spill over into one batch more.
        share = math.ceil(share * (1 + self._limits.max_padding))
        return min(self._limits.max_batch_tokens, share)

    def _pop_seed(self, now_s: float, expired: list[Item]) -> Item | None:
        while self._by_start:
            start, _, item = heapq.heappop(self._by_start)
            if not item.waiting:
                continue
            step_tokens = min(item.length / 2, _MAX_STEP_TOKENS)
            self._virtual_time = max(self._virtual_time, start + step_tokens)
            if self._take(item, now_s, expired):
                return item
        return None

    def _pop_length(self, length: int, now_s: float, expired: list[Item]) -> Item | None:
        while entries := self._by_length.get(length):
            item = heapq.heappop(entries)[2]
            self._length_entries -= 1
            if item.waiting and self._take(item, now_s, expired):
                return item
        self._by_length.pop(length, None)
        return None

    def _take(self, item: Item, now_s: float, expired: list[Item]) -> bool:
        self._settle(item)
        if item.deadline_s <= now_s:
            expired.append(item)
            return False
        if item.key in self._equals:
            self._take_equals(item, now_s, expired)
        return True

    def _take_equals(self, item: Item, now_s: float, expired: list[Item]) -> None:
        group = self._equals[item.key]
        for equal in tuple(group) if isinstance(group, dict) else (group,):
            self._settle(equal)
            (expired if equal.deadline_s <= now_s else item.joined).append(equal)

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

    def _settle(self, item: Item) -> None:
        item.waiting = False
        self.waiting_items -= 1
        self.waiting_tokens -= item.length
        self._flow_tokens[item.flow] -= item.length
        if not self._flow_tokens[item.flow]:
            # The flow may come back: it then starts at the virtual time again.
            del self._flow_tokens[item.flow], self._next_starts[item.flow]
        if item.key is not None:
            if self._equals[item.key] is item:
                del self._equals[item.key]
            else:
                self._ungroup(item)
        if not self.waiting_items:
            self._by_start.clear()
            self._by_length.clear()
            self._length_entries = 0

    def _compact(self) -> None:
        """Forgets settled items once they outnumber the waiting: memory stays bounded."""
        bound = 2 * self.waiting_items + 64
        if len(self._by_start) > bound:
            self._by_start = _waiting(self._by_start)
        if self._length_entries > bound:
            kept = {length: _waiting(entries) for length, entries in self._by_length.items()}
            self._by_length = {length: entries for length, entries in kept.items() if entries}
            self._length_entries = self.waiting_items

    def _lengths_near(self, length: int) -> Iterator[int]:
        """Lengths that waiting items may have, nearest first, within the padding bound."""
        reach = math.ceil(length * self._limits.max_padding / (1 - self._limits.max_padding))
        for distance in range(reach + 1):
            if length - distance in self._by_length:
                yield length - distance
            if distance and length + distance in self._by_length:
                yield length + distance


def _waiting(entries: list[_Entry]) -> list[_Entry]:
    """The heap without its settled items."""
    kept = [entry for entry in entries if entry[2].waiting]
    heapq.heapify(kept)
    return kept
