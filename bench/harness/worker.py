"""A contender's own process: commands as JSON lines on stdin, answers as JSON lines on stdout.

The first line names the adapter and its setup; each further line is one measurement. It ends
with its input. A failure ends it with a traceback on stderr, which the harness reports.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Iterable
from typing import Any, TextIO

import numpy as np

from bench.harness.adapter import Adapter, Call, Outcome, Setup, count_tokens
from bench.harness.procfs import CpuTime, peak_rss_bytes

PRIME_TEXTS = 16
"""Embedded untimed before each measurement: caches are cold after the others' turns."""


def main() -> int:
    """Serves until its input ends."""
    replies = _own_stdout()
    hello = json.loads(sys.stdin.readline())
    setup = Setup(**hello["setup"])
    _limit_cpus(setup.threads)
    adapter = _load(hello["adapter"], setup)
    _reply(replies, {"versions": _versions(adapter)})
    for line in sys.stdin:
        _reply(replies, _measure(adapter, json.loads(line), setup))
    adapter.close()
    return 0


def _own_stdout() -> TextIO:
    """Keeps stdout for answers: what libraries print goes to stderr."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies


def _limit_cpus(threads: int) -> None:
    """Makes the budget binding, whatever a library's own thread settings do."""
    usable = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, usable[:threads])


def _load(name: str, setup: Setup) -> Adapter:
    module, _, attribute = name.partition(":")
    adapter: Adapter = getattr(importlib.import_module(module), attribute)(setup)
    return adapter


def _measure(adapter: Adapter, command: dict[str, Any], setup: Setup) -> dict[str, Any]:
    texts, call = command["texts"], Call(**command["call"])
    adapter.prepare(texts[:PRIME_TEXTS], call)()
    run = adapter.prepare(texts, call)
    outcomes: list[Outcome] = []
    before = CpuTime.now()
    started_ns = time.perf_counter_ns()
    while not outcomes or time.perf_counter_ns() - started_ns < command["min_s"] * 1e9:
        outcomes.append(run())
    seconds = (time.perf_counter_ns() - started_ns) / 1e9
    used = CpuTime.now().since(before)
    np.save(command["vectors_path"], outcomes[-1].vectors)
    tokenizer_path = os.path.join(setup.artifact, "tokenizer.json")  # noqa: PTH118 (plain string)
    return {
        "seconds": seconds,
        "passes": len(outcomes),
        "tokens": count_tokens(tokenizer_path, texts, limit=adapter.token_limit),
        "cpu_s": used.group_s,
        "others_cpu_s": max(0.0, used.system_s - used.group_s),
        "peak_rss_bytes": peak_rss_bytes(),
        **_latencies(outcomes),
    }


def _latencies(outcomes: Iterable[Outcome]) -> dict[str, float]:
    latencies_ms = np.concatenate([outcome.latencies_ns for outcome in outcomes]) / 1e6
    p50, p99 = np.percentile(latencies_ms, (50, 99))
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


def _versions(adapter: Adapter) -> dict[str, str]:
    """Of those that are installed: onnxruntime, for one, goes by several names."""
    found = {"python": sys.version.split()[0]}
    for name in ("numpy", *adapter.packages):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _reply(replies: TextIO, content: dict[str, Any]) -> None:
    print(json.dumps(content), file=replies, flush=True)


if __name__ == "__main__":
    sys.exit(main())
