"""Medians and spreads over the counted rounds. Pure functions of raw results."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Sequence

import numpy as np

from bench.results import Measurement, Results


@dataclasses.dataclass(frozen=True)
class Spread:
    """A number over the rounds."""

    median: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Line:
    """One contender on one workload.

    Attributes:
        contender: Its name.
        rounds: Number of counted rounds.
        texts_per_s: Over the rounds.
        tokens_per_s: Median.
        ratio: To the reference of the same round.
        p50_ms: Median over the rounds of the median time of a request.
        p99_ms: Median over the rounds of its 99th percentile.
        cpus: Median of processor seconds per second.
        others_cpus: The same of everything else on the machine: how disturbed it was.
        peak_rss_bytes: The most of any round.
        cosine_mean: The least of any round.
        cosine_p1: The least of any round.
        cosine_min: The least of any round.
    """

    contender: str
    rounds: int
    texts_per_s: Spread
    tokens_per_s: float
    ratio: Spread
    p50_ms: float
    p99_ms: float
    cpus: float
    others_cpus: float
    peak_rss_bytes: int
    cosine_mean: float
    cosine_p1: float
    cosine_min: float


def workloads(results: Results) -> list[str]:
    """Names, in the order in which they were measured."""
    return list(dict.fromkeys(entry.workload for entry in results.measurements))


def lines(results: Results, workload: str) -> list[Line]:
    """One line for each contender that was measured in a counted round, in order of loading."""
    order = [entry.contender for entry in results.loaded]
    groups = [(name, _counted(results, workload, name)) for name in order]
    return [_line(name, group) for name, group in groups if group]


def ratios(results: Results, workload: str, *, of: str, to: str) -> Spread | None:
    """Throughput of one contender over another's in the same round; None without such rounds."""
    base = {entry.round: entry.texts_per_s for entry in _counted(results, workload, to)}
    found = [
        entry.texts_per_s / base[entry.round]
        for entry in _counted(results, workload, of)
        if entry.round in base
    ]
    return spread(found) if found else None


def spread(values: Sequence[float]) -> Spread:
    """Median, least and most of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def percentile(values: Sequence[float], rank: float) -> float | None:
    """Nearest-rank percentile: an observed value; None if there are none."""
    return float(np.percentile(values, rank, method="inverted_cdf")) if values else None


def _counted(results: Results, workload: str, contender: str) -> list[Measurement]:
    return [
        entry
        for entry in results.measurements
        if entry.round > 0 and entry.workload == workload and entry.contender == contender
    ]


def _line(contender: str, group: Sequence[Measurement]) -> Line:
    def median(values: Iterable[float]) -> float:
        return statistics.median(values)

    return Line(
        contender=contender,
        rounds=len(group),
        texts_per_s=spread([entry.texts_per_s for entry in group]),
        tokens_per_s=median(entry.tokens_per_s for entry in group),
        ratio=spread([entry.ratio for entry in group]),
        p50_ms=median(entry.p50_ms for entry in group),
        p99_ms=median(entry.p99_ms for entry in group),
        cpus=median(entry.cpu_s / entry.seconds for entry in group),
        others_cpus=median(entry.others_cpu_s / entry.seconds for entry in group),
        peak_rss_bytes=max(entry.peak_rss_bytes for entry in group),
        cosine_mean=min(entry.cosine_mean for entry in group),
        cosine_p1=min(entry.cosine_p1 for entry in group),
        cosine_min=min(entry.cosine_min for entry in group),
    )
