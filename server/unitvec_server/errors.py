"""What can go wrong, as domain errors. Each edge translates them once.

    ServerError
    ├── StartupError          the server cannot start: one clear line, exit code 2
    │   ├── ConfigError       a flag or variable is wrong
    │   ├── ArtifactError     a model folder is damaged, foreign or from the future
    │   ├── ProviderError     the execution provider is not available
    │   └── SelfTestError     a model's vectors are not what they were at export
    └── RequestError          one request fails; nothing else is harmed
        ├── InvalidRequest    the caller must change it
        ├── ModelNotFound     no such model
        ├── WrongIdentity     its vectors are not the expected ones
        ├── Overloaded        try again later
        ├── DeadlineExpired   too late, and never run
        ├── Unavailable       starting or draining
        ├── Unauthenticated   no valid token
        ├── NotServed         a method of an API that is answered only in part
        └── InferenceFailed   our fault

The text of a `RequestError` reaches the client: it is written for clients and tells nothing
of our insides.
"""

from __future__ import annotations


class ServerError(Exception):
    """Base of all errors the server raises on purpose."""


class StartupError(ServerError):
    """The server cannot start."""


class ConfigError(StartupError):
    """A flag or an environment variable is wrong."""


class ArtifactError(StartupError):
    """A model folder cannot be served."""


class ProviderError(StartupError):
    """The execution provider asked for is not there."""


class SelfTestError(StartupError):
    """A model computes other vectors here than it did when it was exported."""


class RequestError(ServerError):
    """One request fails.

    Args:
        message: A text for the client that says what is wrong and what to do.
        reason: Stable name of the cause in UPPER_SNAKE_CASE.
        field: The request field at fault, such as ``texts[3]``.
        metadata: Further facts by name.
    """

    default_reason = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        field: str = "",
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason or self.default_reason
        self.field = field
        self.retry_delay_s = 0.0
        self.metadata = metadata or {}


class InvalidRequest(RequestError):
    """The request can never succeed as it is."""

    default_reason = "INVALID_REQUEST"


class ModelNotFound(RequestError):
    """The request names a model that is not served."""

    default_reason = "MODEL_NOT_FOUND"


class WrongIdentity(RequestError):
    """The request expects vectors of another space, or of other bits, than the model makes."""

    default_reason = "SPACE_MISMATCH"


BOUNDS = ("max_calls", "messages", "max_queued_tokens", "deadline", "max_corpora_bytes")
"""Names of the limits that can be reached: the values of `Overloaded.bound`."""


class Overloaded(RequestError):
    """A limit is reached, and the client may try again after `retry_delay_s`.

    Args:
        message: A text for the client that says what is wrong and what to do.
        retry_delay_s: Time to wait before another try.
        bound: The limit, one of `BOUNDS`, for the operator.
    """

    default_reason = "OVERLOADED"

    def __init__(self, message: str, *, retry_delay_s: float, bound: str) -> None:
        super().__init__(message)
        self.retry_delay_s = retry_delay_s
        self.bound = bound


class DeadlineExpired(RequestError):
    """The client's deadline passed before the work started."""

    default_reason = "DEADLINE_EXPIRED_IN_QUEUE"


class Unavailable(RequestError):
    """The server is starting or draining."""

    default_reason = "DRAINING"


class Unauthenticated(RequestError):
    """The call carries no valid token."""

    default_reason = "INVALID_TOKEN"


class NotServed(RequestError):
    """The API has this method elsewhere, but not here."""

    default_reason = "NOT_SERVED"


class InferenceFailed(RequestError):
    """The model failed on this request."""

    default_reason = "INFERENCE_FAILED"
