"""Messages of failed calls: the target, the cause and what to do, in place of gRPC's words.

gRPC names neither the target nor what may be wrong with it, and its words differ from version to
version. Each cause that is known here is recognized by a part of those words. They are quoted
where no cause is known, and the exception that is the cause of ours always has them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc

from unitvec_client.core.failures import Failure
from unitvec_client.targets import find_proxy


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a call was about, for those who read why it failed.

    Attributes:
        target: Server of the call, as gRPC takes it.
        tls: Whether the connection is encrypted.
        token_chars: Length of the token; 0 without one.
        timeout_s: Time for the whole call; None for no deadline.
        texts: All texts of the call; empty where they are not known at its start.
    """

    target: str = "the server"
    tls: bool = False
    token_chars: int = 0
    timeout_s: float | None = None
    texts: Sequence[str] = ()


def explain(failure: Failure, about: Circumstances) -> str:
    """Return the message for the exception that says this failure."""
    if failure.error is not None:
        if failure.code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"{failure.message}: {explain_deadline(about)}"
        return failure.message  # The server's own words say what to do.
    if failure.given_up_here:
        return "the client was closed during the call"
    if failure.code is grpc.StatusCode.DEADLINE_EXCEEDED and _LATE.search(failure.message):
        return explain_deadline(about)
    if failure.metadata_too_large:
        return _explain_metadata(failure, about)
    if failure.too_large:
        return _explain_size(failure, about)
    if failure.proxy is not None:
        return failure.proxy.describe(about.target)
    if failure.code is grpc.StatusCode.UNAVAILABLE and _LOST.search(failure.message):
        return _explain_connection(failure, about)
    return failure.message


def explain_deadline(about: Circumstances) -> str:
    """Return the message for a call that did not end in time."""
    message = f"{about.target} did not finish within timeout_s={about.timeout_s or 0:g}"
    if about.texts:
        size_bytes = sum(len(text.encode()) for text in about.texts)
        message += f": {len(about.texts):,} texts of {size_bytes:,} bytes"
    return f"{message}; allow more time (timeout_s) or send less at a time"


def _explain_size(failure: Failure, about: Circumstances) -> str:
    message = f"a message of {about.target} or to it is too large: {failure.message}"
    if not about.texts:
        return message
    size_bytes, index = max((len(text.encode()), i) for i, text in enumerate(about.texts))
    return f"{message}; the largest text, number {index}, has {size_bytes:,} bytes: shorten it"


def _explain_metadata(failure: Failure, about: Circumstances) -> str:
    words = failure.message.partition(";")[0]  # The sizes of all headers follow.
    message = f"the call's metadata is more than {about.target} takes: {words}"
    if about.token_chars:
        message = f"the token of {about.token_chars:,} characters is too long: {message}"
    return f"{message}; give a shorter token" if about.token_chars else message


def _explain_connection(failure: Failure, about: Circumstances) -> str:
    words = failure.message
    proxy = find_proxy(about.target)
    if proxy is not None and not _BEYOND_PROXY.search(words):
        variable, url = proxy
        return (
            f"cannot reach {about.target} through the proxy {url}, which the variable {variable} "
            f"names: unset it, or put the host into no_proxy ({words})"
        )
    for cause in _TLS_CAUSES if about.tls else _PLAINTEXT_CAUSES:
        if cause.words.search(words):
            return cause.message(about.target)
    return f"cannot reach {about.target}: {words}"


@dataclass(frozen=True, slots=True)
class _Cause:
    """A reason why there is no connection.

    Attributes:
        words: Pattern of a part of gRPC's words for it.
        message: Function that makes our words for a target.
    """

    words: re.Pattern[str]
    message: Callable[[str], str]


# Words of gRPC, of `CallContext.last` and of Envoy for a deadline that passed.
_LATE = re.compile(
    r"deadline exceeded|the deadline passed at the server|downstream duration timeout|^$",
    re.IGNORECASE,
)
# Words of gRPC for a connection that could not be made, or that was lost.
_LOST = re.compile(
    r"failed to connect to all addresses|errors resolving|DNS resolution failed"
    r"|Socket closed|Connection (refused|reset)|End of TCP stream|Broken pipe",
    re.IGNORECASE,
)
# These come from the server itself: the proxy, if there is one, did its work.
_BEYOND_PROXY = re.compile(r"handshake failed|Verification Check failed|parsing HTTP/2")

_ALWAYS = (
    _Cause(
        re.compile(r"Connection refused|connect failed"),
        lambda target: f"nothing listens at {target}: is unitvec-serve running there?",
    ),
    _Cause(
        re.compile(r"errors resolving|DNS resolution failed"),
        lambda target: f"there is no host of the name in {target}: check the target",
    ),
    _Cause(
        # ENHANCE_YOUR_CALM of nginx, COMPRESSION_ERROR of Envoy.
        re.compile(r"GOAWAY received; Error code: (9|11)\b"),
        lambda target: (
            f"{target} ended the connection, as proxies do where headers, such as a token, are "
            "longer than they take (nginx: large_client_header_buffers 4 16k; Envoy: "
            "max_request_headers_kb)"
        ),
    ),
    _Cause(
        re.compile(r"parsing HTTP/2"),
        lambda target: f"{target} does not speak gRPC: check the port",
    ),
)
_TLS_CAUSES = (
    *_ALWAYS,
    _Cause(
        re.compile(r"WRONG_VERSION_NUMBER"),
        lambda target: f"{target} does not speak TLS: connect with tls=False (without --tls)",
    ),
    _Cause(
        re.compile(r"CERTIFICATE_VERIFY_FAILED"),
        lambda target: (
            f"the certificate of {target} is of no known authority, or has expired: "
            "give root_certificates (--root-certificates)"
        ),
    ),
    _Cause(
        re.compile(r"Verification Check failed"),
        lambda target: (
            f"the certificate of {target} is for another name: give server_name (--server-name)"
        ),
    ),
    _Cause(
        re.compile(r"failed to connect.*(Socket closed|reset by peer|SETTINGS)"),
        lambda target: (
            f"{target} ended the connection: it may want a certificate of the client, "
            "client_key and client_chain (--client-key, --client-chain)"
        ),
    ),
)
_PLAINTEXT_CAUSES = (
    *_ALWAYS,
    _Cause(
        re.compile(r"failed to connect.*(Socket closed|reset by peer|SETTINGS)"),
        lambda target: (
            f"{target} ended the connection, or does not answer: if it speaks TLS, connect with "
            "tls=True (--tls); else check that it is a gRPC server"
        ),
    ),
)
