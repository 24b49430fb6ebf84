"""A log line, without texts, for each call that failed and, at level debug, for each other."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from unitvec_server.doors.calls import CANCELLED, OK, Call

logger = logging.getLogger(__name__)

LEVELS: Mapping[str, int] = {
    OK: logging.DEBUG,
    CANCELLED: logging.INFO,
    "INVALID_ARGUMENT": logging.INFO,
    "NOT_FOUND": logging.INFO,
    "UNIMPLEMENTED": logging.INFO,
    "UNAUTHENTICATED": logging.WARNING,
    "RESOURCE_EXHAUSTED": logging.WARNING,
    "DEADLINE_EXCEEDED": logging.WARNING,
    "UNAVAILABLE": logging.WARNING,
}
"""Levels of lines by status; a status that is not here is an error.

A failure that the client caused is information, and one that the operator can prevent a warning.
Calls that succeed are many and alike, so they are for debugging only."""


def log_call(call: Call) -> None:
    """Logs a call that is over, if its level is logged."""
    level = LEVELS.get(call.code, logging.ERROR)
    if call.failed and call.code == OK:
        level = logging.WARNING
    if logger.isEnabledFor(level):
        logger.log(level, "call", extra={"fields": describe(call)})


def describe(call: Call) -> dict[str, Any]:
    """Returns the fields of a line. Times are those of the list of texts that took longest."""
    fields: dict[str, Any] = {
        "request_id": call.request_id,
        "peer": call.peer,
        "method": _method(call),
        "code": call.code,
        "total_ms": _ms(call.ended_ns - call.started_ns),
    }
    if call.http_status:
        fields["status"] = int(call.http_status)
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


def _method(call: Call) -> str:
    service, name, kind = call.method
    return f"{kind} {name}" if call.http_status else f"{service}/{name}"


def _ms(time_ns: int) -> float:
    return round(time_ns / 1e6, 3)
