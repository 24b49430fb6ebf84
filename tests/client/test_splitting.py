"""Splitting: every item once, in order, within every bound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from unitvec_client.core.splitting import Budget, split

budgets = st.builds(
    Budget,
    items=st.integers(1, 20),
    request_bytes=st.integers(1, 500),
    reply_items=st.integers(1, 20),
    tokens=st.integers(1, 200),
    item_tokens=st.integers(1, 50),
)


@given(st.lists(st.integers(0, 600), max_size=80), budgets)
def test_ranges_cover_everything_within_the_budget(sizes: list[int], budget: Budget) -> None:
    ranges = list(split(sizes, budget))
    assert [i for start, stop in ranges for i in range(start, stop)] == list(range(len(sizes)))
    for start, stop in ranges:
        n = stop - start
        assert n >= 1
        if n == 1:
            continue
        assert n <= min(budget.items, budget.reply_items)
        assert sum(sizes[start:stop]) <= budget.request_bytes
        assert sum(min(size, budget.item_tokens) for size in sizes[start:stop]) <= budget.tokens


@given(st.lists(st.integers(0, 600), max_size=80), budgets)
def test_no_range_could_take_the_next_item(sizes: list[int], budget: Budget) -> None:
    for _, stop in list(split(sizes, budget))[:-1]:
        start = next(s for s, e in split(sizes, budget) if e == stop)
        measure = budget.measure()
        for size in sizes[start:stop]:
            measure.add(size)
        assert not measure.fits(sizes[stop])
