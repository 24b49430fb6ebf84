"""Overload and fairness: the arithmetic of their curves, their reports, and a short run of each."""

from __future__ import annotations

import dataclasses
import io
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench.cli import main
from bench.pressure.fairness import ALONE, BULK, CALLS, STREAM, FairnessPlan, trickle_lines
from bench.pressure.load import write_texts
from bench.pressure.overload import OPEN, PEAK, OverloadPlan, curve, points
from bench.pressure.plots import draw_pressure
from bench.pressure.report import FAIRNESS, OVERLOAD, pressure_markdown
from bench.results import Load, Record, Results, Run, collect, read, write

SERVER = {
    "server_flags": ["--workers", "1"],
    "precision": "fp32",
    "provider": "cpu",
    "versions": {"python": "3.12"},
}
OVERLOAD_PLAN = OverloadPlan((1.0, 4.0), 2, 2.0, 10.0, 16, 8)
FAIRNESS_PLAN = FairnessPlan(2, 20.0, 5.0, 8, 64, 256)


def run_of(kind: str, plan: OverloadPlan | FairnessPlan) -> Run:
    return Run(
        started="2026-01-02T03:04:05+00:00",
        commit="abc1234",
        machine={
            "cpu": "a processor",
            "flags": ["avx2"],
            "cpus": 4,
            "usable_cpus": 2,
            "memory_bytes": 8 * 2**30,
        },
        threads=2,
        model_id="a/model",
        settings={"kind": kind, **dataclasses.asdict(plan), **SERVER},
    )


def load(condition: str, ok_per_s: float, **fields: object) -> Load:
    """One in which a call took 10 ms, 8 of them in the server, unless `fields` say otherwise."""
    usual: dict[str, object] = {
        "round": 1,
        "factor": None,
        "texts_per_request": 16,
        "sent_per_s": ok_per_s,
        "outcomes": {"OK": 1},
        "latencies_ms": [10.0],
        "server_ms": [8.0],
        "lag_p99_ms": 0.5,
        "run_s": 10.0,
        "client_cpu_s": 1.0,
        "group_cpu_s": 19.0,
        "others_cpu_s": 0.0,
    }
    return Load(condition=condition, ok_per_s=ok_per_s, **(usual | fields))  # type: ignore[arg-type]


def peak(ok_per_s: float) -> Load:
    return load(PEAK, ok_per_s)


def flood(factor: float, sent_per_s: float, ok_per_s: float, **fields: object) -> Load:
    return load(OPEN, ok_per_s, factor=factor, sent_per_s=sent_per_s, **fields)


def results_of(kind: str, plan: OverloadPlan | FairnessPlan, *loads: Load) -> Results:
    return collect([run_of(kind, plan), *loads])


