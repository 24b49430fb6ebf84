"""Statistics and time series, against numpy and against counts made by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitvec_loadtest.pacer import NS_PER_S
from unitvec_loadtest.results import Answer, Outcome, Result, Results, ServerTimings
from unitvec_loadtest.series import slice_run
from unitvec_loadtest.statistics import Span, describe, percentiles, summarize

MS = 1_000_000
SPAN_1S = Span(0, NS_PER_S)


def record(
    *, due: float, sent: float | None = None, done: float, measured: bool = True, **answer: object
) -> Result:
    """A record with times in ms."""
    outcome = answer.pop("outcome", Outcome.OK)
    sent = due if sent is None else sent
    return Result(
        *(round(time * MS) for time in (due, sent, done)), 2, measured, Answer(outcome, **answer)
    )


def collect(*records: Result) -> Results:
    """Results that hold some records."""
    results = Results()
    for item in records:
        results.add(item)
    return results


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=300), st.floats(0.1, 100))
def test_percentiles_are_nearest_rank(values: list[int], rank: float) -> None:
    """The definition: the least observed value that at least q percent do not exceed."""
    (got,) = percentiles(np.array(values), (rank,))
    assert got in values
    needed = rank / 100 * len(values)
    assert sum(value <= got for value in values) >= needed - 1e-6
    assert sum(value < got for value in values) < needed + 1e-6


def test_describe_agrees_with_numpy() -> None:
    """Mean, maximum and percentiles of 50,000 lognormal times are those of numpy."""
    values_ns = np.random.default_rng(3).lognormal(16, 0.7, 50_000).astype(np.int64)
    got = describe(values_ns)
    assert got is not None
    expected = np.percentile(values_ns / MS, (50, 90, 95, 99, 99.9))
    measured = (got.p50_ms, got.p90_ms, got.p95_ms, got.p99_ms, got.p99_9_ms)
    np.testing.assert_allclose(measured, expected, rtol=5e-3)
    assert got.mean_ms == pytest.approx(values_ns.mean() / MS)
    assert got.max_ms == values_ns.max() / MS
    assert got.count == 50_000


def test_describe_nothing() -> None:
    """There are no percentiles of no observations."""
    assert describe(np.array([], dtype=np.int64)) is None


def test_latency_runs_from_the_due_time() -> None:
    """A stalled sender's delay is in the latency, and not in the service time."""
    results = collect(record(due=10, sent=110, done=115))
    summary = summarize(results.columns(), span=SPAN_1S, asked_rate_per_s=7)
    assert summary.latency is not None
    assert summary.service is not None
    assert summary.lag is not None
    assert (summary.latency.p50_ms, summary.service.p50_ms, summary.lag.p50_ms) == (105, 5, 100)
    assert summary.asked_rate_per_s == 7


def test_overhead_is_what_the_server_does_not_account_for() -> None:
    """Service time less the server's total; server timings under their names."""
    timings = ServerTimings(1 * MS, 2 * MS, 3 * MS, 7 * MS)
    results = collect(record(due=0, sent=1, done=11, timings=timings))
    summary = summarize(results.columns(), span=SPAN_1S)
    assert summary.overhead is not None
    assert summary.overhead.p99_ms == 3
    server = {name: times.p50_ms for name, times in summary.server.items() if times}
    assert server == {"tokenize": 1, "queue": 2, "infer": 3, "total": 7}


def test_failures_are_counted_and_kept_out_of_the_latency() -> None:
    """Errors by code, most frequent first, with the first message of each."""
    results = collect(
        record(due=0, done=1),
        record(due=0, done=500, outcome=Outcome.UNAVAILABLE, message="gone"),
        *(record(due=0, done=2, outcome=Outcome.INTERNAL, message=f"bug {n}") for n in range(3)),
        record(due=0, done=2, outcome=Outcome.ABORTED, message="warm-up", measured=False),
    )
    summary = summarize(results.columns(), span=SPAN_1S, examples=results.examples)
    errors = [(error.outcome.name, error.count, error.example) for error in summary.errors]
    assert errors == [("INTERNAL", 3, "bug 0"), ("UNAVAILABLE", 1, "gone")]
    assert (summary.sent, summary.succeeded, summary.failed) == (5, 1, 4)
    assert summary.latency is not None
    assert summary.latency_all is not None
    assert (summary.latency.max_ms, summary.latency_all.max_ms) == (1, 500)


def test_throughput_counts_what_arrives_in_the_window() -> None:
    """Whenever it was sent; failures and what arrives later do not count."""
    results = collect(
        record(due=0, done=999, tokens=100, measured=False),
        record(due=900, done=1000, tokens=10, measured=False),
        record(due=1000, done=1500, tokens=10),
        record(due=1500, done=1600, outcome=Outcome.INTERNAL),
        record(due=2900, done=3000, tokens=10),
    )
    span = Span(NS_PER_S, 3 * NS_PER_S)
    summary = summarize(results.columns(), span=span)
    assert summary.window_s == 2
    assert summary.requests_per_s == 2 / 2
    assert summary.texts_per_s == 4 / 2
    assert summary.tokens_per_s == 20 / 2
    assert summary.rate_per_s == 3 / 2


