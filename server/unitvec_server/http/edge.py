"""What holds for every request over HTTP: an id, a token, limits, a deadline, typed errors.

The edge is an ASGI application. It finds the route, refuses who may not enter before a byte of the
body is read, calls the handler, and turns whatever it raises into the error of its API. Probes need
no token and no place among the calls, since they must be answered under load.
"""

from __future__ import annotations

import asyncio
import dataclasses
import email.utils
import logging
import math
import time
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from unitvec_server.doors import calls
from unitvec_server.doors.calls import Call, Method, MethodTally
from unitvec_server.doors.rules import HouseRules
from unitvec_server.doors.statuses import Status, status_of
from unitvec_server.errors import DeadlineExpired, InferenceFailed, RequestError
from unitvec_server.http.bodies import (
    ARRIVAL_S,
    BodyLimits,
    ClientGone,
    Headers,
    Hold,
    Receive,
    Send,
    check_headers,
    read_body,
    send_reply,
)
from unitvec_server.http.connection import connection_of
from unitvec_server.http.exchange import Reply, Request, Route, to_json
from unitvec_server.http.routes import Routes
from unitvec_server.model.fingerprints import Fingerprints
from unitvec_server.security.hosts import HostCheck, allow_any_host

logger = logging.getLogger(__name__)

_MAX_ID_LENGTH = 128

_TIMEOUTS_S: Final[Mapping[bytes, float]] = {
    b"x-request-timeout-ms": 1e-3,
    b"x-envoy-expected-rq-timeout-ms": 1e-3,
    b"x-stainless-read-timeout": 1.0,
    b"x-stainless-timeout": 1.0,
}
"""Headers that say how long the client waits, and their unit in seconds: our own, the one that
Envoy adds for its route, and those that OpenAI's clients for Python and Node send."""

_EXPECTED = (b"x-unitvec-expected-space", b"x-unitvec-expected-bits")
"""Headers that say which fingerprints vectors must have."""

CLIENT_GONE = "499"
"""The status of a request whose client hung up, as nginx has it. Only operators see it."""

_OUTCOMES = ("200", "400", "401", "404", "413", "422", "429", CLIENT_GONE, "500", "503", "504")


@dataclasses.dataclass(eq=False)
class _Answering:
    """A request that is being answered."""

    route: Route
    argument: str
    tally: MethodTally
    call: Call
    headers: Headers
    hold: Hold


