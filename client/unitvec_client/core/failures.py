"""What came back in place of a reply, the same for unary calls, streams and stream items.

grpc.RpcError (sync or aio)  --+
+-->  Failure  -->  UnitvecError, by the table in `errors`
Error inside a stream        --+
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError

from unitvec_client.core.proxies import ProxyAnswer, read_answer
from unitvec_client.errors import (
    STATUS_TO_ERROR,
    ErrorFacts,
    MessageTooLargeError,
    UnitvecError,
)
from unitvec_protos.v1 import embedding_pb2 as pb

ERROR_TRAILER = "unitvec-error-bin"
"""Trailer that holds a serialized `unitvec.v1.Error`."""

_CODE_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}
_TEXT_FIELD = re.compile(r"(?:^|\.)texts\[(\d+)\]$")
# These are gRPC core's own words, on either side. It adds no details that could be asked instead.
_TOO_LARGE = re.compile(r"message larger than max", re.IGNORECASE)
_METADATA_TOO_LARGE = re.compile(r"metadata size|header list size", re.IGNORECASE)
_GIVEN_UP_HERE = re.compile(r"locally cancelled|channel closed", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error status, of a call or of one request in a stream.

    Attributes:
        code: Status of the call or of the request.
        message: Description for people.
        error: Details that a unitvec server adds to the status; None if there are none.
        cause: The grpc error; None for an error inside a stream.
        status_lost: Whether the server ended a stream in a moment in which grpc.aio drops the
            status; `code` is then what can be said without it.
    """

    code: grpc.StatusCode
    message: str
    error: pb.Error | None = None
    cause: BaseException | None = None
    status_lost: bool = False

    @property
    def retry_delay_s(self) -> float | None:
        """When the server says to try again, in seconds; None if it does not."""
        if self.error is None or not self.error.retry_delay_ms:
            return None
        return self.error.retry_delay_ms / 1000

    @property
    def proxy(self) -> ProxyAnswer | None:
        """What a proxy answered in place of the server; None if none did."""
        return read_answer(self.message) if self.error is None else None

    @property
    def too_large(self) -> bool:
        """Whether one message was larger than one side takes."""
        return (
            self.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            and self.error is None
            and bool(_TOO_LARGE.search(self.message))
        )

    @property
    def metadata_too_large(self) -> bool:
        """Whether the call's metadata, such as its token, was more than one side takes."""
        return (
            self.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            and self.error is None
            and bool(_METADATA_TOO_LARGE.search(self.message))
        )

    @property
    def cancelled_there(self) -> bool:
        """Whether the other side cancelled: a server that stops does so to what just arrives."""
        return (
            self.code is grpc.StatusCode.CANCELLED
            and isinstance(self.cause, grpc.RpcError)
            and not self.given_up_here
        )

    @property
    def given_up_here(self) -> bool:
        """Whether this side cancelled, which it does when the client is closed."""
        is_cancelled = self.code is grpc.StatusCode.CANCELLED
        return is_cancelled and bool(_GIVEN_UP_HERE.search(self.message))

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later.

        Our server names a delay whenever it sheds load. Where it sends RESOURCE_EXHAUSTED without
        a delay, the request will never fit. Where the status comes without our details, something
        else on the way sent it, and another try is worth while unless the message or its metadata
        is too large. Where a proxy answered, it depends on what it said.
        """
        if (proxy := self.proxy) is not None:
            return proxy.retryable
        if self.code is grpc.StatusCode.UNAVAILABLE or self.cancelled_there:
            return True
        if self.code is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            return False
        if self.too_large or self.metadata_too_large:
            return False
        return self.error is None or self.retry_delay_s is not None

    @property
    def text_index(self) -> int | None:
        """Index, within its request, of the one text at fault; None if it is not one text."""
        match = _TEXT_FIELD.search(self.error.field) if self.error else None
        return int(match.group(1)) if match else None

    def to_exception(self, message: str, request_id: str) -> UnitvecError:
        """Return the exception that says this, its cause set.

        Args:
            message: Description for the caller; see `diagnosis`.
            request_id: The call's ``x-request-id``, where the server did not echo it.
        """
        error = self.error or pb.Error()
        metadata = dict(error.metadata)
        proxy = self.proxy
        if proxy is not None and proxy.status is not None:
            metadata["http_status"] = str(proxy.status)
        facts = ErrorFacts(
            reason=proxy.reason if proxy else error.reason,
            field=error.field,
            request_id=error.request_id or request_id,
            retry_delay_s=self.retry_delay_s,
            code=self.code,
            metadata=metadata,
        )
        exception = self._kind()(message or self.code.name, facts)
        exception.__cause__ = self.cause
        return exception

    def _kind(self) -> type[UnitvecError]:
        if self.too_large or self.metadata_too_large:
            return MessageTooLargeError
        return (self.proxy and self.proxy.kind) or STATUS_TO_ERROR[self.code]


def failure_of_call(exc: grpc.RpcError) -> Failure:
    """Read the failure of a call, sync or aio.

    Args:
        exc: The error as grpc raised it; it is a `grpc.Call` as well.
    """
    code = exc.code() if isinstance(exc, (grpc.Call, grpc.aio.AioRpcError)) else None
    if not isinstance(exc, (grpc.Call, grpc.aio.AioRpcError)) or code is None:
        return Failure(grpc.StatusCode.UNKNOWN, str(exc), cause=exc)
    error = _find_error(exc.trailing_metadata() or ())
    message = error.message if error and error.message else exc.details() or ""
    return Failure(code, message, error, exc)


def failure_of_item(error: pb.Error) -> Failure:
    """Read the failure of one request inside a stream.

    Args:
        error: As the server sent it; a code that gRPC does not know is UNKNOWN.
    """
    code = _CODE_BY_NUMBER.get(error.code, grpc.StatusCode.UNKNOWN)
    return Failure(code, error.message, error)


def _find_error(trailers: object) -> pb.Error | None:
    for key, value in trailers:  # type: ignore[attr-defined]  # tuples or aio.Metadata
        if key == ERROR_TRAILER:
            try:
                return pb.Error.FromString(value)
            except DecodeError:
                return None  # The status still says what happened.
    return None
