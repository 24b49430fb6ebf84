"""One table from domain error to the status of each door."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

from unitvec_server.errors import (
    DeadlineExpired,
    InferenceFailed,
    InvalidRequest,
    ModelNotFound,
    NotServed,
    Overloaded,
    RequestError,
    Unauthenticated,
    Unavailable,
    WrongIdentity,
)


class Status(NamedTuple):
    """What an error is called at each kind of door.

    Attributes:
        code: Name of gRPC's status, which is also how logs and traces name the outcome of a call.
        http: Status of HTTP.
        tei: Status of HTTP as clients of text-embeddings-inference know it; None for the same.
    """

    code: str
    http: HTTPStatus
    tei: HTTPStatus | None = None


STATUSES: Mapping[type[RequestError], Status] = {
    InvalidRequest: Status(
        "INVALID_ARGUMENT", HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY
    ),
    ModelNotFound: Status("NOT_FOUND", HTTPStatus.NOT_FOUND),
    WrongIdentity: Status("FAILED_PRECONDITION", HTTPStatus.PRECONDITION_FAILED),
    Overloaded: Status("RESOURCE_EXHAUSTED", HTTPStatus.TOO_MANY_REQUESTS),
    DeadlineExpired: Status("DEADLINE_EXCEEDED", HTTPStatus.GATEWAY_TIMEOUT),
    Unavailable: Status("UNAVAILABLE", HTTPStatus.SERVICE_UNAVAILABLE),
    Unauthenticated: Status("UNAUTHENTICATED", HTTPStatus.UNAUTHORIZED),
    NotServed: Status("UNIMPLEMENTED", HTTPStatus.NOT_IMPLEMENTED),
    InferenceFailed: Status(
        "INTERNAL", HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.FAILED_DEPENDENCY
    ),
}

REASONS: Mapping[str, Status] = {
    "TEXT_TOO_LONG": Status(
        "INVALID_ARGUMENT", HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    ),
    "TOO_MANY_TEXTS": Status(
        "INVALID_ARGUMENT", HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    ),
    "NO_TEXTS": Status("INVALID_ARGUMENT", HTTPStatus.BAD_REQUEST, HTTPStatus.BAD_REQUEST),
    "BODY_TOO_LARGE": Status("INVALID_ARGUMENT", HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    "WRONG_CONTENT_TYPE": Status("INVALID_ARGUMENT", HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    "MESSAGE_TOO_SLOW": Status("DEADLINE_EXCEEDED", HTTPStatus.REQUEST_TIMEOUT),
    "FOREIGN_HOST": Status("PERMISSION_DENIED", HTTPStatus.FORBIDDEN),
    "NO_SUCH_PATH": Status("NOT_FOUND", HTTPStatus.NOT_FOUND),
    "NO_SUCH_METHOD": Status("UNIMPLEMENTED", HTTPStatus.METHOD_NOT_ALLOWED),
}
"""Reasons that HTTP has a status of their own for."""


def status_of(error: RequestError) -> Status:
    """The statuses of an error."""
    return REASONS.get(error.reason) or STATUSES[type(error)]
