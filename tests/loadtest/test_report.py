"""Reports as text, JSON and a page, from records made up for the purpose."""

import json
import platform
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from unitvec_loadtest.page import to_html
from unitvec_loadtest.report import Report, SearchReport, Step, to_json, to_text
from unitvec_loadtest.results import Answer, Outcome, Result, Results, ServerTimings
from unitvec_loadtest.search import Stage
from unitvec_loadtest.settings import Settings
from unitvec_loadtest.statistics import Span, summarize
from unitvec_loadtest.surroundings import Machine, ServedModel, describe_machine

MS = 1_000_000
HOSTILE = '<script src="https://evil.example/x.js">alert(1)</script>'
SEARCH = SearchReport(
    20.0,
    (
        Step(Stage.GROW, 50, held=True, reason="", sent=250, failed=0, p99_ms=9.0),
        Step(Stage.GROW, 100, held=False, reason="p99 is over", sent=500, failed=0, p99_ms=55.0),
        Step(Stage.BISECT, 75, held=False, reason="1 failed", sent=9, failed=9, p99_ms=None),
        Step(Stage.CONFIRM, 50, held=True, reason="", sent=250, failed=0, p99_ms=9.5),
    ),
    50.0,
)


SERVED = ServedModel("1.2", "minilm", "org/minilm", "c5f2", 384, "int8", "cpu")
MACHINE = Machine("Some CPU @ 2 GHz", 2, "Linux x86_64")


def make_report(*, size: int = 400, failures: int = 20, **changes: object) -> Report:
    """A run of 4 s with a second of warm-up, the last `failures` requests refused."""
    rng = np.random.default_rng(5)
    results = Results()
    for number in range(size):
        due_ns = number * 4000 * MS // size
        took_ns = int(rng.lognormal(2, 0.5) * MS)
        timings = ServerTimings(MS // 10, MS, 2 * MS, 4 * MS)
        answer = Answer(Outcome.OK, 17, timings)
        if number >= size - failures:
            answer = Answer(Outcome.RESOURCE_EXHAUSTED, message=HOSTILE)
        measured = due_ns >= 1000 * MS
        results.add(Result(due_ns, due_ns + MS, due_ns + MS + took_ns, 1, measured, answer))
    span = Span(1000 * MS, 4000 * MS)
    columns = results.columns()
    summary = summarize(
        columns, span=span, examples=results.examples, asked_rate_per_s=size / 4 or None
    )
    settings = Settings(
        target="server:50051", rate_per_s=max(size / 4, 1), warmup_s=1, token="hush-hush"
    )
    started_at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    report = Report(settings, started_at, summary, columns, span, served=SERVED, machine=MACHINE)
    return replace(report, **changes)


REPORTS = {
    "errors": make_report(),
    "clean": make_report(failures=0),
    "nothing succeeded": make_report(failures=400),
    "empty": make_report(size=0),
    "one request": make_report(size=1, failures=0, span=Span(0, None)),
    "search": make_report(failures=0, search=SEARCH),
    "search without a find": make_report(search=replace(SEARCH, found_rate_per_s=None)),
    "interrupted": make_report(interrupted=True),
}
ALL_REPORTS = pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS.keys())


class Page(HTMLParser):
    """Counts elements, and checks that they are closed in the order they were opened."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes an element."""
        self._note(tag, attrs)
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes an element that SVG closes at once."""
        self._note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        """Checks the nesting."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collects the text."""
        self.text += data

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "xlink:href", "src"):
                self.references.append(value or "")


@ALL_REPORTS
def test_page_is_whole_and_self_contained(report: Report) -> None:
    """Well nested, a picture for each plot, nothing fetched, nothing run, no id used twice."""
    html = to_html(report)
    page = Page(html)
    assert page.tags.count("svg") == (5 if report.search else 4)
    assert not {"script", "link", "iframe", "img", "object"} & set(page.tags)
    assert all(ref.startswith(("#", "data:image/png;base64,")) for ref in page.references)
    inside = {ref[1:] for ref in page.references if ref.startswith("#")}
    inside |= set(re.findall(r"url\(#([^)]+)\)", html))
    assert inside <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert not re.search(r"https?:|url\((?!#)|@import", html.replace("https://evil.example", ""))
    assert "hush-hush" not in html


