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
)


class Status(NamedTuple):
    """What an error is called at each kind of door.

    Attributes:
        code: Name of gRPC's status, which is also how logs and traces name the outcome of a call.
        http: Status of HTTP.
    """

    code: str
    http: HTTPStatus


STATUSES: Mapping[type[RequestError], Status] = {
    InvalidRequest: Status("INVALID_ARGUMENT", HTTPStatus.BAD_REQUEST),
    ModelNotFound: Status("NOT_FOUND", HTTPStatus.NOT_FOUND),
    Overloaded: Status("RESOURCE_EXHAUSTED", HTTPStatus.TOO_MANY_REQUESTS),
    DeadlineExpired: Status("DEADLINE_EXCEEDED", HTTPStatus.GATEWAY_TIMEOUT),
    Unavailable: Status("UNAVAILABLE", HTTPStatus.SERVICE_UNAVAILABLE),
    Unauthenticated: Status("UNAUTHENTICATED", HTTPStatus.UNAUTHORIZED),
    NotServed: Status("UNIMPLEMENTED", HTTPStatus.NOT_IMPLEMENTED),
    InferenceFailed: Status("INTERNAL", HTTPStatus.INTERNAL_SERVER_ERROR),
}
