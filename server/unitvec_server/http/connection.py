"""One connection of a client, and what it may cost: uvicorn's protocol with limits.

uvicorn parses with httptools and calls the application once a head is complete. It does not bound
the head, nor the time for it, nor what comes after an early answer. Strangers reach this before
they are asked for a token, so all of that is bounded here:

- the head, and what follows the body, in bytes; and the time until a head is complete;
- the bytes of a request as they are on the wire, whose chunks may be longer than its body;
- requests that are sent before the one before them is answered;
- the time to take the end of an answer, and to send the rest of a body that nobody reads;
- connections, and the age of each: renewal spreads clients over new replicas.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from unitvec_server.http.bodies import write_refusal

EXTENSION = "unitvec.connection"
"""Key of the connection among the extensions of an ASGI scope."""

MAX_HEAD_BYTES = 16 * 1024
"""Size of the path and the headers of a request, as long as the metadata of gRPC may be."""

_HEADER_BYTES = 4
"""Bytes of a header beside its name and value."""

_MAX_PIPELINED = 8


class _Refused(Exception):
    """The head is not read on, with this status."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


@dataclasses.dataclass(frozen=True)
class ConnectionLimits:
    """What connections may cost.

    Attributes:
        max_connections: Connections at a time; one more is closed at once.
        max_body_bytes: The longest body that is read.
        max_age_s: Age at which a connection is closed after its next answer.
        head_s: Time for a head to be complete, from the connection or from its own first byte.
        rest_s: Time for the rest of a body after an early answer, and to take what is unsent when
            the connection is closed.
        idle_s: Silence after which a connection is closed. Proxies close theirs after 60 s, and
            one that is closed by us would fail them a request.
    """

    max_connections: int
    max_body_bytes: int
    max_age_s: float = math.inf
    head_s: float = 10.0
    rest_s: float = 10.0
    idle_s: float = 75.0


