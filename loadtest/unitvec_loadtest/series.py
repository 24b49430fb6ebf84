"""A run cut into equal slices of time: what the plots over time show."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from unitvec_loadtest.pacer import NS_PER_S
from unitvec_loadtest.results import Bools, Columns, Int64s, Outcome
from unitvec_loadtest.statistics import NS_PER_MS, percentiles

Float64s = npt.NDArray[np.float64]

SLICES = 60
"""At most: fine enough to see a hiccup, wide enough to hold some requests each."""
MIN_SLICES = 8
REQUESTS_PER_SLICE = 20
"""With fewer requests the slices get wider: a rate of three per slice is all jitter."""


@dataclass(frozen=True)
class Series:
    """Values for each of n slices of `width_s` seconds; warm-up included."""

    width_s: float
    centers_s: Float64s
    """Middle of each slice in seconds from the start of the run, (n,)."""
    p50_ms: Float64s
    """Median latency of the good requests that were due in the slice; NaN if none, (n,)."""
    p99_ms: Float64s
    """The same for the 99th percentile, (n,)."""
    sent_per_s: Float64s
    """Requests sent in the slice, per second, (n,)."""
    ok_per_s: Float64s
    """Good answers that arrived in the slice, per second, (n,)."""
    errors_per_s: dict[Outcome, Float64s]
    """Failures in the slice, per second, by outcome; only those that were met."""


def slice_run(columns: Columns) -> Series:
    """Cuts all records of a run, warm-up included, into slices."""
    size = len(columns.done_ns)
    last_ns = int(columns.done_ns.max()) if size else 0
    slices = min(SLICES, max(MIN_SLICES, size // REQUESTS_PER_SLICE))
    # The last request ends inside the last slice, and no slice is cut short.
    cut = _Cut(width_ns=last_ns // slices + 1, slices=slices)
    width_s = cut.width_ns / NS_PER_S
    sent = columns.outcome != Outcome.NOT_SENT
    quantiles = cut.latencies_ms(columns)
    return Series(
        width_s=width_s,
        centers_s=(np.arange(slices, dtype=np.float64) + 0.5) * width_s,
        p50_ms=quantiles[:, 0],
        p99_ms=quantiles[:, 1],
        sent_per_s=cut.per_s(columns.sent_ns[sent]),
        ok_per_s=cut.per_s(columns.done_ns[columns.ok]),
        errors_per_s=cut.errors_per_s(columns),
    )


@dataclass(frozen=True)
class _Cut:
    width_ns: int
    slices: int

    def per_s(self, times_ns: Int64s) -> Float64s:
        """Counts the times (n,) in each slice, per second: (slices,)."""
        counts = np.bincount(times_ns // self.width_ns, minlength=self.slices)
        return counts / (self.width_ns / NS_PER_S)

    def errors_per_s(self, columns: Columns) -> dict[Outcome, Float64s]:
        codes = np.unique(columns.outcome[~columns.ok])
        return {
            Outcome(int(code)): self.per_s(columns.done_ns[columns.outcome == code])
            for code in codes
        }

    def latencies_ms(self, columns: Columns) -> Float64s:
        """Median and p99 of the good requests due in each slice, (slices, 2)."""
        good: Bools = columns.ok
        places = columns.due_ns[good] // self.width_ns
        order = np.argsort(places, kind="stable")
        ends = np.searchsorted(places[order], np.arange(self.slices + 1))
        latencies_ns = columns.latency_ns[good][order]
        quantiles = np.full((self.slices, 2), np.nan)
        for place, (start, end) in enumerate(pairwise(ends)):
            if end > start:
                quantiles[place] = percentiles(latencies_ns[start:end], (50.0, 99.0)) / NS_PER_MS
        return quantiles
