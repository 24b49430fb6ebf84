"""A request as handlers see it, their reply, and the handlers' entry in the table of routes."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import msgspec
import orjson

from unitvec_server.errors import InvalidRequest, RequestError
from unitvec_server.model.fingerprints import NO_FINGERPRINTS, Fingerprints

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"


class Request(NamedTuple):
    """One request.

    Attributes:
        path: The path, with escapes resolved.
        body: The body; empty where the route reads none.
        request_id: The id of the request.
        argument: What follows the path of the route, of a route that takes more.
        expected: Fingerprints that vectors must have, by the headers; empty ones do not count.
    """

    path: str
    body: bytes
    request_id: str
    argument: str = ""
    expected: Fingerprints = NO_FINGERPRINTS


class Reply(NamedTuple):
    """One answer.

    Attributes:
        body: The body.
        content_type: Its type.
        status: The status of HTTP.
        headers: Headers beside those that every answer has.
    """

    body: bytes
    content_type: str = JSON
    status: int = 200
    headers: Mapping[str, str] = {}


Handler = Callable[[Request], Awaitable[Reply]]
"""Answers a request, or raises a `RequestError`."""

ErrorWriter = Callable[[RequestError, int, str], Any]
"""Makes the body of an error, as its API writes it: of the error, the status and the request id.

The type that it returns describes the body."""


@dataclasses.dataclass(frozen=True)
class Route:
    """A method and a path, and what answers there.

    Attributes:
        method: The method, GET or POST.
        path: The path. One that ends in a slash takes more after it.
        handler: Answers the requests.
        api: Name of the API, for metrics and logs.
        write_error: Makes the bodies of its errors.
        summary: A line on what it does.
        request_type: Type of the body, or several; None where there is none.
        reply_type: Type of the reply; None where it is no JSON.
        example: A body that can be sent, for the pages.
        is_probe: Whether anyone may ask, at any time, without a token or a place among the calls.
    """

    method: str
    path: str
    handler: Handler
    api: str
    write_error: ErrorWriter
    summary: str
    request_type: Any = None
    reply_type: Any = None
    example: Any = None
    is_probe: bool = False


def to_json(value: Any) -> bytes:
    """Writes a value as JSON. Floats of an array are as short as float32 allows."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def from_json(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """Reads a body.

    Raises:
        InvalidRequest: It is no JSON, or not what the route takes; the error names the field.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        what, at, where = str(exc).rpartition(" - at `$")  # before it may be words of the client
        what, where = (what, where) if at else (where, "")
        field = where.rstrip("`").removeprefix(".")
        what = what.replace("`", "")
        raise InvalidRequest(f"{field}: {what}" if field else what, field=field) from exc
    except (msgspec.DecodeError, RecursionError, ValueError) as exc:
        raise InvalidRequest(
            f"the body is not JSON that can be read: {_explain(exc, body)}",
            reason="UNDECODABLE_MESSAGE",
        ) from exc


def _explain(error: Exception, body: bytes) -> str:
    """What is wrong with a body.

    Programs in JavaScript write half a character where they cut a text inside an emoji. msgspec
    takes that for the end of the body; orjson knows it.
    """
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        if "surrogate in string" in str(exc):
            return "a text has half a character; cut texts between characters"
    return str(error)
