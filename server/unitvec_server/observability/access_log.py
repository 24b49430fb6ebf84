"""A log line, without texts, for each call that failed and, at level debug, for each other."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from unitvec_server.rpc.calls import CANCELLED, OK, Call

logger = logging.getLogger(__name__)

_MOST_PER_S = 100
"""Lines in a second. Clients whose calls all fail must neither fill a disk nor hold others up."""

LEVELS: Mapping[str, int] = {
    OK: logging.DEBUG,
    CANCELLED: logging.INFO,
    "INVALID_ARGUMENT": logging.INFO,
    "NOT_FOUND": logging.INFO,
    "UNAUTHENTICATED": logging.WARNING,
    "RESOURCE_EXHAUSTED": logging.WARNING,
    "DEADLINE_EXCEEDED": logging.WARNING,
    "UNAVAILABLE": logging.WARNING,
}
"""Levels of lines by status; a status that is not here is an error.

A failure that the client caused is information, and one that the operator can prevent a warning.
Calls that succeed are many and alike, so they are for debugging only."""


class AccessLog:
    """Writes the lines.

    Args:
        clock_s: A monotonic clock in seconds.
    """

    def __init__(self, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._second = 0.0
        self._lines = 0
        self._left_out = 0

    def __call__(self, call: Call) -> None:
        """Logs a call that is over, if its level is logged and this second has room for a line."""
        level = LEVELS.get(call.code, logging.ERROR)
        if call.failed and call.code == OK:
            level = logging.WARNING
        if not logger.isEnabledFor(level):
            return
        if not self._has_room():
            self._left_out += 1
            return
        fields = describe(call)
        if self._left_out:
            fields["left_out"], self._left_out = self._left_out, 0
        logger.log(level, "call", extra={"fields": fields})

    def _has_room(self) -> bool:
        now_s = self._clock_s()
        if now_s - self._second >= 1:
            self._second, self._lines = now_s, 0
        self._lines += 1
        return self._lines <= _MOST_PER_S


def describe(call: Call) -> dict[str, Any]:
    """Returns the fields of a line. Times are those of the list of texts that took longest."""
    fields: dict[str, Any] = {
        "request_id": call.request_id,
        "peer": call.peer,
        "method": f"{call.method.service}/{call.method.name}",
        "code": call.code,
        "total_ms": _ms(call.ended_ns - call.started_ns),
    }
    if call.failed:
        fields |= {"reason": call.reason, "failed": call.failed}
    if call.lists:
        fields |= {
            "lists": call.lists,
            "texts": call.texts,
            "tokens": call.tokens,
            "tokenize_ms": _ms(call.tokenize_ns),
            "queue_ms": _ms(call.queue_ns),
            "infer_ms": _ms(call.infer_ns),
        }
    return fields


def _ms(time_ns: int) -> float:
    return round(time_ns / 1e6, 3)
