"""Exceptions of the client: one tree, one table from gRPC status to class.

    UnitvecError
    ├── RefusedError                    the request as it is will not be accepted; change it
    │   ├── InvalidArgumentError        INVALID_ARGUMENT; `.field` names what is wrong
    │   │   └── InputError              found before anything was sent (also a ValueError)
    │   │       └── InputTypeError      of the wrong type (also a TypeError)
    │   ├── ModelNotFoundError          NOT_FOUND
    │   ├── IdentityMismatchError       FAILED_PRECONDITION: vectors would not be the expected ones
    │   ├── UnauthenticatedError        UNAUTHENTICATED
    │   ├── UnimplementedError          UNIMPLEMENTED
    │   └── MessageTooLargeError        RESOURCE_EXHAUSTED by the size of one message
    ├── TransientError                  the same request may succeed later
    │   ├── UnavailableError            UNAVAILABLE
    │   ├── OverloadedError             RESOURCE_EXHAUSTED; `.retry_delay_s` says when
    │   └── DeadlineExceededError       DEADLINE_EXCEEDED (also a TimeoutError)
    ├── ServerError                     the server, or something on the way, is broken
    │   ├── InternalError               INTERNAL
    │   ├── ProtocolError               a reply that breaks the contract, or OK without one
    │   └── VerificationError           vectors are not those of the model's export
    ├── CallCancelledError              CANCELLED
    └── ClientClosedError               the client cannot be used here (also a RuntimeError)

A status that no unitvec server sends, such as one of a proxy on the way, becomes the error
above it in the tree: PERMISSION_DENIED is a RefusedError, ABORTED a TransientError, UNKNOWN a
ServerError. `.code` always says which status it was. An HTTP status of a proxy, of which `.reason`
tells (ANSWERED_BY_PROXY), counts by itself where gRPC makes nothing of it: 413 is a
MessageTooLargeError.

Errors that came from a call are raised `from` the grpc error. PromptWarning and FillingWarning are
warnings of the providers of frameworks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace

import grpc


@dataclass(frozen=True, slots=True)
class ErrorFacts:
    """What is known about an error beside its message.

    Attributes:
        reason: Stable name of the cause in UPPER_SNAKE_CASE; empty if the server gave none.
        field: Part of the request at fault, such as ``texts[3]``; empty if none is.
        request_id: The call's ``x-request-id``; empty if nothing was sent.
        retry_delay_s: Time after which the server says to try again, in seconds; None if it
            does not say.
        code: Status of the call; None if nothing was sent.
        metadata: Further facts by name, such as ``expected_space`` and ``space``.
    """

    reason: str = ""
    field: str = ""
    request_id: str = ""
    retry_delay_s: float | None = None
    code: grpc.StatusCode | None = None
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)


class UnitvecError(Exception):
    """Base of everything this package raises on purpose."""

    def __init__(self, message: str, facts: ErrorFacts | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts or ErrorFacts()

    def __str__(self) -> str:
        """Return the message, with the request id for the server's operators."""
        if not self.facts.request_id:
            return self.message
        return f"{self.message} [request {self.facts.request_id}]"

    def __reduce__(self) -> tuple[type[UnitvecError], tuple[str, ErrorFacts]]:
        return type(self), (self.message, self.facts)

    @property
    def code(self) -> grpc.StatusCode | None:
        """Status of the call; None if nothing was sent."""
        return self.facts.code

    @property
    def reason(self) -> str:
        """Stable name of the cause in UPPER_SNAKE_CASE; empty if the server gave none."""
        return self.facts.reason

    @property
    def field(self) -> str:
        """The part of the request at fault, such as ``texts[3]``; empty if none is."""
        return self.facts.field

    @property
    def request_id(self) -> str:
        """The call's ``x-request-id``; empty if nothing was sent."""
        return self.facts.request_id

    @property
    def retry_delay_s(self) -> float | None:
        """When the server says to try again, in seconds; None if it does not."""
        return self.facts.retry_delay_s