class TestOverload:
    """Goodput is in peaks, of the two around each open loop."""

    def test_the_peak_is_the_mean_of_those_around(self) -> None:
        """The machine slowed down: the same goodput is half of one peak and all of the other."""
        [point] = points([peak(100.0), flood(2.0, 200.0, 75.0), peak(50.0)])
        assert (point.factor, point.offered, point.goodput) == (2.0, 200 / 75, 1.0)

    def test_each_open_loop_has_its_own_peaks(self) -> None:
        loads = [peak(100), flood(1, 100, 90), peak(80), flood(4, 320, 60), peak(40)]
        assert [point.goodput for point in points(loads)] == [1.0, 1.0]

    def test_one_that_was_cut_off_does_not_count(self) -> None:
        assert points([peak(100), flood(1, 100, 90)]) == []
        assert points([]) == []

    def test_rounds_become_one_point_for_each_factor(self) -> None:
        loads = [
            *(peak(100), flood(4, 400, 80, latencies_ms=[1.0] * 49), peak(100)),
            *(flood(1, 100, 99), peak(100)),
            *(peak(10), flood(1, 10, 9.7), peak(10)),
            *(flood(4, 40, 9, latencies_ms=[1.0] * 49 + [7.0, 5.0], lag_p99_ms=3), peak(10)),
        ]
        first, second = curve(loads)
        assert (first.factor, second.factor) == (1, 4)
        assert second.goodput.median == pytest.approx(0.85)
        assert (second.goodput.low, second.goodput.high) == (0.8, 0.9)
        assert (second.p50_ms, second.p99_ms, second.lag_p99_ms) == (1.0, 5.0, 3)
        assert first.client_cpus == 0.1

    def test_answers_are_counted_over_all_rounds(self) -> None:
        one = flood(4, 400, 80, outcomes={"OK": 1, "RESOURCE_EXHAUSTED": 2})
        other = flood(4, 400, 0, outcomes={"OK": 0, "DEADLINE_EXCEEDED": 7}, latencies_ms=[])
        [point] = curve([peak(100), one, peak(100), other, peak(100)])
        assert list(point.shares.items()) == [
            ("DEADLINE_EXCEEDED", 0.7),
            ("RESOURCE_EXHAUSTED", 0.2),
            ("OK", 0.1),
        ]

    def test_the_report_and_its_plot(self, tmp_path: Path) -> None:
        refused = {"OK": 1, "RESOURCE_EXHAUSTED": 3}
        loads = (peak(100), flood(1, 100, 99), peak(100), flood(4, 400, 87, outcomes=refused))
        results = results_of(OVERLOAD, OVERLOAD_PLAN, *loads, peak(100))
        text = pressure_markdown(results)
        assert "| 4.00 | 0.87 | 0.87..0.87 | 10.0 | 10.0 | 0.10 | 0.00 | 0.5 |" in text
        assert "| 4.00 | 25.0 % | 75.0 % |" in text
        assert "goodput at least 0.87 of it, p99 of accepted calls at most 10 ms" in text
        assert "Server: fp32 on cpu, --workers 1; python 3.12." in text
        draw_pressure(results, tmp_path / "plot.svg")
        assert "RESOURCE_EXHAUSTED" in (tmp_path / "plot.svg").read_text()

    def test_nothing_answered_is_no_latency(self, tmp_path: Path) -> None:
        lost = flood(4, 400, 0, outcomes={"OK": 0, "UNAVAILABLE": 9}, latencies_ms=[])
        results = results_of(OVERLOAD, OVERLOAD_PLAN, peak(100), lost, peak(100))
        text = pressure_markdown(results)
        assert "| 4.00 | 0.00 | 0.00..0.00 | - | - |" in text
        assert "none was accepted" in text
        draw_pressure(results, tmp_path / "plot.svg")

    def test_too_little_for_a_report(self) -> None:
        with pytest.raises(ValueError, match="no overload"):
            pressure_markdown(results_of(OVERLOAD, OVERLOAD_PLAN, peak(100)))


class TestFairness:
    """The trickle's times are those of all rounds together, over the same of it alone."""

    LOADS = (
        load(ALONE, 5, latencies_ms=[4.0] * 60 + [5.0], server_ms=[2.0] * 61),
        load(BULK + STREAM, 6, texts_per_request=64),
        load(STREAM, 5, latencies_ms=[8.0] * 60 + [30.0], server_ms=[6.0] * 61),
        load(ALONE, 5, round=2, latencies_ms=[4.0] * 60 + [10.0], server_ms=[2.0] * 61),
        load(STREAM, 5, round=2, latencies_ms=[8.0] * 60 + [20.0], server_ms=[6.0] * 61),
        load(BULK + STREAM, 8, round=2, texts_per_request=64),
    )

    def test_lines(self) -> None:
        alone, beside = trickle_lines(self.LOADS)
        assert (alone.condition, alone.count, alone.p50_ms, alone.p99_ms) == (ALONE, 122, 4, 5)
        assert (alone.p50_ratio, alone.p99_ratio, alone.server_p99_ratio) == (1, 1, 1)
        assert (beside.p50_ms, beside.p99_ms, beside.server_p99_ms) == (8, 20, 6)
        assert (beside.p50_ratio, beside.p99_ratio, beside.server_p99_ratio) == (2, 4, 3)
        assert beside.round_p99_ratios is not None
        assert (beside.round_p99_ratios.low, beside.round_p99_ratios.high) == (2, 6)
        assert beside.bulk_texts_per_s == 7 * 64

    def test_failures_are_counted(self) -> None:
        failed = load(CALLS, 1, outcomes={"OK": 1, "RESOURCE_EXHAUSTED": 2, "UNAVAILABLE": 3})
        [_, line] = trickle_lines([load(ALONE, 5), failed])
        assert (line.count, line.failed) == (1, 5)

    def test_a_round_without_the_trickle_alone_has_no_ratio_of_its_own(self) -> None:
        [_, line] = trickle_lines([load(ALONE, 5), load(STREAM, 5, round=2)])
        assert line.round_p99_ratios is None

    def test_without_the_trickle_alone_there_is_nothing_to_say(self) -> None:
        with pytest.raises(ValueError, match="never answered alone"):
            trickle_lines([load(STREAM, 5)])

    def test_the_report_and_its_plot(self, tmp_path: Path) -> None:
        results = results_of(FAIRNESS, FAIRNESS_PLAN, *self.LOADS)
        text = pressure_markdown(results)
        row = "122 | 0 | 8.0 | 20.0 | 2.00 | 4.00 | 2.00..6.00 | 6.0 | 3.00 | 448 |"
        assert f"| {STREAM} | {row}" in text
        draw_pressure(results, tmp_path / "plot.svg")
        assert STREAM in (tmp_path / "plot.svg").read_text()


