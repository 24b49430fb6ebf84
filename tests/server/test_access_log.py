"""Which calls are logged, how loudly, and what is said of them."""

import json
import logging
from collections.abc import Callable

import pytest

from tests.server.test_calls import begin, work
from unitvec_server.doors.calls import CODES, Call
from unitvec_server.errors import InvalidRequest, Overloaded
from unitvec_server.observability.access_log import log_call
from unitvec_server.observability.logs import configure_logging, open_stderr

LOUDER_THAN_INFO = {
    "UNAUTHENTICATED": logging.WARNING,
    "RESOURCE_EXHAUSTED": logging.WARNING,
    "DEADLINE_EXCEEDED": logging.WARNING,
    "UNAVAILABLE": logging.WARNING,
    "INTERNAL": logging.ERROR,
    "UNKNOWN": logging.ERROR,
    "DATA_LOSS": logging.ERROR,
    "UNIMPLEMENTED": logging.ERROR,
}


@pytest.fixture
def written(caplog: pytest.LogCaptureFixture) -> Callable[[], list[logging.LogRecord]]:
    """Lines so far."""
    caplog.set_level(logging.INFO)
    return lambda: [record for record in caplog.records if record.name.endswith("access_log")]


def ended(code: str = "OK") -> Call:
    """A call that is over."""
    call = begin()
    call.code, call.ended_ns = code, call.started_ns + 1_234_567
    return call


@pytest.mark.parametrize("code", sorted(set(CODES) - {"OK"}))
def test_failures_are_always_logged(code: str, written: Callable[[], list]) -> None:
    """What the caller did itself is information."""
    log_call(ended(code))
    [record] = written()
    assert record.fields["code"] == code
    if code in {"CANCELLED", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED"}:
        assert record.levelno == logging.INFO
    else:
        assert record.levelno == LOUDER_THAN_INFO.get(code, logging.ERROR)


def test_successes_are_logged_for_those_who_debug(
    written: Callable[[], list], caplog: pytest.LogCaptureFixture
) -> None:
    log_call(ended())
    assert written() == []
    caplog.set_level(logging.DEBUG)
    log_call(ended())
    assert [record.levelno for record in written()] == [logging.DEBUG]


def test_a_stream_with_failed_requests_is_no_plain_success(written: Callable[[], list]) -> None:
    call = ended()
    call.note(InvalidRequest("no", reason="NO_TEXTS"))
    log_call(call)
    [record] = written()
    assert record.levelno == logging.WARNING
    assert (record.fields["failed"], record.fields["reason"]) == (1, "NO_TEXTS")


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_line_tells_what_a_call_was_and_cost(
    log_format: str, capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    request.addfinalizer(lambda: (setattr(root, "handlers", before[0]), root.setLevel(before[1])))
    writer = open_stderr()
    configure_logging(writer, log_format=log_format, level="info")
    call = ended("RESOURCE_EXHAUSTED")
    call.add(work(3, tokenize_ns=1_000_000, queue_ns=20_000_000, infer_ns=3_500_000))
    call.note(Overloaded("full", retry_delay_s=1, bound="deadline"))
    log_call(call)
    writer.flush()
    [line] = capfd.readouterr().err.splitlines()
    told = {
        "request_id": "id",
        "peer": "ipv4:127.0.0.1:1",
        "method": "a.b/C",
        "code": "RESOURCE_EXHAUSTED",
        "total_ms": 1.235,
        "reason": "OVERLOADED",
        "failed": 1,
        "lists": 1,
        "texts": 3,
        "tokens": 6,
        "tokenize_ms": 1.0,
        "queue_ms": 20.0,
        "infer_ms": 3.5,
    }
    if log_format == "text":
        assert line.endswith(" ".join(f"{key}={value}" for key, value in told.items()))
    else:
        entry = json.loads(line)
        assert {key: entry[key] for key in told} == told
        assert set(entry) - set(told) == {"time", "level", "logger", "message"}