class RefusedError(UnitvecError):
    """The request as it is will not be accepted; sending it again does not help."""


class InvalidArgumentError(RefusedError):
    """Something in the request is wrong; ``field`` names it."""


class InputError(InvalidArgumentError, ValueError):
    """An argument is wrong; nothing was sent."""


class InputTypeError(InputError, TypeError):
    """An argument is of the wrong type; nothing was sent."""


class ModelNotFoundError(RefusedError):
    """The server has no model of this name."""


class IdentityMismatchError(RefusedError):
    """The model's vectors are of another space, or of other bits, than the client expects.

    ``facts.metadata`` has both fingerprints.
    """


class UnauthenticatedError(RefusedError):
    """The token is missing or wrong."""


class UnimplementedError(RefusedError):
    """The server does not know this method: another service, or an older version."""


class MessageTooLargeError(RefusedError):
    """One message is larger than one side takes."""


class TransientError(UnitvecError):
    """The same request may succeed later. Retries, where the policy has them, are used up."""


class UnavailableError(TransientError):
    """The server cannot be reached, or is starting or draining."""


class OverloadedError(TransientError):
    """The server sheds load; ``retry_delay_s`` says when to come back."""


class DeadlineExceededError(TransientError, TimeoutError):
    """The call's time was over before the answer came."""


class ServerError(UnitvecError):
    """The server, or something on the way to it, is broken."""


class InternalError(ServerError):
    """The server failed; its logs know more under ``request_id``."""


class ProtocolError(ServerError):
    """The server's reply breaks the contract: wrong shape, wrong id, too early an end."""


class VerificationError(ServerError):
    """The model computes other vectors than it did when it was exported."""


class CallCancelledError(UnitvecError):
    """The call was cancelled, such as by closing the client under it."""


class ClientClosedError(UnitvecError, RuntimeError):
    """The client cannot be used here: it was closed, or belongs to another event loop."""


class PromptWarning(UserWarning):
    """A model has a prompt whose name says it is for such texts, and it is not put before them."""


class FillingWarning(UserWarning):
    """An index is used with vectors that are not comparable with those that it holds."""


STATUS_TO_ERROR: dict[grpc.StatusCode, type[UnitvecError]] = {
    grpc.StatusCode.OK: ProtocolError,
    grpc.StatusCode.CANCELLED: CallCancelledError,
    grpc.StatusCode.UNKNOWN: ServerError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.NOT_FOUND: ModelNotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: RefusedError,
    grpc.StatusCode.PERMISSION_DENIED: RefusedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.FAILED_PRECONDITION: IdentityMismatchError,
    grpc.StatusCode.ABORTED: TransientError,
    grpc.StatusCode.OUT_OF_RANGE: RefusedError,
    grpc.StatusCode.UNIMPLEMENTED: UnimplementedError,
    grpc.StatusCode.INTERNAL: InternalError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DATA_LOSS: ServerError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
}


# A request that keeps to the limits, as the server stated them, is never refused for these.
_LIMIT_REASONS = frozenset({"TOO_MANY_TEXTS", "TEXT_TOO_LARGE", "TOO_MANY_TOKENS"})

MODEL_CHANGED = "MODEL_CHANGED"
"""Reason of a call whose replies come from two models: one took the other's place meanwhile."""


def tells_of_change(error: UnitvecError) -> bool:
    """Return whether the server may no longer be what it said it was: other models or limits."""
    kinds = (ModelNotFoundError, MessageTooLargeError, IdentityMismatchError)
    return isinstance(error, kinds) or error.reason in {*_LIMIT_REASONS, MODEL_CHANGED}


def at_field(error: UnitvecError, field: str) -> UnitvecError:
    """Return the same error about another field, as a caller of many texts counts them.

    Args:
        error: The error of one request.
        field: The field in the caller's own terms, such as ``texts[259]``.
    """
    message = error.message
    if error.field and error.field != field:
        message = message.replace(error.field, field)
    moved = type(error)(message, replace(error.facts, field=field))
    moved.__cause__ = error.__cause__
    return moved
