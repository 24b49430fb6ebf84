"""Logs: readable lines on a terminal, one JSON object a line elsewhere. Texts are never logged."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sys


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


def configure_logging(*, log_format: str, level: str) -> None:
    """Sends all logs to stderr.

    Args:
        log_format: ``text``, ``json``, or ``auto``: text on a terminal, else json.
        level: ``debug``, ``info``, ``warning`` or ``error``.
    """
    as_text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
    handler.setFormatter(text if as_text else _JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
