"""Logs: readable lines on a terminal, one JSON object a line elsewhere.

Whoever logs never waits for whoever reads: lines go to a thread that writes them. A reader that is
stuck, or a disk that is full, costs lines, which are counted, and nothing else. Texts are never
logged.
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

from unitvec_server.rpc import calls

logger = logging.getLogger(__name__)

_MOST_BYTES = 2**20
"""Of lines that wait to be written: some thousands of them."""

_MOST_PER_S = 100
"""Lines of one logger: clients that only fail must not fill a disk."""

_FLUSH_S = 1.0
"""For the last lines, when the process ends."""


class LogWriter:
    """Writes lines to a file from a thread of its own.

    Args:
        fd: The file; None for none, where all lines are dropped.
        most_bytes: Of the lines that wait; those beyond are dropped.

    Attributes:
        dropped: Lines that were not written.
    """

    def __init__(self, fd: int | None, *, most_bytes: int = _MOST_BYTES) -> None:
        self.dropped = 0
        self._fd, self._most_bytes = fd, most_bytes
        self._told = 0
        self._lines: deque[bytes] = deque()
        self._held_bytes = 0
        # Its lock may be taken twice by one thread: a signal handler logs whatever it interrupts.
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
            # Only once a line got through: this one might fail as well.
            if written and self.dropped != self._told:
                missing, self._told = self.dropped - self._told, self.dropped
                logger.warning("%d log lines are missing: they could not be written", missing)

    def _write(self, line: bytes) -> bool:
        assert self._fd is not None
        try:
            while line:
                try:
                    line = line[os.write(self._fd, line) :]
                except BlockingIOError:  # whoever started us made it so
                    poll = select.poll()
                    poll.register(self._fd, select.POLLOUT)
                    poll.poll()
        except OSError:
            return False
        return True


class Flood(logging.Filter):
    """Bounds the lines of each logger, of those that are not ours too: clients cause many of them.

    Args:
        clock_s: A monotonic clock in seconds.
    """

    def __init__(self, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock_s = clock_s
        self._lately: defaultdict[str, _Lately] = defaultdict(_Lately)

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets a line pass if this second has room for it, with the number left out before it."""
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
    """Adds the request id to what is logged for a call, by gRPC too.

    asyncio logs the failure of a task when it is collected, whatever call is at work then: it tells
    the name of the task, which has the id.
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
        except Exception:  # noqa: BLE001 - as in any handler of the library: it says what is wrong
            self.handleError(record)

    def flush(self) -> None:
        """Waits a moment."""
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
    """A writer to standard error; its number may be of another file where it was closed."""
    return LogWriter(sys.stderr.fileno() if sys.stderr else None)


def configure_logging(writer: LogWriter, *, log_format: str, level: str) -> None:
    """Sends all logs to a writer.

    Args:
        writer: Of standard error.
        log_format: ``text``, ``json``, or ``auto``: text on a terminal, else json.
        level: ``debug``, ``info``, ``warning`` or ``error``.
    """
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    as_text = log_format == "text" or (log_format == "auto" and is_terminal)
    handler = _Handler(writer)
    text = _TextFormatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    handler.setFormatter(text if as_text else _JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
