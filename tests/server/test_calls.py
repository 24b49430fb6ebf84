"""What is noted of a call, and counted of all."""

import logging
import math

import grpc
import pytest

from unitvec_server.doors import calls
from unitvec_server.doors.calls import CODES, Call, ErrorTally, MethodTally, name_method
from unitvec_server.engine.counters import Work
from unitvec_server.errors import BOUNDS, InvalidRequest, Overloaded, RequestError

METHOD = name_method("/a.b/C", streams_in=False, streams_out=False)


def begin(**fields: object) -> Call:
    """A call of no one in particular."""
    given = {"metadata": {}, "errors": ErrorTally()} | fields
    return Call(METHOD, "id", peer="ipv4:127.0.0.1:1", deadline_s=math.inf, **given)  # type: ignore[arg-type]


def work(texts: int, *, tokenize_ns: int = 1, queue_ns: int = 2, infer_ns: int = 3) -> Work:
    """So many texts of two tokens."""
    return Work("m", texts, 2 * texts, 10, tokenize_ns, queue_ns, infer_ns)


def test_codes_are_those_of_grpc() -> None:
    """Each name at its number."""
    assert dict(enumerate(CODES)) == {code.value[0]: code.name for code in grpc.StatusCode}


@pytest.mark.parametrize(
    ("streams_in", "streams_out", "kind"),
    [
        (False, False, "unary"),
        (False, True, "server_stream"),
        (True, False, "client_stream"),
        (True, True, "bidi_stream"),
    ],
)
def test_kinds(streams_in: bool, streams_out: bool, kind: str) -> None:
    """The names that metrics of gRPC have everywhere."""
    method = name_method("/p.v1.Service/Do", streams_in=streams_in, streams_out=streams_out)
    assert method == ("p.v1.Service", "Do", kind)


def test_lists_of_texts_add_up_and_the_longest_time_of_each_kind_counts() -> None:
    """As in the timings of replies."""
    call = begin()
    call.add(work(1, tokenize_ns=5, queue_ns=1, infer_ns=1))
    call.add(work(3, tokenize_ns=2, queue_ns=4, infer_ns=9))
    assert (call.lists, call.texts, call.tokens) == (2, 4, 8)
    assert (call.tokenize_ns, call.queue_ns, call.infer_ns) == (5, 4, 9)


def test_a_long_stream_keeps_its_first_lists_only() -> None:
    """Memory is bounded; the sums go on."""
    call = begin()
    for _ in range(1000):
        call.add(work(1))
    assert len(call.works) == 64
    assert call.lists == call.texts == 1000


def test_errors_are_counted_by_reason_and_by_bound() -> None:
    """Default reasons and all bounds from 0."""
    tally = ErrorTally()
    assert not any(tally.by_reason.values())
    assert tally.by_bound == dict.fromkeys(BOUNDS, 0)
    call = begin(errors=tally)
    call.note(InvalidRequest("no", reason="NO_TEXTS"))
    call.note(Overloaded("full", retry_delay_s=1, bound="deadline"))
    assert (call.failed, call.reason) == (2, "OVERLOADED")
    assert +tally.by_reason == {"NO_TEXTS": 1, "OVERLOADED": 1}
    assert +tally.by_bound == {"deadline": 1}
    assert {kind.default_reason for kind in RequestError.__subclasses__()} <= set(tally.by_reason)


def test_a_call_that_ends_is_counted_and_shown(caplog: pytest.LogCaptureFixture) -> None:
    """Once, and also to those after an observer that fails, which harms nobody."""
    seen: list[Call] = []

    def fails(_: Call) -> None:
        raise ZeroDivisionError

    call, tally = begin(), MethodTally(METHOD)
    call.code = "NOT_FOUND"
    for _ in range(2):
        calls.end(call, tally, [fails, seen.append])
    assert seen == [call]
    assert call.ended_ns >= call.started_ns
    assert +tally.handled == {"NOT_FOUND": 1}
    assert sum(tally.seconds.read().counts) == 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
