"""The memory of all StreamSimilarity together."""

from __future__ import annotations

import contextlib
import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitvec_server.config import FixedLimits
from unitvec_server.engine.requests import Caller
from unitvec_server.errors import InvalidRequest, Overloaded
from unitvec_server.rpc.documents import Corpora, Corpus

DIM = 4
ROW_BYTES = 4 * DIM


class NoEngine:
    """Documents that come as vectors need none."""

    def model(self, name: str) -> None:
        """The default model, of which nothing is asked."""


def corpus(corpora: Corpora, *, max_documents: int = 1000) -> Corpus:
    """A stream that holds nothing yet."""
    limits = FixedLimits(max_stream_documents=max_documents)
    return Corpus(NoEngine(), Caller("flow"), limits=limits, corpora=corpora)  # type: ignore[arg-type]


def documents(count: int, *, first: int = 0) -> np.ndarray:
    """(count, DIM) float32, all different."""
    return np.arange(first * DIM, (first + count) * DIM, dtype=np.float32).reshape(count, DIM)


def test_grows_by_doubling_and_by_need_where_memory_is_short() -> None:
    corpora = Corpora(100 * ROW_BYTES)
    stream = corpus(corpora)
    for count in (10, 1, 9, 20, 15):  # beside each other while they are copied: 10, 10 + 20 ...
        stream._add(documents(count, first=stream._count))
    np.testing.assert_array_equal(stream._documents[:55], documents(55))
    assert corpora.held_bytes == stream._documents.nbytes <= 60 * ROW_BYTES


def test_refused_for_now_and_what_is_there_stays() -> None:
    """Not for good: other streams will end."""
    corpora = Corpora(50 * ROW_BYTES)
    first, second = corpus(corpora), corpus(corpora)
    first._add(documents(30))
    with pytest.raises(Overloaded, match="max_corpora_bytes") as caught:
        second._add(documents(30))
    assert caught.value.retry_delay_s > 0
    second._add(documents(20))
    np.testing.assert_array_equal(second._documents[:20], documents(20))
    first.close()
    assert corpora.held_bytes == 20 * ROW_BYTES
    second._add(documents(5))
    assert second._count == 25


def test_a_query_still_running_holds_what_it_compares() -> None:
    """Its stream may be gone; the memory is not, and is counted."""
    corpora = Corpora(100 * ROW_BYTES)
    stream = corpus(corpora)
    stream._add(documents(10))
    compared = stream._documents[:10]
    stream.close()
    assert corpora.held_bytes == 10 * ROW_BYTES
    np.testing.assert_array_equal(compared, documents(10))
    del compared
    assert corpora.held_bytes == 0


def test_a_stream_that_ends_in_the_middle_of_an_addition() -> None:
    """It runs on in its thread and lets go of its memory with the corpus."""
    corpora = Corpora(100 * ROW_BYTES)
    stream = corpus(corpora)
    stream.close()
    stream._add(documents(10))
    assert corpora.held_bytes == 10 * ROW_BYTES
    del stream
    gc.collect()
    assert corpora.held_bytes == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40)), max_size=40))
def test_never_beyond_the_bound_and_all_comes_back(steps: list[tuple[int, int]]) -> None:
    """Streams that add and, at random, end."""
    corpora = Corpora(100 * ROW_BYTES)
    streams = [corpus(corpora, max_documents=60) for _ in range(4)]
    for index, count in steps:
        if count == 40:
            streams[index].close()
            continue
        with contextlib.suppress(Overloaded, InvalidRequest):
            streams[index]._add(documents(count))
        held = sum(stream._documents.nbytes for stream in streams)
        assert held == corpora.held_bytes <= 100 * ROW_BYTES
    for stream in streams:
        stream.close()
    assert corpora.held_bytes == 0
