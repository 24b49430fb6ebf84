"""A finished load test as text for people and as JSON for programs."""

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from unitvec_loadtest.results import Columns
from unitvec_loadtest.search import Stage
from unitvec_loadtest.settings import Settings
from unitvec_loadtest.statistics import Distribution, Span, Summary
from unitvec_loadtest.surroundings import Machine, ServedModel, describe_machine
from unitvec_protos import __version__

FORMAT_VERSION = 1
"""Of the JSON; raised when a field changes its meaning or goes away."""

_COLUMNS = ("mean", "p50", "p90", "p95", "p99", "p99.9", "max")


@dataclass(frozen=True)
class Step:
    """One rate that a search tried."""

    stage: Stage
    rate_per_s: float
    held: bool
    reason: str
    """Why it did not hold; empty if it did."""
    sent: int
    failed: int
    p99_ms: float | None
    """None where no request succeeded."""


@dataclass(frozen=True)
class SearchReport:
    """What the search for the highest rate came to."""

    p99_ms: float
    """The target."""
    steps: tuple[Step, ...]
    found_rate_per_s: float | None
    """None if no rate holds, or the search was interrupted."""


@dataclass(frozen=True)
class Report:
    """A finished load test. After a search the numbers are those of its last run."""

    settings: Settings
    started_at: datetime
    summary: Summary
    columns: Columns
    span: Span
    interrupted: bool = False
    search: SearchReport | None = None
    served: ServedModel | None = None
    """None where the server does not say."""
    machine: Machine = field(default_factory=describe_machine)

    @property
    def times(self) -> dict[str, Distribution | None]:
        """All distributions of times by name, in the order in which reports show them."""
        summary = self.summary
        failed = {"latency, with failures": summary.latency_all} if summary.failed else {}
        server = {f"server {name}": times for name, times in summary.server.items()}
        return {
            "latency": summary.latency,
            **failed,
            "service time": summary.service,
            **server,
            "overhead": summary.overhead,
            "send lag": summary.lag,
        }


def to_json(report: Report) -> dict[str, Any]:
    """Returns the report as JSON values; what was not observed is null."""
    summary = asdict(report.summary)
    summary["errors"] = [
        {"code": error.outcome.name, "count": error.count, "example": error.example}
        for error in report.summary.errors
    ]
    return {
        "format_version": FORMAT_VERSION,
        "unitvec_version": __version__,
        "started_at": report.started_at.isoformat(),
        "interrupted": report.interrupted,
        "settings": report.settings.public(),
        "served": None if report.served is None else asdict(report.served),
        "machine": asdict(report.machine),
        "summary": {**summary, "failed": report.summary.failed},
        "search": None if report.search is None else _search_to_json(report.search),
    }


def _search_to_json(search: SearchReport) -> dict[str, Any]:
    steps = [{**asdict(step), "stage": step.stage.value} for step in search.steps]
    return {**asdict(search), "steps": steps}


def to_text(report: Report) -> str:
    """Returns the report as aligned lines."""
    blocks = [_head(report), _counts(report.summary), _times(report), _errors(report.summary)]
    if report.search is not None:
        blocks.append(describe_search(report.search))
    return "\n\n".join(blocks) + "\n"


def describe_load(settings: Settings) -> str:
    """Says in one line what is sent."""
    texts = f"{settings.texts_per_request} text{'s' * (settings.texts_per_request > 1)} a request"
    channels = f"{settings.channels} channel{'s' * (settings.channels > 1)}"
    return f"{settings.rpc.value}, {_describe_pace(settings)}, {texts}, {channels}"


def _describe_pace(settings: Settings) -> str:
    if settings.rate_per_s is not None and not settings.find_max:
        return f"open loop at {settings.rate_per_s:,g}/s ({settings.arrivals.value})"
    if settings.find_max:
        return f"search for the highest rate ({settings.arrivals.value})"
    return f"closed loop with {settings.workers} in flight"


def describe_step(step: Step) -> str:
    """Says in one line what came of one rate."""
    p99 = "-" if step.p99_ms is None else f"{step.p99_ms:,.1f} ms"
    verdict = "holds" if step.held else f"fails: {step.reason}"
    return f"{step.stage.value:<8} {step.rate_per_s:>10,.1f}/s   p99 {p99:>12}   {verdict}"


def describe_search(search: SearchReport) -> str:
    """Says in one line what a search came to."""
    target = f"p99 <= {search.p99_ms:g} ms without errors"
    if search.found_rate_per_s is None:
        return f"no rate was confirmed to hold {target}"
    return f"highest rate that holds {target}: {search.found_rate_per_s:,.1f}/s"


def _head(report: Report) -> str:
    window = f"measured {report.summary.window_s:,.1f} s"
    if report.settings.warmup_s:
        window += f" after {report.settings.warmup_s:g} s of warm-up"
    if report.interrupted:
        window += " (interrupted)"
    load = f"{report.settings.target}: {describe_load(report.settings)}"
    return "\n".join([load, *describe_surroundings(report), window])


def describe_surroundings(report: Report) -> tuple[str, str]:
    """Says in two lines what answered, and where the load came from."""
    served = "the server does not say what it serves" if report.served is None else report.served
    return f"served by {served}", f"load from {report.machine}"


def _counts(summary: Summary) -> str:
    asked = summary.asked_rate_per_s
    lag = f", at most {summary.lag.max_ms:,.1f} ms late" if summary.lag and asked else ""
    rate = f"{summary.rate_per_s:,.1f} sent/s"
    if asked is not None:
        rate += f" of {asked:,.1f} asked for{lag}"
    throughput = (
        f"{summary.requests_per_s:,.1f} requests/s   "
        f"{summary.texts_per_s:,.1f} texts/s   {summary.tokens_per_s:,.1f} tokens/s"
    )
    requests = f"{summary.sent:,} sent   {summary.succeeded:,} ok   {summary.failed:,} failed"
    return f"requests     {requests}\nrate         {rate}\nthroughput   {throughput}"


def times_row(times: Distribution | None) -> tuple[str, ...]:
    """Formats a distribution for a table, in milliseconds, under `times_header`."""
    if times is None:
        return ("-",) * len(_COLUMNS)
    values = (times.mean_ms, times.p50_ms, times.p90_ms, times.p95_ms)
    tail = (times.p99_ms, times.p99_9_ms, times.max_ms)
    return tuple(f"{value:,.3f}" for value in (*values, *tail))


def times_header() -> tuple[str, ...]:
    """Names the columns of `times_row`."""
    return _COLUMNS


def _times(report: Report) -> str:
    rows = [("milliseconds", *times_header())]
    rows += [(name, *times_row(times)) for name, times in report.times.items()]
    width = max(len(row[0]) for row in rows)
    return "\n".join(
        row[0].ljust(width) + "".join(cell.rjust(11) for cell in row[1:]) for row in rows
    )


def _errors(summary: Summary) -> str:
    if not summary.errors:
        return "errors       none"
    lines = [
        f"  {error.count:>9,}  {error.outcome.name:<20} {error.example}" for error in summary.errors
    ]
    return "\n".join(["errors", *lines])