def test_page_says_what_happened() -> None:
    """Target, throughput, failures with their message, and the units of the plots."""
    report = REPORTS["errors"]
    text = Page(to_html(report)).text
    for part in ("server:50051", "open loop at 100/s", HOSTILE, "RESOURCE_EXHAUSTED"):
        assert part in text
    for part in ("latency (ms)", "requests per second", "errors per second", "percentile of"):
        assert part in text
    assert f"{report.summary.requests_per_s:,.1f}" in text
    assert "failed of 300 requests" in text
    assert "no errors" not in text
    assert "no errors" in Page(to_html(REPORTS["clean"])).text
    assert "Highest rate that holds p99 <= 20 ms" in Page(to_html(REPORTS["search"])).text


@ALL_REPORTS
def test_json_is_strict_and_agrees(report: Report) -> None:
    """No NaN, no token; the numbers are those of the summary."""
    text = json.dumps(to_json(report), allow_nan=False)
    assert "hush-hush" not in text
    read = json.loads(text)
    assert read["format_version"] == 1
    assert read["interrupted"] is report.interrupted
    assert read["settings"]["target"] == "server:50051"
    summary = read["summary"]
    assert summary["sent"] == summary["succeeded"] + summary["failed"]
    assert summary["failed"] == sum(error["count"] for error in summary["errors"])
    if report.summary.latency is not None:
        assert summary["latency"]["p99_9_ms"] == report.summary.latency.p99_9_ms
        assert set(summary["server"]) == {"tokenize", "queue", "infer", "total"}
    assert (read["search"] is None) == (report.search is None)


def test_json_of_a_search() -> None:
    """Steps carry their stage and verdict."""
    search = to_json(REPORTS["search"])["search"]
    assert search["found_rate_per_s"] == 50
    assert [(step["stage"], step["held"]) for step in search["steps"]] == [
        ("grow", True),
        ("grow", False),
        ("bisect", False),
        ("confirm", True),
    ]


@ALL_REPORTS
def test_text_is_aligned(report: Report) -> None:
    """The columns of the table of times end where their headings end."""
    lines = to_text(report).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("milliseconds"))
    table = lines[start : lines.index("", start)]
    assert len({len(line) for line in table}) == 1
    assert len(table) == 1 + len(report.times)
    assert [line for line in lines if line.startswith("throughput")]


def test_text_says_what_happened() -> None:
    """Rates, counts, the error with its message, the end of the search."""
    text = to_text(REPORTS["errors"])
    assert "300 sent   280 ok   20 failed" in text
    assert "of 100.0 asked for, at most 1.0 ms late" in text
    assert re.search(r"20  RESOURCE_EXHAUSTED +<script", text)
    assert "latency, with failures" in text
    clean = to_text(REPORTS["clean"])
    assert "errors       none" in clean
    assert "with failures" not in clean
    assert "(interrupted)" in to_text(REPORTS["interrupted"])
    assert to_text(REPORTS["search"]).endswith("without errors: 50.0/s\n")
    assert "no rate was confirmed" in to_text(REPORTS["search without a find"])


def test_every_report_says_what_was_measured_and_from_where() -> None:
    """Numbers mean nothing without the model, its precision, the server and the machine."""
    report = REPORTS["clean"]
    for text in (to_text(report), Page(to_html(report)).text):
        assert "served by unitvec 1.2, minilm in int8 on cpu (org/minilm" in text
        assert "load from Some CPU @ 2 GHz, 2 CPUs, Linux x86_64" in text
    read = to_json(report)
    assert read["served"]["precision"] == "int8"
    assert read["machine"] == {"cpu": "Some CPU @ 2 GHz", "cpus": 2, "system": "Linux x86_64"}
    silent = replace(report, served=None)
    assert "the server does not say what it serves" in to_text(silent)
    assert to_json(silent)["served"] is None


def test_the_machine_is_this_one() -> None:
    """Whatever it is."""
    machine = describe_machine()
    assert machine.cpu
    assert machine.cpus >= 1
    assert machine.system.startswith(platform.system())


def test_a_large_page_stays_small() -> None:
    """A hundred thousand requests do not make a page of as many circles."""
    assert len(to_html(make_report(size=100_000))) < 1_500_000


def test_the_package_carries_its_texts() -> None:
    """The data file lies in the package, where a wheel takes it from."""
    import unitvec_loadtest

    assert (Path(unitvec_loadtest.__file__).parent / "data/default_texts.jsonl").is_file()
