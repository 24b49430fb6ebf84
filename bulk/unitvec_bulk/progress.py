"""How far a job is: for people while it runs, and as figures at its end."""

from __future__ import annotations

import collections
import time
from collections.abc import Iterable
from typing import Any

from unitvec_bulk.reading.pieces import Piece
from unitvec_bulk.writing.shards import Counts
from unitvec_client.console.terminal import clock_face


class Progress:
    """Counts chunks as they come back. Safe to read from another thread.

    Args:
        input_bytes: Size of all files.
        left: Pieces that are not done.
        before: Counts of those that are.

    Attributes:
        counts: Counts of all that is done, that of earlier runs included.
    """

    def __init__(self, input_bytes: int, *, left: Iterable[Piece], before: Counts) -> None:
        self._input_bytes = max(1, input_bytes)
        self._read_bytes = input_bytes - sum(piece.size_bytes for piece in left)
        self._started_s = time.monotonic()
        self._first_s: float | None = None
        self._new = Counts()
        self._new_bytes = 0
        self._by_host: dict[str, list[float]] = collections.defaultdict(lambda: [0.0, 0.0])
        self.counts = before

    def note(self, result: dict[str, Any]) -> None:
        """Takes in what came of one chunk."""
        counts = Counts(*(result[name] for name in ("rows", "failed", "vectors", "tokens")))
        self.counts += counts
        self._read_bytes += result["input_bytes"]
        if result["is_new"]:
            now_s = time.monotonic()
            self._first_s = self._first_s or now_s - result["busy_s"]
            self._new += counts
            self._new_bytes += result["input_bytes"]
            host = self._by_host[result["host"]]
            host[0] += counts.rows
            host[1] += result["busy_s"]

    def forms(self, elapsed_s: float) -> tuple[str, ...]:
        """What the terminal says, from long to short."""
        part = min(1.0, self._read_bytes / self._input_bytes)
        rate = self._rate(time.monotonic())
        counts = self.counts
        done = f"{clock_face(elapsed_s)} {part:4.0%}"
        if not self._new.rows:
            return (f"{done}  {counts.rows:,} rows  starting",)
        failed = f"  {counts.failed:,} failed" if counts.failed else ""
        left = f"{clock_face(self._left_s())} left"
        speed = f"{rate:,.0f} rows/s  {left}{failed}"
        return (
            f"{done}  {counts.rows:,} rows  {counts.tokens:,} tokens  {speed}",
            f"{done}  {counts.rows:,} rows  {speed}",
            f"{done}  {left}{failed}",
        )

    def facts(self, *, elapsed_s: float) -> dict[str, Any]:
        """Figures of this run, for the summary; rates leave its start out."""
        now_s = time.monotonic()
        embedding_s = now_s - self._first_s if self._first_s else 0.0
        hosts = {
            host: {
                "rows": int(rows),
                "worker_s": round(busy_s, 3),
                "rows_per_worker_s": rows / busy_s,
            }
            for host, (rows, busy_s) in sorted(self._by_host.items())
        }
        return {
            "this_run": {
                "rows": self._new.rows,
                "tokens": self._new.tokens,
                "elapsed_s": round(elapsed_s, 3),
                "embedding_s": round(embedding_s, 3),
                "rows_per_s": self._rate(now_s),
                "nodes": hosts,
            }
        }

    def _rate(self, now_s: float) -> float:
        if self._first_s is None:
            return 0.0
        return self._new.rows / max(1e-9, now_s - self._first_s)

    def _left_s(self) -> float:
        if self._first_s is None or not self._new_bytes:
            return 0.0
        spent_s = time.monotonic() - self._first_s
        return spent_s * max(0, self._input_bytes - self._read_bytes) / self._new_bytes
