"""Lines are written by a thread of their own: who logs never waits, what is lost is counted."""

from __future__ import annotations

import contextvars
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.test_calls import begin
from unitvec_server.doors import calls
from unitvec_server.observability.logs import Flood, LogWriter, configure_logging, open_stderr

PIPE_BYTES = 2**16
LINE = "x" * 1023


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_lines_come_whole_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        writer = LogWriter(file.fileno())
        for number in range(1000):
            writer.put(f"line {number} \ud800")
        writer.flush()
    assert path.read_text().splitlines() == [f"line {number} \\ud800" for number in range(1000)]
    assert writer.dropped == 0


def test_a_stuck_reader_costs_lines_beyond_a_bound_and_is_told(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it reads again: how many are missing, in a line of its own."""
    reader, writer_fd = pipe
    writer = LogWriter(writer_fd, most_bytes=100 * 1024)
    told = logging.getLogger("unitvec_server.observability.logs")
    monkeypatch.setattr(told, "warning", lambda text, *args: writer.put(text % args))
    for _ in range(1000):
        writer.put(LINE)
    dropped = writer.dropped
    kept = 1000 - dropped
    assert 100 <= kept <= 100 + PIPE_BYTES // 1024
    with os.fdopen(os.dup(reader)) as lines:
        assert [lines.readline() for _ in range(kept)] == [LINE + "\n"] * kept
        assert lines.readline() == f"{dropped} log lines are missing: they could not be written\n"
    assert writer.dropped == dropped


def test_a_pipe_that_may_not_block_is_waited_for(pipe: tuple[int, int]) -> None:
    """Whoever starts a server may have made its end so."""
    reader, writer_fd = pipe
    os.set_blocking(writer_fd, False)
    writer = LogWriter(writer_fd)
    for _ in range(100):
        writer.put(LINE)
    with os.fdopen(os.dup(reader)) as lines:
        assert [lines.readline() for _ in range(100)] == [LINE + "\n"] * 100
    assert writer.dropped == 0


def test_a_full_disk_costs_every_line_and_nothing_else() -> None:
    with Path("/dev/full").open("wb", buffering=0) as file:
        writer = LogWriter(file.fileno())
        for _ in range(10):
            writer.put(LINE)
        writer.flush()
        assert writer.dropped == 10


def test_without_standard_error_lines_are_dropped() -> None:
    writer = LogWriter(None)
    writer.put(LINE)
    writer.flush()
    assert writer.dropped == 1


class Lines(list[logging.LogRecord]):
    """What gets through to a log, on a clock of its own."""

    def __init__(self) -> None:
        self.now_s = 7.0
        self._flood = Flood(clock_s=lambda: self.now_s)

    def log(self, *names: str) -> None:
        """Logs a line of each logger."""
        for name in names:
            record = logging.LogRecord(name, logging.ERROR, "", 0, "failed", (), None)
            if self._flood.filter(record):
                self.append(record)

    def left_out(self) -> list[tuple[str, int]]:
        """What the lines say of those before them."""
        told = [(line.name, getattr(line, "fields", {}).get("left_out", 0)) for line in self]
        return [(name, count) for name, count in told if count]


def test_a_flood_of_lines_is_bounded_and_owned_up_to() -> None:
    """100 lines a second of each logger, gRPC's too; the next one tells how many were left out."""
    lines = Lines()
    for _ in range(1000):
        lines.log("grpc._cython.cygrpc", "unitvec_server.access")
    assert len(lines) == 200
    lines.now_s += 1.0
    lines.log("grpc._cython.cygrpc", "grpc._cython.cygrpc", "asyncio")
    assert len(lines) == 203
    assert lines.left_out() == [("grpc._cython.cygrpc", 900)]


def test_what_is_logged_for_a_call_carries_its_request_id(
    capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    """But for what asyncio logs: whose call runs when it does is chance."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    request.addfinalizer(lambda: (setattr(root, "handlers", before[0]), root.setLevel(before[1])))
    writer = open_stderr()
    configure_logging(writer, log_format="json", level="info")

    def log() -> None:
        calls.current.set(begin())
        for name in ("grpc._cython.cygrpc", "asyncio"):
            logging.getLogger(name).error("failed")

    contextvars.Context().run(log)
    writer.flush()
    told = [json.loads(line).get("request_id") for line in capfd.readouterr().err.splitlines()]
    assert told == ["id", None]
