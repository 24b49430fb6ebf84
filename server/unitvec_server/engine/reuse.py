"""Texts that need not be encoded again: which are equal, a cache of their vectors, counters."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from unitvec_server.engine.pending import Slot, served_by
from unitvec_server.policy.items import Item

logger = logging.getLogger(__name__)

ENTRY_OVERHEAD_BYTES = 256
"""Counted for each cached vector beside its key and its data. CPython's ordered table has at most
6 slots an entry, just after it grew, of 4 + 16 + 8 bytes, and a node of 40; allocators round key
and data up by some 24 each."""

_NUMBER_BYTES = 4
_ID_TYPE = np.dtype("<i4")  # signed, for ids that are marked as left out of pooling


def equal_texts(rows: Sequence[npt.NDArray[np.int64]]) -> dict[bytes, list[int]]:
    """Groups texts by their token ids: (S,) int64 each.

    Returns:
        Indices of equal texts by key, in the order of the first of each.
    """
    texts: dict[bytes, list[int]] = {}
    for index, row in enumerate(rows):
        key = row.tobytes()
        # A setdefault would make a list for each text in vain: this runs for every text.
        if key in texts:
            texts[key].append(index)
        else:
            texts[key] = [index]
    return texts


def cache_key(input_ids: npt.NDArray[np.int64], *, model_number: int) -> bytes:
    """A compact key for a text: equal only for equal ids of the same model.

    Args:
        input_ids: Token ids (S,) int64, from -2**31 to 2**31 - 1.
        model_number: Number of the model.
    """
    return model_number.to_bytes(_NUMBER_BYTES, "little") + input_ids.astype(_ID_TYPE).tobytes()


class VectorCache:
    """The vectors used last, bounded in bytes. Not thread-safe: the scheduler holds its lock.

    Args:
        max_bytes: Most bytes of keys, vectors and overhead; 0 keeps nothing.

    Attributes:
        held_bytes: Number of bytes held now.
        evictions: Number of vectors dropped for want of room.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, bytes] = OrderedDict()
        self.held_bytes = 0
        self.evictions = 0

    def get(self, key: bytes) -> npt.NDArray[np.float32] | None:
        """The vector of this key, (D,) float32 and read-only; None if it is not held."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return np.frombuffer(entry, np.float32)

    def put(self, key: bytes, vector: npt.NDArray[np.float32]) -> None:
        """Keeps a copy of a vector (D,), at the cost of those used longest ago."""
        entry = vector.tobytes()
        size_bytes = _size_bytes(key, entry)
        if size_bytes > self._max_bytes:
            return
        replaced = self._entries.pop(key, None)
        if replaced is not None:
            self.held_bytes -= _size_bytes(key, replaced)
        while self.held_bytes + size_bytes > self._max_bytes:
            self.held_bytes -= _size_bytes(*self._entries.popitem(last=False))
            self.evictions += 1
        self._entries[key] = entry
        self.held_bytes += size_bytes


def _size_bytes(key: bytes, entry: bytes) -> int:
    return sys.getsizeof(key) + sys.getsizeof(entry) + ENTRY_OVERHEAD_BYTES


@dataclasses.dataclass(frozen=True)
class ReuseCounts:
    """Counts of all texts so far; each answered text was encoded, joined or a hit.

    Attributes:
        encoded: Number of texts that a model ran on, with success.
        joined: Number of texts answered by the run of an equal one, of any request.
        hits: Number of texts answered by the cache.
        misses: Number of texts that the cache did not know; 0 without a cache.
        evictions: Number of vectors dropped from the cache for want of room.
        held_bytes: Number of bytes that the cache holds now: keys, vectors and overhead.
    """

    encoded: int
    joined: int
    hits: int
    misses: int
    evictions: int
    held_bytes: int

    def log(self) -> None:
        """One line at level info, if there was any text."""
        if self.encoded or self.hits:
            logger.info(
                "%d texts encoded, %d joined an equal text in flight; "
                "cache: %d hits, %d misses, %d evictions, %d bytes held",
                *dataclasses.astuple(self),
            )


class Reuse:
    """The cache with its counters. Not thread-safe: the scheduler holds its lock.

    Args:
        cache_bytes: Bound of the cache; 0 turns it off.
    """

    def __init__(self, cache_bytes: int) -> None:
        self._cache = VectorCache(cache_bytes) if cache_bytes else None
        self._encoded = self._joined = self._hits = self._misses = 0

    def answer(self, items: list[Item], *, model_number: int) -> list[Item]:
        """Fills the rows of the texts that are cached.

        Args:
            items: Distinct texts of one request.
            model_number: Number of their model.

        Returns:
            The texts that are not cached.
        """
        cache = self._cache
        if cache is None:
            return items
        return [item for item in items if not self._answer(cache, item.payload, model_number)]

    def _answer(self, cache: VectorCache, slot: Slot, model_number: int) -> bool:
        vector = cache.get(cache_key(slot.input_ids, model_number=model_number))
        if vector is None:
            self._misses += len(slot.indices)
            return False
        self._hits += len(slot.indices)
        slot.fill(vector)
        return True

    def record(
        self, batch: list[Item], vectors: npt.NDArray[np.float32], *, model_number: int
    ) -> None:
        """Counts a run that succeeded and caches its vectors, before its requests are completed.

        Args:
            batch: B texts, with those that joined them.
            vectors: Matrix (B, D) float32.
            model_number: Number of their model.
        """
        self._encoded += len(batch)
        for item, vector in zip(batch, vectors, strict=True):
            slot: Slot = item.payload
            if item.joined or len(slot.indices) > 1:
                # A run may answer nobody: all who wanted it may have left.
                self._joined += max(0, _wanted_texts(item) - 1)
            if self._cache is not None:
                self._cache.put(cache_key(slot.input_ids, model_number=model_number), vector)

    def counts(self) -> ReuseCounts:
        """The counters as they stand."""
        cache = self._cache or VectorCache(0)
        return ReuseCounts(
            self._encoded,
            self._joined,
            self._hits,
            self._misses,
            cache.evictions,
            cache.held_bytes,
        )


def _wanted_texts(item: Item) -> int:
    slots: list[Slot] = [served.payload for served in served_by(item)]
    return sum(len(slot.indices) for slot in slots if not slot.request.is_done)
