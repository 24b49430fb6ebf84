"""The order of answers, and who is in flight, whatever an adapter does."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.harness.adapter import Call, ConcurrentAdapter, SequentialAdapter, Vectors


def lengths_of(texts: list[str]) -> Vectors:
    """A vector that tells which text it is of."""
    return np.array([[len(text), 1] for text in texts], np.float32)


class Lengths(SequentialAdapter):
    token_limit = 8

    def embed(self, texts: list[str]) -> Vectors:
        return lengths_of(texts)


class Shuffled(ConcurrentAdapter):
    """Answers late requests first, and notes how many are in flight."""

    token_limit = 8

    def __init__(self) -> None:
        super().__init__()
        self.in_flight = self.most_in_flight = 0

    async def embed(self, texts: list[str]) -> Vectors:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        for _ in range(len(texts[0]) % 3):
            await asyncio.sleep(0)
        self.in_flight -= 1
        return lengths_of(texts)


@given(count=st.integers(1, 50), size=st.integers(0, 60))
def test_requests_hold_all_texts_in_order(count: int, size: int) -> None:
    texts = [str(index) for index in range(count)]
    requests = Call(size).requests(texts)
    assert [text for request in requests for text in request] == texts
    assert all(0 < len(request) <= (size or count) for request in requests)


@pytest.mark.parametrize("call", [Call(), Call(1), Call(3), Call(1, 4), Call(2, 64)])
def test_vectors_come_back_in_the_order_of_the_texts(call: Call) -> None:
    texts = ["x" * (index % 7) for index in range(20)]
    for adapter in (Lengths(), Shuffled()):
        outcome = adapter.prepare(texts, call)()
        np.testing.assert_array_equal(outcome.vectors, lengths_of(texts))
        assert len(outcome.latencies_ns) == len(call.requests(texts))
        assert min(outcome.latencies_ns) > 0


@pytest.mark.parametrize("concurrency", [1, 2, 5])
def test_as_many_requests_as_asked_for_are_in_flight(concurrency: int) -> None:
    adapter = Shuffled()
    adapter.prepare(["xx"] * 20, Call(1, concurrency))()
    assert adapter.most_in_flight == concurrency


def test_a_failed_request_fails_the_pass() -> None:
    class Failing(Shuffled):
        async def embed(self, texts: list[str]) -> Vectors:
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        Failing().prepare(["a", "b"], Call(1, 2))()
