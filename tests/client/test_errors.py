"""The exception tree, its table, and how failures are read."""

from __future__ import annotations

import inspect
import pickle
from typing import Any

import grpc
import pytest

import unitvec_client
from unitvec_client import errors
from unitvec_client.cli.main import exit_code_of
from unitvec_client.core.failures import Failure, failure_of_item
from unitvec_client.errors import STATUS_TO_ERROR, ErrorFacts, UnitvecError, at_field
from unitvec_protos.v1 import embedding_pb2 as pb

CLASSES = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if issubclass(value, UnitvecError)
]


# A unitvec server, or gRPC on either side of it, sends these; others can only come from a proxy.
SENT = {
    grpc.StatusCode.OK: errors.ProtocolError,
    grpc.StatusCode.CANCELLED: errors.CallCancelledError,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidArgumentError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceededError,
    grpc.StatusCode.NOT_FOUND: errors.ModelNotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.IdentityMismatchError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.OverloadedError,
    grpc.StatusCode.UNIMPLEMENTED: errors.UnimplementedError,
    grpc.StatusCode.INTERNAL: errors.InternalError,
    grpc.StatusCode.UNAVAILABLE: errors.UnavailableError,
    grpc.StatusCode.UNAUTHENTICATED: errors.UnauthenticatedError,
}
KINDS = (errors.RefusedError, errors.TransientError, errors.ServerError)


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_status_has_an_error_of_its_own_or_of_its_kind(code: grpc.StatusCode) -> None:
    if code in SENT:
        assert STATUS_TO_ERROR[code] is SENT[code]
    else:
        assert STATUS_TO_ERROR[code] in KINDS


@pytest.mark.parametrize("kind", CLASSES)
def test_tree_in_the_docstring_names_every_class_under_its_parent(kind: type[Any]) -> None:
    lines = (errors.__doc__ or "").splitlines()
    found = [i for i, line in enumerate(lines) if kind.__name__ in line.replace("─", " ").split()]
    assert len(found) == 1
    parent = kind.__mro__[1]
    if parent is Exception:
        return
    depth = lines[found[0]].index(kind.__name__)
    above = [line for line in lines[: found[0]] if "Error" in line]
    nearest = next(line for line in reversed(above) if 0 < indent_of(line) < depth)
    assert parent.__name__ in nearest.split()


def indent_of(line: str) -> int:
    return len(line) - len(line.lstrip(" │├└─"))


@pytest.mark.parametrize("kind", CLASSES)
def test_errors_are_exported_documented_and_survive_pickling(kind: type[Any]) -> None:
    assert getattr(unitvec_client, kind.__name__) is kind
    assert kind.__doc__
    error = kind("why", ErrorFacts("REASON", "texts[1]", "id-1", 0.5, grpc.StatusCode.ABORTED))
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.message, again.facts) == (kind, "why", error.facts)
    assert (again.reason, again.field, again.request_id) == ("REASON", "texts[1]", "id-1")
    assert (again.retry_delay_s, again.code) == (0.5, grpc.StatusCode.ABORTED)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_has_an_exit_code(kind: type[Any]) -> None:
    assert exit_code_of(kind("x")) in range(1, 6)


def test_all_is_sorted_and_true() -> None:
    names = unitvec_client.__all__
    assert names == sorted(names)
    assert all(hasattr(unitvec_client, name) for name in names)


EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("failure", "retryable"),
    [
        (Failure(grpc.StatusCode.UNAVAILABLE, "x"), True),
        (Failure(EXHAUSTED, "x", pb.Error(retry_delay_ms=5)), True),
        (Failure(EXHAUSTED, "never fits", pb.Error(reason="TOO_BIG")), False),
        (Failure(EXHAUSTED, "a proxy's own limit"), True),
        (Failure(EXHAUSTED, "CLIENT: Received message larger than max (5 vs. 4)"), False),
        (Failure(EXHAUSTED, "Sent message larger than max (5 vs. 4)"), False),
        (Failure(EXHAUSTED, "received metadata size exceeds hard limit (value 5 vs. 4)"), False),
        *(
            (Failure(code, "x"), False)
            for code in grpc.StatusCode
            if code not in (EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
        ),
    ],
)
def test_what_is_tried_again(failure: Failure, retryable: bool) -> None:
    assert failure.retryable is retryable


def test_message_size_has_its_own_error() -> None:
    error = Failure(EXHAUSTED, "Received message larger than max (5 vs. 4)").to_exception(
        "large", "id"
    )
    assert isinstance(error, unitvec_client.MessageTooLargeError)


@pytest.mark.parametrize(
    ("field", "index"),
    [
        ("texts[3]", 3),
        ("queries.texts.texts[12]", 12),
        ("texts", None),
        ("model", None),
        ("", None),
    ],
)
def test_the_text_at_fault(field: str, index: int | None) -> None:
    assert failure_of_item(pb.Error(code=3, field=field)).text_index == index


def test_unknown_code_of_an_item_is_unknown() -> None:
    assert failure_of_item(pb.Error(code=99)).code is grpc.StatusCode.UNKNOWN


def test_at_field_moves_the_message_too() -> None:
    error = errors.InvalidArgumentError("texts[3] is bad", ErrorFacts(field="texts[3]"))
    moved = at_field(error, "texts[259]")
    assert (moved.field, moved.message) == ("texts[259]", "texts[259] is bad")
