"""The harness's side of a worker: start, ask, put to sleep, end."""

from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from bench.harness.adapter import Setup

ROOT = Path(__file__).parents[2]
LOAD_TIMEOUT_S = 600.0
_END_TIMEOUT_S = 10.0
_ERROR_LINES = 3
# Settings of our own would change what is measured.
_DROPPED_PREFIX = "UNITVEC_"


class WorkerFailed(Exception):
    """A worker ended or said nothing in time. The message is the end of what it logged."""


@dataclasses.dataclass(frozen=True)
class Command:
    """How a worker is started.

    Attributes:
        python: Interpreter of its environment.
        adapter: ``module:Class``.
        setup: What the adapter is given.
        log_path: Takes its stderr.
    """

    python: Path
    adapter: str
    setup: Setup
    log_path: Path


class Worker:
    """A running worker, asleep except while it answers.

    Asleep means stopped by signal with all of its children, so that no thread of a contender
    that is not being measured can spin.

    Args:
        command: How it is started.

    Attributes:
        versions: Of the packages that it runs on.
        load_s: Time until it was ready.

    Raises:
        WorkerFailed: It did not come up.
    """

    def __init__(self, command: Command) -> None:
        self._log_path = command.log_path
        started_s = time.monotonic()
        with command.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [str(command.python), "-m", "bench.harness.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env=environment_variables(command.setup.threads),
                start_new_session=True,
            )
        try:
            hello = {"adapter": command.adapter, "setup": dataclasses.asdict(command.setup)}
            self.versions: dict[str, str] = self.ask(hello, timeout_s=LOAD_TIMEOUT_S)["versions"]
        except BaseException:
            self.close()
            raise
        self.load_s = time.monotonic() - started_s

    @property
    def process_id(self) -> int:
        """Of the worker, and of the group that it leads."""
        return self._process.pid

    def ask(self, command: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
        """Wakes the worker, sends one command, waits for its answer, puts it to sleep.

        Raises:
            WorkerFailed: It ended, or did not answer in time.
        """
        self._signal(signal.SIGCONT)
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._read_line(timeout_s))
        except BrokenPipeError:
            raise WorkerFailed(self._last_words()) from None
        self._signal(signal.SIGSTOP)
        # Signals take a moment: nobody else's turn begins before all threads have stopped.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        return answer

    def close(self) -> None:
        """Ends the worker and all that it started."""
        self._signal(signal.SIGCONT)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # It ends by itself when its input does; what is left of its group is killed.
        try:
            self._process.stdin.close()
            self._process.wait(_END_TIMEOUT_S)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            pass
        self._signal(signal.SIGKILL)
        self._process.stdout.close()
        self._process.wait()

    def _read_line(self, timeout_s: float) -> bytes:
        assert self._process.stdout is not None
        pipe, line = self._process.stdout.fileno(), b""
        deadline_s = time.monotonic() + timeout_s
        while not line.endswith(b"\n"):
            left_s = max(0.0, deadline_s - time.monotonic())
            if not select.select([pipe], [], [], left_s)[0]:
                raise WorkerFailed(f"no answer within {timeout_s:g} s; {self._last_words()}")
            part = os.read(pipe, 65_536)
            if not part:
                raise WorkerFailed(self._last_words())
            line += part
        return line

    def _last_words(self) -> str:
        lines = self._log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return " | ".join(lines[-_ERROR_LINES:]) or "it ended without a word"

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return


def environment_variables(threads: int) -> dict[str, str]:
    """This process's environment with every library's thread setting at `threads`, offline."""
    kept = {key: val for key, val in os.environ.items() if not key.startswith(_DROPPED_PREFIX)}
    counts = (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "RAYON_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    )
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    offline["ORT_DISABLE_TELEMETRY"] = "1"
    return kept | offline | dict.fromkeys(counts, str(threads)) | {"PYTHONUNBUFFERED": "1"}
