"""From raw lines to a report: medians, spreads, ratios in the same round, and the way back."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest

from bench.report import cosine, report_markdown
from bench.results import (
    Bits,
    Loaded,
    Measurement,
    Quality,
    Record,
    Run,
    Skipped,
    collect,
    read,
    write,
)
from bench.summary import lines, ratios, workloads

RUN = Run(
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
    settings={"rounds": 3, "min_s": 0.5, "workloads": {"texts_short": 10}},
)


def loaded(name: str, *, kind: str = "peer", variant: str = "") -> Loaded:
    return Loaded(name, f"title of {name}", kind, variant, "main", {"python": "3.12"}, 1.0)


def measurement(name: str, number: int, speed: float, base: float) -> Measurement:
    return Measurement(
        contender=name,
        workload="texts_short",
        round=number,
        seconds=1.0,
        passes=1,
        texts=10,
        tokens=100,
        texts_per_s=speed,
        tokens_per_s=10 * speed,
        ratio=speed / base,
        p50_ms=5.0,
        p99_ms=9.0,
        cpu_s=1.9,
        others_cpu_s=0.0,
        peak_rss_bytes=2**20,
        cosine_mean=1.0,
        cosine_p1=1.0,
        cosine_min=1.0 - number / 1000,
    )


RECORDS: list[Record] = [
    RUN,
    loaded("st-torch", kind="reference"),
    loaded("session-fp32", kind="layer", variant="fp32"),
    loaded("grpc-unary-c16-fp32", kind="layer", variant="fp32"),
    Skipped("absent", "not installed\nat all"),
    Quality("st-torch", 1.0, 5, 15, 0.0),
    Bits("session-fp32", 15, 14, 8, 3),
    # The warm-up, which would spoil everything if it counted.
    measurement("st-torch", 0, 1, 1),
    measurement("session-fp32", 0, 1000, 1),
    *(measurement("st-torch", number, base, base) for number, base in enumerate((100, 50, 80), 1)),
    measurement("session-fp32", 1, 300, 100),
    measurement("session-fp32", 2, 100, 50),
    measurement("session-fp32", 3, 400, 80),
    measurement("grpc-unary-c16-fp32", 1, 270, 100),
    measurement("grpc-unary-c16-fp32", 3, 380, 80),
]


def test_lines_hold_medians_and_spreads_of_the_counted_rounds() -> None:
    results = collect(RECORDS)
    assert workloads(results) == ["texts_short"]
    reference, session, served = lines(results, "texts_short")
    assert (reference.ratio.median, reference.ratio.low, reference.ratio.high) == (1, 1, 1)
    assert (session.ratio.median, session.ratio.low, session.ratio.high) == (3, 2, 5)
    assert session.texts_per_s.median == 300
    assert (session.rounds, served.rounds) == (3, 2)
    assert session.cosine_min == pytest.approx(0.997)


def test_ratios_are_taken_within_a_round() -> None:
    shares = ratios(collect(RECORDS), "texts_short", of="grpc-unary-c16-fp32", to="session-fp32")
    assert shares is not None
    assert (shares.low, shares.high) == (0.9, 0.95)
    assert ratios(collect(RECORDS), "texts_short", of="absent", to="session-fp32") is None


def test_files_are_read_as_they_were_written(tmp_path: Path) -> None:
    stream = io.StringIO()
    for record in RECORDS:
        write(record, stream)
    path = tmp_path / "run.jsonl"
    path.write_text(stream.getvalue(), encoding="utf-8")
    assert read(path) == collect(RECORDS)


@pytest.mark.parametrize("content", ["", '{"record": "run"}\n', '{"record": "odd"}\n', "[]\n"])
def test_other_files_are_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match="benchmark"):
        read(path)


def test_other_versions_are_refused() -> None:
    with pytest.raises(ValueError, match="version"):
        collect([dataclasses.replace(RUN, format_version=0)])


def test_the_report_shows_every_contender_and_layer() -> None:
    text = report_markdown(collect(RECORDS))
    assert "| session-fp32 | 300 | 3,000 | 3.00 | 2.00..5.00 |" in text
    assert "| grpc-unary-c16-fp32 | 325 | 0.93 | 0.90..0.95 |" in text
    assert "| session-fp32 | 14 of 15 | 3 of 8 |" in text
    assert "- absent: not installed at all" in text


def test_busy_neighbours_are_marked() -> None:
    busy = [
        dataclasses.replace(entry, others_cpu_s=0.5) if isinstance(entry, Measurement) else entry
        for entry in RECORDS
    ]
    assert "| st-torch ~ |" in report_markdown(collect(busy))
    assert "| st-torch ~ |" not in report_markdown(collect(RECORDS))


@pytest.mark.parametrize(("value", "shown"), [(0.98765, "0.9877"), (0.99999871, "0.9999987")])
def test_cosines_near_one_keep_their_digits(value: float, shown: str) -> None:
    assert cosine(value) == shown


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from bench.plots import draw

    draw(collect(RECORDS), tmp_path / "plot.svg")
    assert "session-fp32" in (tmp_path / "plot.svg").read_text(encoding="utf-8")