class HttpEdge:
    """Wraps all routes.

    Args:
        routes: The routes.
        rules: What holds at every door.
        limits: What a body may have.
        check_host: Refuses requests by the name that they give the server, their header Host.
        arrival_s: Time for a body to be whole, and for a reply to be taken.

    Attributes:
        tallies: Counts of the requests of each route, by its method.
    """

    def __init__(
        self,
        routes: Routes,
        rules: HouseRules,
        *,
        limits: BodyLimits,
        check_host: HostCheck = allow_any_host,
        arrival_s: float = ARRIVAL_S,
    ) -> None:
        self._routes, self._rules = routes, rules
        self._limits, self._check_host = limits, check_host
        self._arrival_s = arrival_s
        self._date = (0, b"")
        self.tallies = {
            _method(route): MethodTally(_method(route), _OUTCOMES)
            for route in (*routes.table, *routes.fallbacks)
        }

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answers a request, as ASGI has it."""
        answering = self._begin(scope)
        connection, task = connection_of(scope), asyncio.current_task()
        assert task is not None  # uvicorn makes one for each request
        task.set_name(f"request {answering.call.request_id}")
        connection.watch(task.cancel)
        try:
            reply = await self._answer(answering, receive)
            self._count(answering)
            answering.hold.add(len(reply.body))
            headers = self._headers(answering, reply)
            await send_reply(send, reply, headers, within_s=self._arrival_s)
        except (asyncio.CancelledError, ClientGone):
            self._cancel(answering)
        except TimeoutError:
            connection.abort()
        finally:
            connection.unwatch()
            answering.hold.release()

    def _begin(self, scope: Mapping[str, Any]) -> _Answering:
        """Notes a request."""
        route, argument = self._routes.find(scope["method"], scope["path"])
        tally = self.tallies[_method(route)]
        tally.started += 1
        headers = dict(scope["headers"])
        client = scope["client"]
        call = Call(
            tally.method,
            _request_id(headers),
            _Text(headers),
            f"{client[0]}:{client[1]}" if client else "",
            _deadline_s(headers),
            errors=self._rules.errors,
        )
        calls.current.set(call)
        return _Answering(route, argument, tally, call, headers, Hold(self._rules.messages))

    async def _answer(self, answering: _Answering, receive: Receive) -> Reply:
        """The reply of the handler, or its error as its API writes it."""
        call, route = answering.call, answering.route
        try:
            self._check_host(_text(answering.headers.get(b"host")))
            if route.is_probe:
                reply = await route.handler(self._request(answering, b""))
            else:
                self._rules.check_token(answering.headers.get(b"authorization"))
                with self._rules.calls:
                    reply = await self._handle(answering, receive)
        except Exception as exc:
            if isinstance(exc, ClientGone):
                raise
            return self._fail(answering, exc)
        call.http_status = str(reply.status)
        return reply

    async def _handle(self, answering: _Answering, receive: Receive) -> Reply:
        """Reads the body and calls the handler, within the time that the client waits."""
        call, route = answering.call, answering.route
        body = b""
        if route.method == "POST":
            check_headers(answering.headers, max_body_bytes=self._limits.max_bytes)
            body = await read_body(
                receive, answering.hold, limits=self._limits, within_s=self._arrival_s
            )
            answering.tally.received += 1
            call.request_bytes = len(body)
        request = self._request(answering, body)
        if call.deadline_s == math.inf:
            return await route.handler(request)
        try:
            async with asyncio.timeout(call.deadline_s - time.monotonic()):
                return await route.handler(request)
        except TimeoutError as exc:
            raise DeadlineExpired("the time that the client waits is over") from exc

    def _request(self, answering: _Answering, body: bytes) -> Request:
        expected = Fingerprints(*(_text(answering.headers.get(name)) for name in _EXPECTED))
        call = answering.call
        return Request(answering.route.path, body, call.request_id, answering.argument, expected)

    def _fail(self, answering: _Answering, error: Exception) -> Reply:
        """Writes an error. One that is not ours tells the client nothing but the request id."""
        call, route = answering.call, answering.route
        if not isinstance(error, RequestError):
            logger.error("internal error, request %s", call.request_id, exc_info=error)
            error = InferenceFailed("internal error; report the request id", reason="INTERNAL")
        if not route.is_probe:  # it is no failure of ours to say that we are not ready
            call.note(error)
        status = status_of(error)
        number = _number(status, route)
        call.code, call.http_status = status.code, str(number)
        body = to_json(route.write_error(error, number, call.request_id))
        return Reply(body, status=number, headers=_error_headers(error, number, answering))

    def _count(self, answering: _Answering) -> None:
        """Counts a request, before the client can see the answer and look for it."""
        answering.tally.sent += 1
        observers = () if answering.route.is_probe else self._rules.observers
        calls.end(answering.call, answering.tally, observers)

    def _cancel(self, answering: _Answering) -> None:
        answering.call.code, answering.call.http_status = calls.CANCELLED, CLIENT_GONE
        calls.end(answering.call, answering.tally, self._rules.observers)

    def _headers(self, answering: _Answering, reply: Reply) -> list[tuple[bytes, bytes]]:
        headers = [
            (b"date", self._now()),
            (b"x-request-id", answering.call.request_id.encode()),
        ]
        if reply.status != HTTPStatus.NO_CONTENT:
            headers += [
                (b"content-type", reply.content_type.encode()),
                (b"content-length", b"%d" % len(reply.body)),
            ]
        headers += [(name.encode(), value.encode()) for name, value in reply.headers.items()]
        return headers

    def _now(self) -> bytes:
        """The date, as HTTP writes it, made once a second."""
        now = int(time.time())
        if now != self._date[0]:
            self._date = (now, email.utils.formatdate(now, usegmt=True).encode())
        return self._date[1]


def _text(value: bytes | None) -> str:
    return (value or b"").decode("latin-1")


def _method(route: Route) -> Method:
    return Method(route.api, route.path, route.method)


class _Text(Mapping[str, str]):
    """Headers as text, for traces, decoded only when they are looked at."""

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def __getitem__(self, name: str) -> str:
        return self._headers[name.lower().encode()].decode("latin-1")

    def __iter__(self) -> Any:
        return (name.decode("latin-1") for name in self._headers)

    def __len__(self) -> int:
        return len(self._headers)


def _request_id(headers: Headers) -> str:
    """The id that the client sent, if it can be logged and echoed, or else one of ours."""
    given = headers.get(b"x-request-id", b"")
    fits = 0 < len(given) <= _MAX_ID_LENGTH and given.isascii() and given.decode().isprintable()
    return given.decode() if fits else uuid.uuid4().hex


def _deadline_s(headers: Headers) -> float:
    """The time on the monotonic clock by which the client wants the reply."""
    waits_s = math.inf
    for name, unit_s in _TIMEOUTS_S.items():
        if (given := headers.get(name)) is not None:
            try:
                wait_s = float(given) * unit_s
            except ValueError:
                continue
            if wait_s > 0:
                waits_s = min(waits_s, wait_s)
    return time.monotonic() + waits_s


def _number(status: Status, route: Route) -> int:
    return int(status.tei if route.api == "tei" and status.tei else status.http)


def _error_headers(error: RequestError, number: int, answering: _Answering) -> dict[str, str]:
    headers = {}
    if error.retry_delay_s:
        headers["retry-after"] = str(math.ceil(error.retry_delay_s))
        headers["retry-after-ms"] = str(math.ceil(error.retry_delay_s * 1000))
    elif number == 503:
        headers["retry-after"] = "1"
    if number == 401:
        headers["www-authenticate"] = "Bearer"
    if number == 405:
        headers["allow"] = answering.argument
    return headers
