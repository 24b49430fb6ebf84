"""The pacer: when requests are due, and which of them count."""

from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitvec_loadtest.pacer import (
    NS_PER_S,
    ConstantPacer,
    Phase,
    PoissonPacer,
    Window,
    issue_tickets,
)

rates = st.floats(min_value=0.1, max_value=1e6)
pacers = st.one_of(
    st.builds(ConstantPacer, rates), st.builds(PoissonPacer, rates, seed=st.integers(0, 2**32))
)


@pytest.mark.parametrize(
    ("rate_per_s", "due_ns"),
    [
        pytest.param(1, [0, NS_PER_S, 2 * NS_PER_S], id="one a second"),
        pytest.param(1000, [0, 1_000_000, 2_000_000], id="one a millisecond"),
        pytest.param(3, [0, 333_333_333, 666_666_667, NS_PER_S], id="thirds add up to a whole"),
        pytest.param(0.5, [0, 2 * NS_PER_S], id="one in two seconds"),
    ],
)
def test_constant_pacer(rate_per_s: float, due_ns: list[int]) -> None:
    """The i-th request is due at i / rate."""
    assert due_ns == list(islice(ConstantPacer(rate_per_s).due_ns(), len(due_ns)))


@given(pacers)
def test_due_times_ascend_and_repeat(pacer: ConstantPacer | PoissonPacer) -> None:
    """Due times never go back, and asking again gives the same ones."""
    first = list(islice(pacer.due_ns(), 200))
    assert all(earlier <= later for earlier, later in pairwise(first))
    assert first[0] >= 0
    assert first == list(islice(pacer.due_ns(), 200))


@given(rates, st.integers(1, 10_000))
def test_constant_rate_does_not_drift(rate_per_s: float, number: int) -> None:
    """However many requests came before, each is due within half a nanosecond of its place."""
    due_ns = next(islice(ConstantPacer(rate_per_s).due_ns(), number, None))
    assert due_ns == pytest.approx(number * NS_PER_S / rate_per_s, abs=1, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_poisson_gaps_are_exponential(seed: int) -> None:
    """Mean and standard deviation of the gaps are both 1 / rate, and 1/e of them are longer."""
    rate_per_s, size = 250.0, 20_000
    due_ns = list(islice(PoissonPacer(rate_per_s, seed=seed).due_ns(), size))
    gaps_s = [(later - earlier) / NS_PER_S for earlier, later in pairwise([0, *due_ns])]
    mean_s = sum(gaps_s) / size
    spread_s = (sum((gap - mean_s) ** 2 for gap in gaps_s) / size) ** 0.5
    assert mean_s * rate_per_s == pytest.approx(1, rel=0.04)
    assert spread_s * rate_per_s == pytest.approx(1, rel=0.06)
    assert sum(gap * rate_per_s > 1 for gap in gaps_s) / size == pytest.approx(0.3679, abs=0.02)


def test_poisson_seeds_differ() -> None:
    """Another seed gives other due times."""
    one, two = (list(islice(PoissonPacer(10, seed=seed).due_ns(), 5)) for seed in (1, 2))
    assert one != two


@pytest.mark.parametrize(
    ("window", "due_ns", "measured", "phase"),
    [
        pytest.param(Window(10, duration_ns=5), 9, 0, Phase.WARMUP, id="before the window"),
        pytest.param(Window(10, duration_ns=5), 10, 0, Phase.MEASURE, id="its first moment"),
        pytest.param(Window(10, duration_ns=5), 14, 99, Phase.MEASURE, id="its last moment"),
        pytest.param(Window(10, duration_ns=5), 15, 0, Phase.STOP, id="its end is not in it"),
        pytest.param(Window(0, duration_ns=5), 0, 0, Phase.MEASURE, id="no warm-up"),
        pytest.param(Window(10, count=3), 9, 3, Phase.WARMUP, id="warm-up comes before a count"),
        pytest.param(Window(10, count=3), 99, 2, Phase.MEASURE, id="the last of a count"),
        pytest.param(Window(10, count=3), 99, 3, Phase.STOP, id="the count is reached"),
    ],
)
def test_window(window: Window, due_ns: int, measured: int, phase: Phase) -> None:
    """A window is half open, and a count does not include the warm-up."""
    assert phase is window.phase(due_ns, measured=measured)


@pytest.mark.parametrize("bounds", [{}, {"duration_ns": 1, "count": 1}])
def test_window_has_one_end(bounds: dict[str, int]) -> None:
    """A window without an end would never stop; one with two would be ambiguous."""
    with pytest.raises(ValueError, match="give one"):
        Window(0, **bounds)


@given(pacers, st.integers(0, NS_PER_S // 100), st.integers(1, 300))
def test_a_count_issues_exactly_that_many(
    pacer: ConstantPacer | PoissonPacer, warmup_ns: int, count: int
) -> None:
    """Numbers run without gaps, warm-up comes first, and `count` requests are measured."""
    tickets = list(issue_tickets(pacer, Window(warmup_ns, count=count)))
    assert count == sum(ticket.measured for ticket in tickets)
    assert list(range(len(tickets))) == [ticket.number for ticket in tickets]
    assert all(ticket.measured == (ticket.due_ns >= warmup_ns) for ticket in tickets)


@given(st.floats(1, 2000), st.integers(0, NS_PER_S), st.integers(0, NS_PER_S))
def test_a_duration_issues_the_rate(rate_per_s: float, warmup_ns: int, duration_ns: int) -> None:
    """A constant rate fills any window with rate x duration requests, to within one."""
    window = Window(warmup_ns, duration_ns=duration_ns)
    tickets = list(issue_tickets(ConstantPacer(rate_per_s), window))
    expected = rate_per_s * duration_ns / NS_PER_S
    assert abs(sum(ticket.measured for ticket in tickets) - expected) <= 1
    assert all(ticket.due_ns < warmup_ns + duration_ns for ticket in tickets)
