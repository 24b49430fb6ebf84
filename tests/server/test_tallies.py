"""Histograms and what is counted with them."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from unitvec_server.engine.counters import (
    BATCH_TEXTS,
    BATCH_TOKENS,
    SECONDS,
    BatchTally,
    EmbedTally,
    Histogram,
    Work,
)
from unitvec_server.policy.items import Item


def test_bounds_ascend() -> None:
    """Or values would be counted in the wrong bucket."""
    for bounds in (SECONDS, BATCH_TEXTS, BATCH_TOKENS):
        assert sorted(set(bounds)) == list(bounds)
    assert (SECONDS[:4], SECONDS[-3:]) == ((0.0001, 0.00025, 0.0005, 0.001), (5.0, 10.0, 30.0))
    assert (BATCH_TEXTS[-1], BATCH_TOKENS[-1]) == (1024, 16384)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 4.0, 5.0]) | st.floats(0, 10)))
def test_a_histogram_counts_what_is_up_to_each_bound(values: list[float]) -> None:
    """As Prometheus means it: the bound itself is inside."""
    histogram = Histogram((1.0, 2.0, 4.0))
    for value in values:
        histogram.observe(value)
    counts, total = histogram.read()
    cumulative = list(itertools.accumulate(counts))
    assert cumulative[:-1] == [sum(value <= bound for value in values) for bound in (1, 2, 4)]
    assert cumulative[-1] == len(values)
    assert total == sum(values)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_padding_is_what_a_rectangle_has_beside_its_texts(lengths: list[int]) -> None:
    tally = BatchTally()
    tally.begin([Item(length, None) for length in lengths], sum(lengths))
    assert tally.padding_tokens == sum(max(lengths) - length for length in lengths)
    assert tally.texts.read().sum == len(lengths)
    assert tally.tokens.read().sum == sum(lengths)


def test_answered_texts() -> None:
    tally = EmbedTally()
    tally.add(Work("m", 3, 12, 0, 1_000_000, 2_000_000, 4_000_000_000), truncated=1)
    assert (tally.texts, tally.tokens, tally.truncated) == (3, 12, 1)
    sums = [tally.tokenize_seconds, tally.queue_seconds, tally.infer_seconds]
    assert [histogram.read().sum for histogram in sums] == [0.001, 0.002, 4.0]
