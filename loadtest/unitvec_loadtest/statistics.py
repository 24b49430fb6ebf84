"""Numbers of a report, computed from the records of a run.

Words, used in one sense only: *rate* is what was sent per second, *throughput* what succeeded
per second. *Latency* runs from the moment a request was due, so that time lost by a sender
that fell behind is counted; *service time* runs from the moment it was really sent.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unitvec_loadtest.pacer import NS_PER_S
from unitvec_loadtest.results import Bools, Columns, Int64s, Outcome

NS_PER_MS = 1_000_000
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)


@dataclass(frozen=True)
class Span:
    """The measured part of a run, in nanoseconds from its start."""

    start_ns: int
    end_ns: int | None
    """None: it ends with the last answer, as where a count bounds the run."""


@dataclass(frozen=True)
class Distribution:
    """How some times are spread, in milliseconds."""

    count: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    p99_9_ms: float
    max_ms: float


@dataclass(frozen=True)
class ErrorCount:
    """How often one outcome was met, with the first message that came with it."""

    outcome: Outcome
    count: int
    example: str


@dataclass(frozen=True)
class Summary:
    """The numbers of one run. Distributions are None where nothing was observed."""

    window_s: float
    sent: int
    succeeded: int
    asked_rate_per_s: float | None
    """None in a closed loop, which asks for no rate."""
    rate_per_s: float
    requests_per_s: float
    texts_per_s: float
    tokens_per_s: float
    latency: Distribution | None
    """Of the requests that succeeded, from when they were due."""
    latency_all: Distribution | None
    """Of all requests, failed ones included."""
    service: Distribution | None
    """Of the requests that succeeded, from when they were sent."""
    lag: Distribution | None
    """How late requests were sent."""
    server: dict[str, Distribution | None]
    """The server's own timings by name: tokenize, queue, infer, total."""
    overhead: Distribution | None
    """Service time less the server's total: network, gRPC and both event loops."""
    errors: tuple[ErrorCount, ...]
    """Most frequent first."""

    @property
    def failed(self) -> int:
        """Number of measured requests that did not succeed."""
        return self.sent - self.succeeded


def percentiles(values: Int64s, ranks: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """Nearest-rank percentiles: observed values, never a number between two of them.

    Args:
        values: Observations (n,), n >= 1.
        ranks: In percent, (k,).

    Returns:
        (k,): for each rank q the least value that at least q percent do not exceed.
    """
    return np.percentile(values, ranks, method="inverted_cdf").astype(np.float64)


def describe(values_ns: Int64s) -> Distribution | None:
    """Describes times (n,); None if there are none."""
    if not len(values_ns):
        return None
    p50, p90, p95, p99, p99_9 = (percentiles(values_ns, PERCENTILES) / NS_PER_MS).tolist()
    return Distribution(
        count=len(values_ns),
        mean_ms=float(values_ns.mean()) / NS_PER_MS,
        p50_ms=p50,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        p99_9_ms=p99_9,
        max_ms=float(values_ns.max()) / NS_PER_MS,
    )


def select(columns: Columns, mask: Bools) -> Columns:
    """Keeps the records (n,) where `mask` (n,) is set."""
    return Columns(**{name: values[mask] for name, values in vars(columns).items()})


def summarize(
    columns: Columns,
    *,
    span: Span,
    examples: dict[Outcome, str] | None = None,
    asked_rate_per_s: float | None = None,
) -> Summary:
    """Computes the numbers of a run.

    Args:
        columns: All its records, warm-up included.
        span: Its measured part.
        examples: An error message for each outcome.
        asked_rate_per_s: The rate that an open loop was asked for.
    """
    measured = select(columns, columns.measured)
    good = select(measured, measured.ok)
    window_s = _window_ns(measured, span) / NS_PER_S
    arrived = _arrived(columns, measured, span)
    return Summary(
        window_s=window_s,
        sent=len(measured.due_ns),
        succeeded=len(good.due_ns),
        asked_rate_per_s=asked_rate_per_s,
        rate_per_s=_rate_per_s(measured, span),
        requests_per_s=_per_s(len(arrived.due_ns), window_s),
        texts_per_s=_per_s(int(arrived.texts.sum()), window_s),
        tokens_per_s=_per_s(int(arrived.tokens.sum()), window_s),
        latency=describe(good.latency_ns),
        latency_all=describe(measured.latency_ns),
        service=describe(good.done_ns - good.sent_ns),
        lag=describe(measured.sent_ns - measured.due_ns),
        server=_describe_server(good),
        overhead=describe(good.done_ns - good.sent_ns - good.total_ns),
        errors=_count_errors(measured, examples or {}),
    )


def _per_s(amount: int, window_s: float) -> float:
    return amount / window_s if window_s > 0 else 0.0


def _window_ns(measured: Columns, span: Span) -> int:
    """The time that throughput is over.

    A count ends with its last answer, or where the next request would have been sent: a few fast
    answers are no more per second than were sent per second.
    """
    if span.end_ns is not None:
        return span.end_ns - span.start_ns
    count = len(measured.done_ns)
    if not count:
        return 0
    gaps_ns = -(-int(np.ptp(measured.sent_ns)) * count // (count - 1)) if count > 1 else 0
    return max(int(measured.done_ns.max()) - span.start_ns, gaps_ns)


def _arrived(columns: Columns, measured: Columns, span: Span) -> Columns:
    """The good answers that throughput counts.

    With a fixed end these are the answers that arrived in the window, whenever their requests
    were sent: those sent in the warm-up make up for those still in flight at the end, so a
    closed loop in its steady state is measured without bias. But a backlog of the warm-up that is
    worked off in the window is no throughput of the window: no more are counted than were sent
    in it and answered well in the end.
    """
    if span.end_ns is None:
        return select(measured, measured.ok)
    within = (columns.done_ns >= span.start_ns) & (columns.done_ns < span.end_ns)
    arrived = select(columns, columns.ok & within)
    sent = select(measured, measured.ok & (measured.sent_ns < span.end_ns))
    return min(arrived, sent, key=lambda answers: len(answers.due_ns))


def _rate_per_s(measured: Columns, span: Span) -> float:
    """What was sent per second; requests given up unsent are not in it."""
    sent_ns = measured.sent_ns[measured.outcome != Outcome.NOT_SENT]
    if span.end_ns is not None:
        within = int((sent_ns < span.end_ns).sum())
        return _per_s(within, (span.end_ns - span.start_ns) / NS_PER_S)
    if len(sent_ns) < 2:  # n sendings have n - 1 gaps
        return 0.0
    return _per_s(len(sent_ns) - 1, float(np.ptp(sent_ns)) / NS_PER_S)


def _describe_server(good: Columns) -> dict[str, Distribution | None]:
    return {
        "tokenize": describe(good.tokenize_ns),
        "queue": describe(good.queue_ns),
        "infer": describe(good.infer_ns),
        "total": describe(good.total_ns),
    }


def _count_errors(measured: Columns, examples: dict[Outcome, str]) -> tuple[ErrorCount, ...]:
    codes, counts = np.unique(measured.outcome[~measured.ok], return_counts=True)
    errors = [
        ErrorCount(Outcome(int(code)), int(count), examples.get(Outcome(int(code)), ""))
        for code, count in zip(codes, counts, strict=True)
    ]
    return tuple(sorted(errors, key=lambda error: -error.count))
