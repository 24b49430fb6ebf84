"""Typed Python client of unitvec: text in, unit vectors out.

Embed two texts::

    from unitvec_client import Client

    with Client("localhost:50051") as client:
        vectors = client.embed(["a cat on a mat", "a feline on a rug"])
"""

from unitvec_client.aio import AsyncClient
from unitvec_client.client import Client
from unitvec_client.connection import ConnectionOptions, open_aio_channel, open_channel
from unitvec_client.errors import (
    CallCancelledError,
    ClientClosedError,
    DeadlineExceededError,
    FillingWarning,
    IdentityMismatchError,
    InputError,
    InputTypeError,
    InternalError,
    InvalidArgumentError,
    MessageTooLargeError,
    ModelNotFoundError,
    OverloadedError,
    PromptWarning,
    ProtocolError,
    RefusedError,
    ServerError,
    TransientError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
    UnitvecError,
    VerificationError,
)
from unitvec_client.options import PooledWindows, Windows
from unitvec_client.results import (
    EmbedResult,
    FailedText,
    Hit,
    ModelInfo,
    PartialVectors,
    Rankings,
    ReloadedModel,
    ServerInfo,
    ServerLimits,
    StoredHit,
    StreamItem,
    Timings,
    TokenizedText,
    Window,
)
from unitvec_client.retry import RetryPolicy
from unitvec_client.verification import Verification
from unitvec_client.windowed import WindowedResult
from unitvec_protos import __version__

__all__ = [
    "AsyncClient",
    "CallCancelledError",
    "Client",
    "ClientClosedError",
    "ConnectionOptions",
    "DeadlineExceededError",
    "EmbedResult",
    "FailedText",
    "FillingWarning",
    "Hit",
    "IdentityMismatchError",
    "InputError",
    "InputTypeError",
    "InternalError",
    "InvalidArgumentError",
    "MessageTooLargeError",
    "ModelInfo",
    "ModelNotFoundError",
    "OverloadedError",
    "PartialVectors",
    "PooledWindows",
    "PromptWarning",
    "ProtocolError",
    "Rankings",
    "RefusedError",
    "ReloadedModel",
    "RetryPolicy",
    "ServerError",
    "ServerInfo",
    "ServerLimits",
    "StoredHit",
    "StreamItem",
    "Timings",
    "TokenizedText",
    "TransientError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "UnitvecError",
    "Verification",
    "VerificationError",
    "Window",
    "WindowedResult",
    "Windows",
    "__version__",
    "open_aio_channel",
    "open_channel",
]
