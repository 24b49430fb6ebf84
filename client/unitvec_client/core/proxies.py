"""What a proxy on the way answers in the place of the server, and which of its settings it is.

A gRPC server answers every call with the HTTP status 200 and a status of its own. Any other HTTP
status is that of a proxy or a web server, and gRPC only says its number. Where replies have begun,
or requests have not ended, nginx resets the stream instead. The settings that stand here are those
of nginx and Envoy; `deploy/` has files for both in which they are right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from unitvec_client.errors import MessageTooLargeError, RefusedError, UnavailableError, UnitvecError

_STATUS = re.compile(r"Received http2 header with status: (\d{1,3})")
# A body where a gRPC server sends trailers: that of a page.
_PAGE = re.compile(r"Data frame with END_STREAM flag received")
# PROTOCOL_ERROR and INTERNAL_ERROR of HTTP/2. A gRPC server that ends a call early sends others.
_RESET = re.compile(r"Received RST_STREAM with error code [12]\b")
# Envoy puts its HTTP statuses into a status of gRPC, with words of its own.
_ENVOY_WORDS = (
    ("Payload Too Large", 413),
    ("upstream request timeout", 504),
    ("stream timeout", 408),
    ("request timeout", 408),
    ("no healthy upstream", 503),
    ("upstream connect error or disconnect/reset before headers", 503),
)


@dataclass(frozen=True, slots=True)
class ProxyAnswer:
    """An HTTP status that is no answer of a gRPC server, or the reset of a stream.

    Attributes:
        status: The HTTP status; None of a reset.
        kind: Class of the exception; None for that of the status that gRPC makes of it.
        retryable: Whether the same request may succeed soon.
        meaning: What the proxy means by it, and what to change.
    """

    status: int | None
    kind: type[UnitvecError] | None = None
    retryable: bool = False
    meaning: str = "it is no gRPC server, or does not pass this call on"

    @property
    def reason(self) -> str:
        """Reason of the error, which did not come from a unitvec server."""
        return "STREAM_BROKEN_OFF" if self.status is None else "ANSWERED_BY_PROXY"

    def describe(self, target: str) -> str:
        """Return what to say of it to those who called a target."""
        if self.status is None:
            return f"the call was broken off by a proxy at {target}, or the server: {self.meaning}"
        return (
            f"a proxy or web server at {target} answered HTTP {self.status} in place of unitvec: "
            f"{self.meaning}"
        )


# A 504 is not retried: the proxy gave up waiting for an answer, which would take as long again.
_ANSWERS = {
    answer.status: answer
    for answer in (
        # This is what nginx makes of HTTP/2 where it expects HTTP/1.
        ProxyAnswer(
            0,
            None,
            False,
            "it speaks HTTP/1 to the server (nginx: grpc_pass grpc://..., not proxy_pass)",
        ),
        ProxyAnswer(401, None, False, "it wants other credentials than those of the server"),
        ProxyAnswer(403, None, False, "it does not allow this call"),
        ProxyAnswer(
            404, None, False, "it does not pass this path on (nginx: a location with grpc_pass)"
        ),
        ProxyAnswer(
            408,
            UnavailableError,
            True,
            "nothing was sent for longer than it waits (nginx: client_body_timeout 1h; Envoy: "
            "stream_idle_timeout 0s, and no request_timeout)",
        ),
        ProxyAnswer(
            413,
            MessageTooLargeError,
            False,
            "the call has more bytes than it takes, where those of a whole stream count together "
            "(nginx: client_max_body_size 0; Envoy: no filter that buffers)",
        ),
        ProxyAnswer(429, None, True, "it limits the rate of calls"),
        ProxyAnswer(
            502,
            None,
            True,
            "it has no connection to the server: is unitvec-serve running, and does the proxy "
            "speak gRPC to it (nginx: grpc_pass)",
        ),
        ProxyAnswer(503, None, True, "it has no server that it could pass the call to"),
        ProxyAnswer(
            504,
            None,
            False,
            "the server did not answer for longer than it waits (nginx: grpc_read_timeout 1h; "
            "Envoy: timeout 0s of the route); send less at a time, or change that",
        ),
    )
}

_CUT = ProxyAnswer(
    None,
    UnavailableError,
    True,
    "proxies do so where a stream has too many bytes or is silent for long (nginx: "
    "client_max_body_size 0, grpc_read_timeout 1h, client_body_timeout 1h; Envoy: "
    "stream_idle_timeout 0s)",
)


def read_answer(words: str) -> ProxyAnswer | None:
    """Return what a proxy answered, by the words of a failed call; None if none did."""
    if _RESET.search(words):
        return _CUT
    status = _read_status(words)
    if status is None:
        return None
    return _ANSWERS.get(status) or ProxyAnswer(status, RefusedError if status < 500 else None)


def _read_status(words: str) -> int | None:
    if found := _STATUS.search(words):
        return int(found.group(1))
    if _PAGE.search(words):
        return 200
    return next((status for start, status in _ENVOY_WORDS if words.startswith(start)), None)
