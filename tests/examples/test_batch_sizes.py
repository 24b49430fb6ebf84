"""Batch sizes: every way and size is measured on all texts, and summed up rightly."""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import image

import batch_sizes
from batch_sizes import Measurement
from unitvec_client import Client


def test_every_way_and_size_is_measured_on_all_texts(client: Client) -> None:
    texts = [f"text {i}" for i in range(10)]
    found = batch_sizes.measure(client, texts, [1, 4], rounds=2)
    ways = [("unary", 1), ("stream", 1), ("unary", 4), ("stream", 4)]
    assert [(each.way, each.size) for each in found] == 2 * ways
    assert {each.texts for each in found} == {10}
    assert [len(each.latencies_s) for each in found[:4]] == [10, 0, 3, 0]
    for each in found:
        assert each.total_s >= sum(each.latencies_s)
        assert each.throughput == pytest.approx(10 / each.total_s)


def test_stream_fails_where_a_text_does(client: Client) -> None:
    with pytest.raises(Exception, match="surrogate"):
        batch_sizes.measure_stream(client, ["fine", "\ud800"], 1)


def test_new_texts_are_new() -> None:
    texts = ["one", "two"]
    made = [text for number in range(50) for text in batch_sizes.make_new(texts, number)]
    assert len(set(made)) == 100
    assert all(text.split()[0] in texts for text in made)


def test_summary_is_the_median_of_rounds_and_of_all_latencies() -> None:
    rng = np.random.default_rng(0)
    rounds = [tuple(rng.uniform(0.01, 0.1, 40).tolist()) for _ in range(3)]
    measurements = [Measurement("unary", 8, 320, sum(each), each) for each in rounds]
    measurements.append(Measurement("stream", 8, 320, 2.0))
    unary, stream = batch_sizes.summarize(measurements)
    everything_ms = [1000 * latency for each in rounds for latency in each]
    assert unary.throughput == pytest.approx(320 / statistics.median(map(sum, rounds)))
    assert unary.p50_ms == pytest.approx(statistics.median(everything_ms))
    cuts = statistics.quantiles(everything_ms, n=100, method="inclusive")
    assert unary.p99_ms == pytest.approx(cuts[98])
    assert (stream.way, stream.throughput) == ("stream", 160)


def test_program_prints_a_line_for_each_size_and_a_picture(
    target: str, tmp_path: Path, capsys: Any
) -> None:
    flags = ["--count", "16", "--rounds", "1", "--sizes", "4", "1"]
    assert batch_sizes.main(["--target", target, "--output", str(tmp_path), *flags]) == 0
    said = capsys.readouterr().out
    lines = re.findall(r"^ +(\d+) +([\d,]+) +[\d,.]+ ms +[\d,.]+ ms +([\d,]+)$", said, re.MULTILINE)
    assert [int(size) for size, _, _ in lines] == [1, 4]
    rates = [int(rate.replace(",", "")) for line in lines for rate in line[1:]]
    assert min(rates) > 0
    assert "Most texts per second:" in said
    assert str(tmp_path / "batch_sizes.png") in said
    assert image.imread(tmp_path / "batch_sizes.png").std() > 0.01
