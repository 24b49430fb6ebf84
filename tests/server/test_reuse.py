"""What makes texts equal, the cache of vectors, and the counters."""

import logging
import tracemalloc
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitvec_server.engine.reuse import (
    ENTRY_OVERHEAD_BYTES,
    ReuseCounts,
    VectorCache,
    cache_key,
    equal_texts,
)

id_lists = st.lists(st.integers(0, 2**32 - 1), max_size=6)


def vector_of(number: int, *, dim: int = 4) -> np.ndarray:
    """A vector that tells its number."""
    return np.full(dim, number, np.float32)


def entry_bytes(key: bytes, *, dim: int = 4) -> int:
    """What one vector takes of the bound."""
    cache = VectorCache(2**20)
    cache.put(key, vector_of(0, dim=dim))
    return cache.held_bytes


class TestEqualTexts:
    """Equal token ids, nothing else."""

    @given(st.lists(st.lists(st.integers(0, 3), max_size=3), min_size=1, max_size=20))
    def test_groups_as_comparing_all_would(self, texts: list[list[int]]) -> None:
        groups = list(equal_texts([np.array(ids, np.int64) for ids in texts]).values())
        expected: dict[tuple[int, ...], list[int]] = {}
        for index, ids in enumerate(texts):
            expected.setdefault(tuple(ids), []).append(index)
        assert groups == list(expected.values())

    @given(id_lists, st.integers(0, 300), id_lists, st.integers(0, 300))
    def test_cache_keys_are_equal_only_for_equal_texts_of_one_model(
        self, ids: list[int], space: int, other_ids: list[int], other_space: int
    ) -> None:
        key = cache_key(np.array(ids, np.int64), model_number=space)
        other = cache_key(np.array(other_ids, np.int64), model_number=other_space)
        assert (key == other) == ((ids, space) == (other_ids, other_space))


class TestCache:
    """Bounded in bytes, least recently used first out."""

    @given(
        st.lists(
            st.tuples(st.booleans(), st.integers(0, 8), st.sampled_from([1, 4, 100])), max_size=80
        ),
        st.integers(0, 1500),
    )
    def test_is_least_recently_used_within_its_bound(
        self, steps: list[tuple[bool, int, int]], max_bytes: int
    ) -> None:
        cache, oracle = VectorCache(max_bytes), OrderedDict[bytes, tuple[int, int]]()
        for is_put, number, dim in steps:
            key = b"k" * number
            if is_put:
                cache.put(key, vector_of(number, dim=dim))
                size_bytes = entry_bytes(key, dim=dim)
                if size_bytes <= max_bytes:
                    oracle.pop(key, None)
                    while sum(size for size, _ in oracle.values()) + size_bytes > max_bytes:
                        oracle.popitem(last=False)
                    oracle[key] = (size_bytes, dim)
            else:
                held = cache.get(key)
                assert (held is None) == (key not in oracle)
                if held is not None:
                    oracle.move_to_end(key)
                    np.testing.assert_array_equal(held, vector_of(number, dim=oracle[key][1]))
            assert cache.held_bytes == sum(size for size, _ in oracle.values()) <= max_bytes

    def test_evictions_are_counted(self) -> None:
        cache = VectorCache(3 * entry_bytes(b"0"))
        for number in range(10):
            cache.put(b"%d" % number, vector_of(number))
        assert cache.evictions == 7
        assert [cache.get(b"%d" % number) is not None for number in range(10)] == [False] * 7 + [
            True
        ] * 3

    def test_what_was_asked_for_last_stays(self) -> None:
        cache = VectorCache(2 * entry_bytes(b"a"))
        cache.put(b"a", vector_of(1))
        cache.put(b"b", vector_of(2))
        cache.get(b"a")
        cache.put(b"c", vector_of(3))
        assert [cache.get(key) is not None for key in (b"a", b"b", b"c")] == [True, False, True]

    def test_keeps_copies(self) -> None:
        cache, batch = VectorCache(2**20), np.ones((2, 4), np.float32)
        cache.put(b"k", batch[0])
        batch[:] = 7
        held = cache.get(b"k")
        assert held is not None
        assert held.tolist() == [1, 1, 1, 1]
        assert held.base is not batch
        assert not held.flags.writeable

    @pytest.mark.parametrize("entries", [1000, 21_900])
    def test_bound_covers_what_memory_is_taken(self, entries: int) -> None:
        """Also where the table has just grown, and after many came and went."""
        size_bytes = entry_bytes(cache_key(np.arange(20), model_number=0), dim=8)
        cache = VectorCache(entries * size_bytes)
        tracemalloc.start()
        try:
            before_bytes, _ = tracemalloc.get_traced_memory()
            for number in range(2 * entries):
                key = cache_key(np.arange(number, number + 20), model_number=0)
                cache.put(key, vector_of(number, dim=8))
                if number % 100 == 0:
                    taken_bytes = tracemalloc.get_traced_memory()[0] - before_bytes
                    # The empty table and this loop's own objects are not entries.
                    assert taken_bytes <= cache.held_bytes + 4096
        finally:
            tracemalloc.stop()
        assert cache.evictions == entries

    def test_overhead_is_counted(self) -> None:
        assert entry_bytes(b"") > ENTRY_OVERHEAD_BYTES + 16


class TestCounts:
    """The line in the log."""

    def test_says_all(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO):
            ReuseCounts(1, 2, 3, 4, 5, 6).log()
        assert caplog.messages == [
            (
                "1 texts encoded, 2 joined an equal text in flight; "
                "cache: 3 hits, 4 misses, 5 evictions, 6 bytes held"
            )
        ]

    def test_is_silent_if_nothing_ran(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO):
            ReuseCounts(0, 0, 0, 0, 0, 0).log()
        assert caplog.messages == []
