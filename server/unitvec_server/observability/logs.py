"""Logs: readable lines on a terminal, one JSON object a line elsewhere. Texts are never logged.

Code that logs never waits for the reader of the log, because a thread of its own writes the lines.
When the reader hangs or the disk is full, lines are lost and counted, and calls go on.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import logging
import math
import os
import select
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable

from unitvec_server.doors import calls

logger = logging.getLogger(__name__)

_MOST_BYTES = 2**20
"""Bytes of the lines that may wait to be written: some thousands of lines."""

_MOST_PER_S = 100
"""Lines of one logger in a second: clients whose calls all fail must not fill a disk."""

_FLUSH_S = 1.0
"""Time to write the last lines when the process ends."""


class LogWriter:
    """Writes lines to a file from a thread of its own.

    Args:
        fd: The descriptor of the file; None drops all lines.
        most_bytes: Bytes of the lines that may wait to be written. Further ones are dropped.

    Attributes:
        dropped: The number of lines that were not written.
    """

    def __init__(self, fd: int | None, *, most_bytes: int = _MOST_BYTES) -> None:
        self.dropped = 0
        self._fd, self._most_bytes = fd, most_bytes
        self._told = 0
        self._lines: deque[bytes] = deque()
        self._held_bytes = 0
        # A thread may take its lock twice: a signal handler logs even when it interrupts `put`.
        self._changed = threading.Condition()
        if fd is not None:
            threading.Thread(target=self._run, name="logs", daemon=True).start()

    def put(self, line: str) -> None:
        """Takes a line to write, or drops it if too many wait."""
        data = f"{line}\n".encode(errors="backslashreplace")
        with self._changed:
            if self._fd is None or self._held_bytes + len(data) > self._most_bytes:
                self.dropped += 1
                return
            self._lines.append(data)
            self._held_bytes += len(data)
            self._changed.notify_all()

    def flush(self) -> None:
        """Waits a moment for all lines to be written."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held_bytes, _FLUSH_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                line = self._lines.popleft()
            written = self._write(line)
            with self._changed:
                self._held_bytes -= len(line)
                self.dropped += not written
                self._changed.notify_all()
            # The warning waits for a line that was written, since it might be lost as well.
            if written and self.dropped != self._told:
                missing, self._told = self.dropped - self._told, self.dropped
                logger.warning("%d log lines are missing: they could not be written", missing)

    def _write(self, line: bytes) -> bool:
        assert self._fd is not None
        try:
            while line:
                try:
                    line = line[os.write(self._fd, line) :]
                except BlockingIOError:  # The parent process may have made the file so.
                    poll = select.poll()
                    poll.register(self._fd, select.POLLOUT)
                    poll.poll()
        except OSError:
            return False
        return True


class Flood(logging.Filter):
    """Limits the lines of each logger, also of those that are not ours.

    Args:
        clock_s: A monotonic clock in seconds.
    """

    def __init__(self, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock_s = clock_s
        self._lately: defaultdict[str, _Lately] = defaultdict(_Lately)

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets a line pass if this second has room for it, and adds how many were left out."""
        now_s, lately = self._clock_s(), self._lately[record.name]
        if now_s - lately.second_s >= 1:
            lately.second_s, lately.lines = now_s, 0
        lately.lines += 1
        if lately.lines > _MOST_PER_S:
            lately.left_out += 1
            return False
        if lately.left_out:
            _add_field(record, "left_out", lately.left_out)
            lately.left_out = 0
        return True


@dataclasses.dataclass(slots=True)
class _Lately:
    second_s: float = -math.inf
    lines: int = 0
    left_out: int = 0


def _name_call(record: logging.LogRecord) -> bool:
    """Adds the request id to a line that is logged for a call, also by gRPC.

    asyncio logs the failure of a task when the task is collected, which may be during another call.
    Its line has the name of the task, and that holds the right id.
    """
    call = calls.current.get(None)
    if call is not None and record.name != "asyncio":
        _add_field(record, "request_id", call.request_id)
    return True


def _add_field(record: logging.LogRecord, name: str, value: object) -> None:
    vars(record)["fields"] = {name: value, **getattr(record, "fields", {})}


class _Handler(logging.Handler):
    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer
        self.addFilter(Flood())
        self.addFilter(_name_call)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.put(self.format(record))
        except Exception:  # noqa: BLE001 - handlers of the library also report what is wrong
            self.handleError(record)

    def flush(self) -> None:
        """Waits a moment for the lines to be written."""
        self._writer.flush()


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


class _TextFormatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        fields = getattr(record, "fields", {}).items()
        return super().formatMessage(record) + "".join(f" {key}={val}" for key, val in fields)


def open_stderr() -> LogWriter:
    """Makes a writer to standard error.

    Where standard error was closed, its number may be that of another file, so nothing is written.
    """
    return LogWriter(sys.stderr.fileno() if sys.stderr else None)


def configure_logging(writer: LogWriter, *, log_format: str, level: str) -> None:
    """Sends all logs to a writer.

    Args:
        writer: The writer of the lines.
        log_format: ``text``, ``json``, or ``auto``: text on a terminal, else json.
        level: ``debug``, ``info``, ``warning`` or ``error``.
    """
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    as_text = log_format == "text" or (log_format == "auto" and is_terminal)
    handler = _Handler(writer)
    text = _TextFormatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    handler.setFormatter(text if as_text else _JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
