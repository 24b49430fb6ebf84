"""The load tester, for a harness: its flags in, numbers and each latency as JSON out.

It prints a line when it begins to send, and one with the outcome at its end. SIGTERM ends the
run early, with the outcome until then.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

from bench.harness.procfs import CpuTime
from unitvec_loadtest.cli import loop_factory
from unitvec_loadtest.flags import read_settings
from unitvec_loadtest.report import Report, to_json
from unitvec_loadtest.settings import Settings
from unitvec_loadtest.statistics import NS_PER_MS, select
from unitvec_loadtest.tester import LoadTest

BEGUN = "begun"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one load test."""
    settings = read_settings(argv)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        print(json.dumps(runner.run(_run(settings))), flush=True)
    return 0


async def _run(settings: Settings) -> dict[str, Any]:
    test = LoadTest(settings)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, test.stop)
    print(BEGUN, flush=True)
    before, own_s, started_s = CpuTime.now(), time.process_time(), time.perf_counter()
    report = await test.run()
    used = CpuTime.now().since(before)
    return {
        "run_s": time.perf_counter() - started_s,
        "client_cpu_s": time.process_time() - own_s,
        "group_cpu_s": used.group_s,
        "others_cpu_s": max(0.0, used.system_s - used.group_s),
        "texts_per_request": settings.texts_per_request,
        **_numbers(report),
    }


def _numbers(report: Report) -> dict[str, Any]:
    summary, columns = report.summary, report.columns
    good = select(columns, columns.ok & columns.measured)
    errors = {error["code"]: error["count"] for error in to_json(report)["summary"]["errors"]}
    return {
        "sent_per_s": summary.rate_per_s,
        "ok_per_s": summary.requests_per_s,
        "outcomes": {"OK": summary.succeeded, **errors},
        "latencies_ms": [round(value / NS_PER_MS, 3) for value in good.latency_ns.tolist()],
        "server_ms": [round(value / NS_PER_MS, 3) for value in good.total_ns.tolist()],
        "lag_p99_ms": summary.lag.p99_ms if summary.lag else 0.0,
    }


if __name__ == "__main__":
    sys.exit(main())
