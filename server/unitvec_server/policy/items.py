"""The texts that wait, one by one (`Item`), by request (`QueuedRequest`), and in order (`Pool`)."""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Callable, Hashable, Iterator
from typing import Any


@dataclasses.dataclass(slots=True, eq=False)
class QueuedRequest:
    """The items that were added together, as the queue knows them.

    Attributes:
        rank: Place in the order in which requests are served, see `batching`.
        waiting_tokens: Number of tokens of those items that still wait.
        is_small: Whether all items together fit in one batch.
        is_near: Whether its items may be taken before their turn, to fill a batch.
        is_begun: Whether one of its items was taken.
        is_failed: Whether one of its items came too late, so that the request cannot be answered.
    """

    rank: float
    waiting_tokens: int
    is_small: bool
    is_near: bool = False
    is_begun: bool = False
    is_failed: bool = False


@dataclasses.dataclass(slots=True, eq=False)
class Item:
    """One text that waits. Equal texts of one request are one item.

    Attributes:
        length: Number of its tokens, at least one.
        flow: Unary call or stream that the text belongs to.
        deadline_s: Time at which it stops being worth running, on the clock of `next_batch`.
        payload: Object of the caller, which the queue never looks at.
        key: Value that is the same for equal texts; None is equal to nothing.
        is_waiting: Whether the item is in the queue: neither taken, joined, dropped nor expired.
        request: Request that the item was added with; set by the queue.
        joined: Equal items of other requests that left with this one and share its run. Items that
            arrive while it runs may still be appended.
    """

    length: int
    flow: Hashable
    deadline_s: float = math.inf
    payload: Any = None
    key: Hashable = None
    is_waiting: bool = False
    request: QueuedRequest = dataclasses.field(init=False)
    joined: list[Item] = dataclasses.field(default_factory=list)


Entry = tuple[float, int, Item]
"""Rank, order of arrival, item: an entry of a heap, which therefore never compares two items."""


class Pool:
    """Waiting items, to be taken by rank, or by length and then by rank.

    An item that leaves the queue stays in the heaps until it comes to their top or is compacted.

    Attributes:
        by_rank: Heap of all entries.
        by_length: Heap of the entries of each length.
        length_entries: Number of entries in all heaps of `by_length`.
    """

    def __init__(self) -> None:
        self.by_rank: list[Entry] = []
        self.by_length: dict[int, list[Entry]] = {}
        self.length_entries = 0

    def add(self, entry: Entry) -> None:
        """Lets an item wait here."""
        heapq.heappush(self.by_rank, entry)
        heapq.heappush(self.by_length.setdefault(entry[2].length, []), entry)
        self.length_entries += 1

    def first(self) -> Item | None:
        """The waiting item of the lowest rank, which stays."""
        while self.by_rank:
            item = self.by_rank[0][2]
            if item.is_waiting:
                return item
            heapq.heappop(self.by_rank)
        return None

    def pop(self) -> Item | None:
        """Takes the waiting item of the lowest rank."""
        item = self.first()
        if item is not None:
            heapq.heappop(self.by_rank)
        return item

    def pop_length(self, length: int, may_be_taken: Callable[[Item], bool]) -> Item | None:
        """Takes the waiting item of this length that has the lowest rank, if it may be taken."""
        while entries := self.by_length.get(length):
            item = entries[0][2]
            if item.is_waiting and not may_be_taken(item):
                return None
            heapq.heappop(entries)
            self.length_entries -= 1
            if item.is_waiting:
                return item
        self.by_length.pop(length, None)
        return None

    def lengths_near(self, length: int, *, max_padding: float) -> Iterator[int]:
        """Lengths of waiting items, nearest first, as far as the bound of padding reaches."""
        reach = math.ceil(length * max_padding / (1 - max_padding))
        for distance in range(reach + 1):
            if length - distance in self.by_length:
                yield length - distance
            if distance and length + distance in self.by_length:
                yield length + distance

    def clear(self) -> None:
        """Forgets all items."""
        self.by_rank.clear()
        self.by_length.clear()
        self.length_entries = 0

    def compact(self, bound: int) -> None:
        """Forgets items that wait no more, once there are more entries than the bound."""
        if len(self.by_rank) > bound:
            self.by_rank = _waiting(self.by_rank)
        if self.length_entries > bound:
            kept = {length: _waiting(entries) for length, entries in self.by_length.items()}
            self.by_length = {length: entries for length, entries in kept.items() if entries}
            self.length_entries = sum(map(len, self.by_length.values()))


def _waiting(entries: list[Entry]) -> list[Entry]:
    """The heap without items that wait no more."""
    kept = [entry for entry in entries if entry[2].is_waiting]
    heapq.heapify(kept)
    return kept
