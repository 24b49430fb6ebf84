"""Texts that wait, in the order of their ranks and by their lengths."""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Callable, Hashable, Iterator


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
        request: The queue's own.
        joined: Equal items that left with it, to be served by its run; later ones may follow.
    """

    length: int
    flow: Hashable
    deadline_s: float = math.inf
    payload: object = None
    key: Hashable = None
    waiting: bool = False
    request: Request | None = None
    joined: list[Item] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True, eq=False)
class Request:
    """Items that were added together.

    Attributes:
        rank: Its place, see `batching`.
        waiting_tokens: Of those that still wait.
        small: Whether all of them fit in one batch.
        near: Whether its items may be mates.
        begun: Whether one of its items was taken.
        failed: Whether one of its items came too late, and so all of it.
    """

    rank: float
    waiting_tokens: int
    small: bool
    near: bool = False
    begun: bool = False
    failed: bool = False


Entry = tuple[float, int, Item]
"""Rank, order of arrival, item: entries of a heap, which never come to compare items."""


class Pool:
    """Items that may be taken by rank, or by length and then by rank. Taken ones are left out."""

    def __init__(self) -> None:
        self.by_rank: list[Entry] = []
        self.by_length: dict[int, list[Entry]] = {}
        self.length_entries = 0

    def add(self, entry: Entry) -> None:
        """Lets an item wait here."""
        heapq.heappush(self.by_rank, entry)
        heapq.heappush(self.by_length.setdefault(entry[2].length, []), entry)
        self.length_entries += 1

    def pop(self) -> Item | None:
        """Takes the item of the lowest rank."""
        while self.by_rank:
            item = heapq.heappop(self.by_rank)[2]
            if item.waiting:
                return item
        return None

    def pop_length(self, length: int, may_be_taken: Callable[[Item], bool]) -> Item | None:
        """Takes the item of the lowest rank of those of this length, if it may be."""
        while entries := self.by_length.get(length):
            item = entries[0][2]
            if item.waiting and not may_be_taken(item):
                return None
            heapq.heappop(entries)
            self.length_entries -= 1
            if item.waiting:
                return item
        self.by_length.pop(length, None)
        return None

    def lengths_near(self, length: int, *, max_padding: float) -> Iterator[int]:
        """Lengths that waiting items may have, nearest first, within the bound of padding."""
        reach = math.ceil(length * max_padding / (1 - max_padding))
        for distance in range(reach + 1):
            if length - distance in self.by_length:
                yield length - distance
            if distance and length + distance in self.by_length:
                yield length + distance

    def clear(self) -> None:
        """Forgets all."""
        self.by_rank.clear()
        self.by_length.clear()
        self.length_entries = 0

    def compact(self, bound: int) -> None:
        """Forgets items that wait no more once there are more entries than this."""
        if len(self.by_rank) > bound:
            self.by_rank = _waiting(self.by_rank)
        if self.length_entries > bound:
            kept = {length: _waiting(entries) for length, entries in self.by_length.items()}
            self.by_length = {length: entries for length, entries in kept.items() if entries}
            self.length_entries = sum(map(len, self.by_length.values()))


def _waiting(entries: list[Entry]) -> list[Entry]:
    """The heap without items that wait no more."""
    kept = [entry for entry in entries if entry[2].waiting]
    heapq.heapify(kept)
    return kept
