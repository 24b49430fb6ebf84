"""Texts that need not be encoded again: what makes two equal, a cache of vectors, counters."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from unitvec_server.engine.jobs import Share, served_by, share_of
from unitvec_server.policy.items import Item

logger = logging.getLogger(__name__)

ENTRY_OVERHEAD_BYTES = 256
"""Counted for each cached vector beside its key and its data. CPython's ordered table has at most
6 slots an entry, just after it grew, of 4 + 16 + 8 bytes, and a node of 40; allocators round key
and data up by some 24 each."""

_SPACE_BYTES = 4
_ID_TYPE = np.dtype("<u4")  # tokenizers' own type for ids


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


def cache_key(input_ids: npt.NDArray[np.int64], *, space: int) -> bytes:
    """A compact key for a text: equal only for equal ids of the same space.

    Args:
        input_ids: (S,) int64, from 0 to 2**32 - 1.
        space: Number of the model.
    """
    return space.to_bytes(_SPACE_BYTES, "little") + input_ids.astype(_ID_TYPE).tobytes()


class VectorCache:
    """The vectors used last, bounded in bytes. Not thread-safe: the scheduler holds its lock.

    Args:
        max_bytes: Most bytes of keys, vectors and overhead; 0 keeps nothing.
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
    """What became of all texts so far; each answered one is encoded, joined or a hit.

    Attributes:
        encoded: Texts that a model ran on, with success.
        joined: Texts answered by the run of an equal one, of their own request or another.
        hits: Texts answered by the cache.
        misses: Texts that the cache did not know; 0 without a cache.
        evictions: Vectors dropped from the cache for want of room.
        held_bytes: Bytes that the cache holds now: keys, vectors and overhead.
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

    def answer(self, items: list[Item], *, space: int) -> list[Item]:
        """Fills the rows of the texts that are cached.

        Args:
            items: Distinct texts of one request.
            space: Number of their model.

        Returns:
            The others.
        """
        if self._cache is None:
            return items
        return [item for item in items if not self._answer(self._cache, share_of(item), space)]

    def _answer(self, cache: VectorCache, share: Share, space: int) -> bool:
        vector = cache.get(cache_key(share.input_ids, space=space))
        if vector is None:
            self._misses += len(share.indices)
            return False
        self._hits += len(share.indices)
        share.fill(vector)
        return True

    def record(self, batch: list[Item], vectors: npt.NDArray[np.float32], *, space: int) -> None:
        """Counts a run that succeeded and caches its vectors, before its jobs are completed.

        Args:
            batch: B texts, with those that joined them.
            vectors: (B, D) float32.
            space: Number of their model.
        """
        self._encoded += len(batch)
        for item, vector in zip(batch, vectors, strict=True):
            share = share_of(item)
            if item.joined or len(share.indices) > 1:
                # A run may answer nobody: all who wanted it have left.
                self._joined += max(0, _wanted_texts(item) - 1)
            if self._cache is not None:
                self._cache.put(cache_key(share.input_ids, space=space), vector)

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
    shares = [share_of(served) for served in served_by(item)]
    return sum(len(share.indices) for share in shares if not share.job.settled)