class Connection(HttpToolsProtocol):
    """One connection.

    Args:
        config: The configuration of uvicorn, which names the application.
        state: What uvicorn's connections share.
        limits: What connections may cost.
    """

    def __init__(self, config: Config, state: ServerState, limits: ConnectionLimits) -> None:
        super().__init__(config, state, {})
        self.timeout_keep_alive = limits.idle_s  # type: ignore[assignment]  # uvicorn only adds it
        self._limits = limits
        self._renew_at = self.loop.time() + limits.max_age_s
        self._timer: asyncio.TimerHandle | None = None
        self._refusal = HTTPStatus.BAD_REQUEST
        self._messages = self._unanswered = 0
        self._is_refused = False
        self._head_bytes = 0
        self._wire_bytes = 0
        self._in_head = self._in_body = False
        self._on_lost: Callable[[], object] | None = None

    def watch(self, on_lost: Callable[[], object]) -> None:
        """Calls a function when the client is gone, until it is watched by another."""
        self._on_lost = on_lost

    def unwatch(self) -> None:
        """Calls nobody any more."""
        self._on_lost = None

    def abort(self) -> None:
        """Hangs up at once, whatever is unsent."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins, if there is room."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.max_connections:
            transport.abort()
        else:
            self._arm(self._limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends, and with it what the client waited for."""
        self._disarm()
        super().connection_lost(exc)
        if self._on_lost is not None:
            self._on_lost()

    def data_received(self, data: bytes) -> None:
        """Reads on, as far as the limits allow."""
        if self._is_refused:
            return
        messages = self._messages
        self._unset_keepalive_if_required()
        self._feed(data)
        if self._is_refused or self.transport.is_closing():
            return
        if messages == self._messages:
            self._wire_bytes += len(data)
            self._check_wire()
        if self._in_head and self._timer is None:
            self._arm(self._limits.head_s)

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            head = self._without_upgrade()
            self.parser = httptools.HttpRequestParser(self)
            self._feed(head + data[exc.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("")

    def _without_upgrade(self) -> bytes:
        """The head again, without the offer to speak another protocol, which is not taken.

        Java's own client makes it with each request. httptools takes what follows such a head for
        the other protocol, so that the body would be lost.
        """
        lines = [b"%b %b HTTP/1.1" % (self.parser.get_method(), self.url)]
        dropped = (b"upgrade", b"http2-settings", b"connection")
        lines += [b"%b: %b" % pair for pair in self.headers if pair[0] not in dropped]
        return b"\r\n".join([*lines, b"", b""])

    def _check_wire(self) -> None:
        """Bounds what the parser holds of a header, or has skipped, without having shown it."""
        if self._in_head and self._wire_bytes > MAX_HEAD_BYTES:
            self._refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            self.send_400_response("")
        elif self._in_body and self._wire_bytes > MAX_HEAD_BYTES + 2 * self._limits.max_body_bytes:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Begins a head."""
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: self}  # type: ignore[dict-item]
        self._messages += 1
        self._head_bytes = self._wire_bytes = 0
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        """Reads a part of the path."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Reads a header, or what follows a body in chunks."""
        self._count(len(name) + len(value) + _HEADER_BYTES)
        if self._in_head:
            super().on_header(name, value)

    def _count(self, size_bytes: int) -> None:
        self._head_bytes += size_bytes
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def _refuse(self, status: HTTPStatus) -> None:
        """Stops the parser."""
        self._refusal = status
        raise _Refused(status)

    def on_headers_complete(self) -> None:
        """Begins to answer."""
        self._in_head = False
        self._disarm()
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._refuse(HTTPStatus.METHOD_NOT_ALLOWED)
            return  # what it means is read again, without the offer
        if len(self.pipeline) >= _MAX_PIPELINED:
            self._refuse(HTTPStatus.TOO_MANY_REQUESTS)
        super().on_headers_complete()
        self._in_body = True
        self._unanswered += 1
        if self.loop.time() >= self._renew_at:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """Notes that all of a request is here.

        uvicorn stops reading at each long part of a body until more of it is wanted. No more is
        wanted of this one, and only who reads on sees that the client hangs up.
        """
        self._in_body = False
        self._disarm()
        if not self.parser.should_upgrade():
            super().on_message_complete()
        if not self.pipeline:
            self.flow.resume_reading()

    def on_response_complete(self) -> None:
        """Waits for the next request, or for the rest of this one."""
        super().on_response_complete()
        self._unanswered -= 1
        if self._is_refused:
            self._refuse_in_turn()
        elif self._in_body:
            self._arm(self._limits.rest_s)

    def timeout_keep_alive_handler(self) -> None:
        """Closes an idle connection, whether or not the client has taken the last answer."""
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own words
        """Refuses what is not a request, or the request whose body cannot be read, and closes."""
        self._is_refused = True
        self._disarm()
        if not self._in_body:
            self._refuse_in_turn()
        elif self.pipeline:  # the request has not begun, and never will
            self.pipeline.popleft()
            self._unanswered -= 1
        elif self.cycle.response_complete:
            self._close()
        else:
            self._refuse_in_place()

    def _refuse_in_turn(self) -> None:
        """Refuses once all requests before have their answers, none of which this may seem."""
        if self._unanswered:
            self.flow.pause_reading()
        else:
            self._write_refusal()

    def _refuse_in_place(self) -> None:
        """Refuses the request that is being answered, as far as nothing of an answer is sent."""
        end = self._close if self.cycle.response_started else self._write_refusal
        self.cycle.disconnected = True
        if self._on_lost is not None:
            self._on_lost()
        end()

    def _write_refusal(self) -> None:
        self.transport.write(write_refusal(self._refusal))
        self._close()

    def _close(self) -> None:
        """Says no more, and hangs up when the client does, or takes too long.

        What it still sends is thrown away: to hang up on it would reset the connection, and the
        client might lose what it was told.
        """
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.flow.resume_reading()
        else:  # with TLS
            self.transport.close()
        self._arm(self._limits.rest_s)

    def _arm(self, delay_s: float) -> None:
        self._disarm()
        self._timer = self.loop.call_later(delay_s, self._give_up)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        """Hangs up on a client that is too slow, with a word if it had begun to ask."""
        self._timer = None
        if self._in_head and not self._is_refused and not self.transport.is_closing():
            self._refusal = HTTPStatus.REQUEST_TIMEOUT
            self.send_400_response("")
        else:
            self.transport.abort()


def connection_of(scope: Any) -> Connection:
    """The connection that a request came through."""
    connection: Connection = scope["extensions"][EXTENSION]
    return connection
