"""The search for the highest rate, against simulated servers."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitvec_loadtest.search import BACK_OFF, MIN_RATE_PER_S, PRECISION, Search, Stage

MAX_TRIES = 400
Tried = list[tuple[Stage, float, bool]]


def explore(search: Search, holds: Callable[[Stage, float], bool]) -> tuple[Search, Tried]:
    """Runs a search against a server that `holds` a rate or does not."""
    tried: Tried = []
    while not search.done:
        held = holds(search.stage, search.rate_per_s)
        tried.append((search.stage, search.rate_per_s, held))
        search = search.after(held=held)
        assert len(tried) <= MAX_TRIES
    return search, tried


rates = st.floats(min_value=1, max_value=50_000)


@given(capacity=rates, start=rates)
def test_finds_the_capacity(capacity: float, start: float) -> None:
    """A server that holds up to its capacity: the find is under it by the precision at most."""
    found, tried = explore(Search(start, 100_000), lambda _, rate: rate <= capacity)
    assert found.stage is Stage.FOUND
    assert capacity / (1 + PRECISION) <= found.rate_per_s <= capacity
    # 17 rates double from 1 past 50,000, bisecting an octave to 5 % takes 5, and one confirms.
    assert len(tried) <= 17 + 5 + 1


@given(rate=st.floats(1, 1000), limit=st.floats(1, 1000))
def test_stays_under_the_limit(rate: float, limit: float) -> None:
    """A server that holds everything is never asked for more than the limit."""
    found, tried = explore(Search(min(rate, limit), limit), lambda _, rate: True)
    assert found.rate_per_s == limit
    assert max(rate for _, rate, _ in tried) == limit


@given(start=rates)
def test_nothing_holds(start: float) -> None:
    """A server that fails at every rate ends the search with none."""
    found, tried = explore(Search(start, 100_000), lambda *_: False)
    assert found.stage is Stage.NONE_HOLDS
    assert found.rate_per_s == 0
    assert min(rate for _, rate, _ in tried) >= MIN_RATE_PER_S


@given(burst=rates, sustained=st.floats(0.3, 1))
def test_backs_off_to_what_lasts(burst: float, sustained: float) -> None:
    """Short steps flatter the server: the confirmation decides, a step of the back-off apart."""
    lasting = burst * sustained

    def holds(stage: Stage, rate: float) -> bool:
        return rate <= (lasting if stage is Stage.CONFIRM else burst)

    found, _ = explore(Search(10, 100_000), holds)
    assert found.stage is Stage.FOUND
    assert lasting * BACK_OFF / (1 + PRECISION) <= found.rate_per_s <= lasting


@given(st.data(), rates)
def test_any_server_ends_it_and_the_find_is_confirmed(data: st.DataObject, start: float) -> None:
    """Whatever a server does the search ends, and a find is the rate that was confirmed last."""
    verdicts = data.draw(st.lists(st.booleans(), max_size=60))
    answers = iter(verdicts)
    found, tried = explore(Search(start, 100_000), lambda *_: next(answers, False))
    assert all(0 < rate <= 100_000 for _, rate, _ in tried)
    if found.stage is Stage.FOUND:
        assert tried[-1] == (Stage.CONFIRM, found.rate_per_s, True)


def test_steps_of_a_search() -> None:
    """The steps to a capacity of 110 from 50, one by one."""
    _, tried = explore(Search(50, 1000), lambda _, rate: rate <= 110)
    assert [(stage.value, rate, held) for stage, rate, held in tried] == [
        ("grow", 50, True),
        ("grow", 100, True),
        ("grow", 200, False),
        ("bisect", 150, False),
        ("bisect", 125, False),
        ("bisect", 112.5, False),
        ("bisect", 106.25, True),
        # 112.5 is 5.9 % over 106.25
        ("bisect", 109.375, True),
        ("confirm", 109.375, True),
    ]


def test_a_finished_search_takes_no_more() -> None:
    """Asking on would make up a state that no run stands behind."""
    found, _ = explore(Search(10, 10), lambda *_: True)
    with pytest.raises(ValueError, match="over"):
        found.after(held=True)
