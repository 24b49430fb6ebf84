"""Load on a server of ours, from load testers in processes of their own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TextIO

from bench.harness.process import ROOT, WorkerFailed, environment_variables
from bench.harness.server_process import ServerProcess
from bench.pressure.load_worker import BEGUN
from bench.results import Load
from bench.workloads import load_corpora

_TEXTS = 20_000
"""In a file: more than are ever in flight, for a server runs equal ones once."""
_LAST_WORDS_CHARS = 500


@dataclasses.dataclass(frozen=True)
class Site:
    """Where load is put on.

    Attributes:
        target: The server's ``host:port``.
        texts: Files of short texts, no two of which are equal, in one or in both.
        env: Environment variables of load testers.
        threads: CPUs that the server and all that load it share.
    """

    target: str
    texts: tuple[Path, Path]
    env: Mapping[str, str]
    threads: int


@contextlib.contextmanager
def open_site(server_flags: Sequence[str], *, threads: int) -> Iterator[Site]:
    """Starts a server; it and all that load it share so many CPUs.

    Raises:
        WorkerFailed: The server does not start.
    """
    env = environment_variables(threads)
    command = ["-m", "unitvec_server", "--port", "0", "--log-format", "text", *server_flags]
    with tempfile.TemporaryDirectory() as name, held_to(threads):
        folder = Path(name)
        texts = (folder / "small.txt", folder / "large.txt")
        for number, path in enumerate(texts):
            write_texts(path, first=number * _TEXTS)
        with (
            (folder / "server.log").open("w", encoding="utf-8") as log,
            ServerProcess(command, log=log, env=env) as server,
        ):
            yield Site(server.target, texts, env, threads)


@contextlib.contextmanager
def held_to(threads: int) -> Iterator[None]:
    """Binds this process, and what it starts meanwhile, to its first `threads` CPUs."""
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(usable)[:threads])
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)


def write_texts(path: Path, *, first: int, count: int = _TEXTS) -> None:
    """Writes different texts, one a line: glosses, each after a number of its own."""
    glosses = [" ".join(text.split()) for text in load_corpora(None).short]
    numbers = range(first, first + count)
    lines = [f"{number} {glosses[number % len(glosses)]}\n" for number in numbers]
    path.write_text("".join(lines), encoding="utf-8")


class LoadTester:
    """A running load tester; a context manager, for it must not outlive its harness.

    Args:
        site: Whom to load.
        flags: Of `unitvec-loadtest`, without the target.
        log: Takes its stderr.

    Raises:
        WorkerFailed: It ended before it began to send.
    """

    def __init__(self, site: Site, flags: Sequence[str], *, log: TextIO) -> None:
        self._log = log
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.pressure.load_worker", "--target", site.target, *flags],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=ROOT,
            env=site.env,
        )
        if self._read_line() != BEGUN:
            self._fail()

    def wait(self) -> dict[str, Any]:
        """Waits for its end, and returns what it saw: fields of `Load`.

        Raises:
            WorkerFailed: It ended without saying.
        """
        line = self._read_line()
        if self._process.wait() or not line:
            self._fail()
        numbers: dict[str, Any] = json.loads(line)
        return numbers

    def stop(self) -> dict[str, Any]:
        """Ends the run early; else like `wait`."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def _read_line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def _fail(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.seek(0)
        words = " ".join(self._log.read()[-_LAST_WORDS_CHARS:].split())
        raise WorkerFailed(f"the load tester ended: {words or 'without a word'}")


@contextlib.contextmanager
def load_tester(site: Site, **flags: object) -> Iterator[LoadTester]:
    """Starts a load tester with these flags, ``rate=5`` for ``--rate 5``."""
    words = [
        word
        for name, value in flags.items()
        if value is not None
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as log,
        LoadTester(site, [*words, "--allow-errors"], log=log) as tester,
    ):
        yield tester


def as_record(
    numbers: Mapping[str, Any], condition: str, number: int, factor: float | None = None
) -> Load:
    """What a load tester saw, as a record of round `number`."""
    return Load(condition=condition, round=number, factor=factor, **numbers)