def test_a_backlog_of_the_warm_up_is_no_throughput() -> None:
    """A server that stalls in the warm-up answers more in the window than was sent in it."""
    backlog = [record(due=10 * n, done=1000 + n, tokens=99, measured=False) for n in range(100)]
    sent = [record(due=1000 + 100 * n, done=1001 + 100 * n, tokens=5) for n in range(10)]
    late = record(due=1990, sent=2010, done=2020, tokens=5)
    summary = summarize(collect(*backlog, *sent, late).columns(), span=Span(NS_PER_S, 2 * NS_PER_S))
    assert (summary.rate_per_s, summary.requests_per_s) == (10, 10)
    assert (summary.texts_per_s, summary.tokens_per_s) == (20, 50)


@given(
    st.lists(st.tuples(st.integers(0, 2999), st.integers(0, 900), st.integers(0, 2000))),
    st.booleans(),
)
def test_throughput_is_never_above_the_rate(times: list[tuple[int, int, int]], fails: bool) -> None:
    """Whatever was late, slow, or sent before the window."""
    records = [
        record(due=due, sent=due + lag, done=due + lag + took, measured=due >= 1000)
        for due, lag, took in times
    ]
    if fails:
        records.append(record(due=1500, done=1600, outcome=Outcome.INTERNAL))
    summary = summarize(collect(*records).columns(), span=Span(NS_PER_S, 3 * NS_PER_S))
    assert summary.requests_per_s <= summary.rate_per_s


def test_a_count_ends_with_its_last_answer() -> None:
    """Throughput is over the time to the last answer; the rate over the gaps between sendings."""
    results = collect(*(record(due=100 * n, done=100 * n + 200) for n in range(4)))
    summary = summarize(results.columns(), span=Span(0, None))
    assert summary.window_s == 0.5
    assert summary.requests_per_s == 8
    assert summary.rate_per_s == pytest.approx(10)


def test_fast_answers_to_a_count_are_no_more_than_were_sent() -> None:
    """Ten requests at ten a second, answered at once, are ten a second and not eleven."""
    results = collect(*(record(due=100 * n, done=100 * n + 5) for n in range(10)))
    summary = summarize(results.columns(), span=Span(0, None))
    assert summary.rate_per_s == pytest.approx(10)
    assert summary.requests_per_s == pytest.approx(10)


def test_what_was_not_sent_is_no_rate_but_a_failure() -> None:
    """Requests given up count as failed and not as sent per second."""
    given_up = record(due=100, sent=900, done=900, outcome=Outcome.NOT_SENT)
    summary = summarize(collect(record(due=0, done=1), given_up).columns(), span=SPAN_1S)
    assert (summary.failed, summary.rate_per_s) == (1, 1.0)


@pytest.mark.parametrize("span", [SPAN_1S, Span(0, None), Span(5, 5)])
def test_an_empty_run_has_numbers(span: Span) -> None:
    """Nothing measured: zeros and absent distributions, no NaN and no error."""
    summary = summarize(Results().columns(), span=span)
    assert (summary.sent, summary.failed, summary.errors) == (0, 0, ())
    assert summary.latency is None
    assert summary.requests_per_s == summary.rate_per_s == summary.tokens_per_s == 0


@pytest.mark.parametrize("size", [0, 1, 7, 500, 5000])
def test_series_keep_every_request(size: int) -> None:
    """Rates times widths add up to the counts, whatever the size of the run."""
    rng = np.random.default_rng(size)
    outcomes = [Outcome.OK, Outcome.INTERNAL, Outcome.UNAVAILABLE]
    results = collect(
        *(
            record(due=due, done=due + 5, outcome=outcomes[code])
            for due, code in zip(rng.uniform(0, 9000, size), rng.integers(0, 3, size), strict=True)
        )
    )
    columns = results.columns()
    series = slice_run(columns)
    assert series.sent_per_s.sum() * series.width_s == pytest.approx(size)
    assert series.ok_per_s.sum() * series.width_s == pytest.approx(columns.ok.sum())
    for outcome, per_s in series.errors_per_s.items():
        count = (columns.outcome == outcome).sum()
        assert per_s.sum() * series.width_s == pytest.approx(count)
        assert len(per_s) == len(series.centers_s)
    assert set(series.errors_per_s) == set(columns.outcome[~columns.ok])


def test_series_find_the_slow_stretch() -> None:
    """The p99 of a slice is that of the requests due in it; empty slices have none."""
    fast = [record(due=10 * n, done=10 * n + 1) for n in range(100)]
    slow = [record(due=3000 + 10 * n, done=3050 + 10 * n) for n in range(100)]
    series = slice_run(collect(*fast, *slow).columns())
    before, after = series.centers_s < 0.9, series.centers_s > 3.3
    assert set(series.p99_ms[before]) == {1.0}
    assert set(series.p50_ms[after]) == {50.0}
    between = (series.centers_s > 1.3) & (series.centers_s < 2.7)
    assert all(math.isnan(value) for value in series.p50_ms[between])


def test_results_copy_the_latest_records() -> None:
    """A live view of the last records does not stop the results from growing."""
    results = collect(record(due=1, done=2), record(due=3, done=4))
    latest = results.columns(last=1)
    results.add(record(due=5, done=6))
    assert latest.due_ns.tolist() == [3 * MS]
    assert results.columns(last=0).due_ns.tolist() == []
    assert len(results.columns().due_ns) == len(results) == 3