def test_raw_lines_come_back(tmp_path: Path) -> None:
    records: list[Record] = [run_of(FAIRNESS, FAIRNESS_PLAN), *TestFairness.LOADS]
    stream = io.StringIO()
    for record in records:
        write(record, stream)
    path = tmp_path / "results.jsonl"
    path.write_text(stream.getvalue())
    again = read(path)
    assert again.loads == TestFairness.LOADS
    # JSON has no tuples.
    assert again.run.settings["rounds"] == FAIRNESS_PLAN.rounds


def test_no_two_texts_are_equal(tmp_path: Path) -> None:
    """A server runs equal ones once, and would look faster the more of them wait."""
    first, second = tmp_path / "a", tmp_path / "b"
    write_texts(first, first=0, count=1500)
    write_texts(second, first=1500, count=1500)
    texts = first.read_text().splitlines() + second.read_text().splitlines()
    assert len(set(texts)) == len(texts) == 3000


OVERLOAD_FLAGS = "--factors 2 --seconds 1 --timeout-s 0.5 --callers 2 --texts-per-request 1"
FAIRNESS_FLAGS = "--seconds 0.5 --rate 20 --in-flight 2 --call-texts 32"
BESIDE = [STREAM, BULK + STREAM, CALLS, BULK + CALLS]


@pytest.mark.deep
@pytest.mark.parametrize(
    ("command", "flags", "kinds"),
    [
        (OVERLOAD, OVERLOAD_FLAGS, [PEAK, OPEN, PEAK]),
        (FAIRNESS, FAIRNESS_FLAGS, [ALONE, *BESIDE]),
    ],
    ids=[OVERLOAD, FAIRNESS],
)
def test_a_short_run(
    command: str, flags: str, kinds: list[str], artifact: Path, tmp_path: Path
) -> None:
    """Raw results, report and plot, of a real server under real load."""
    usual = ("--artifact", str(artifact), "--rounds", "1", "--results", str(tmp_path))
    assert main([command, *usual, *flags.split()]) == 0
    [path] = tmp_path.glob("*.jsonl")
    assert path.stem.endswith(command)
    results = read(path)
    assert [each.condition for each in results.loads] == kinds
    assert results.run.settings["precision"] == "fp32"
    assert all(each.outcomes["OK"] for each in results.loads if each.condition != OPEN)
    assert "Server: fp32 on cpu" in path.with_suffix(".md").read_text()
    assert ET.parse(path.with_suffix(".svg")).getroot().tag.endswith("svg")


def test_a_server_that_does_not_start(
    artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--results", str(tmp_path), "--server-flags", "--max-calls 0")
    assert main([OVERLOAD, "--artifact", str(artifact), *flags]) == 2
    assert "--max-calls" in capsys.readouterr().err
