"""One line on the terminal that says how a run is going."""

import asyncio
from typing import TextIO

from unitvec_client.console.terminal import StatusLine
from unitvec_loadtest.pacer import NS_PER_S
from unitvec_loadtest.results import Columns
from unitvec_loadtest.runner import Run
from unitvec_loadtest.statistics import NS_PER_MS, percentiles

INTERVAL_S = 0.5


def describe_recent(
    recent: Columns, *, elapsed_s: float, interval_s: float, failed: int
) -> tuple[str, ...]:
    """Says in forms from long to short what ended in the last `interval_s` seconds.

    The `failed` are those since the start.
    """
    good_ns = recent.latency_ns[recent.ok]
    p50, p99 = "-", "-"
    if len(good_ns):
        quantiles_ms = percentiles(good_ns, (50.0, 99.0)) / NS_PER_MS
        p50, p99 = (f"{value:,.1f} ms" for value in quantiles_ms)
    rate = len(recent.due_ns) / interval_s
    return (
        f"{elapsed_s:6.1f} s  {rate:9,.1f} req/s  p50 {p50:>11}  p99 {p99:>11}  {failed:,} errors",
        f"{elapsed_s:.0f} s  {rate:,.1f} req/s  p99 {p99}  {failed:,} errors",
        f"{rate:,.1f} req/s  {failed:,} errors",
    )


async def show_progress(run: Run, *, stream: TextIO) -> None:
    """Rewrites one line of `stream` until cancelled, then wipes it."""
    shown = StatusLine(stream)
    seen, failed, last_ns = 0, 0, run.now_ns
    try:
        while True:
            await asyncio.sleep(INTERVAL_S)
            now_ns, ended = run.now_ns, len(run.results)
            recent = run.results.columns(last=ended - seen)
            failed += int((~recent.ok).sum())
            interval_s = (now_ns - last_ns) / NS_PER_S
            forms = describe_recent(
                recent, elapsed_s=now_ns / NS_PER_S, interval_s=interval_s, failed=failed
            )
            shown.show(*forms)
            seen, last_ns = ended, now_ns
    finally:
        shown.clear()
