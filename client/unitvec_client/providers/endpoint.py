"""A model on a server, as all integrations are told of it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import TypedDict

from unitvec_client.connection import ConnectionOptions
from unitvec_client.errors import InputError
from unitvec_client.expectation import read_expectation
from unitvec_client.methods.core import DEFAULT_TIMEOUT_S
from unitvec_client.values import check_type, read_seconds

# Frameworks hand over whole corpora at once, of which one fixed deadline knows nothing.
_TEXTS_PER_TIMEOUT = 512


class ConnectionKeywords(TypedDict, total=False):
    """Keywords of every integration; see `Endpoint`."""

    connection: ConnectionOptions | None
    token_env_var: str | None
    timeout_s: float | None
    expect: str | None


class EndpointKeywords(ConnectionKeywords, total=False):
    """The same, and which model."""

    model: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model on a server.

    Attributes:
        target: ``host:port`` or any other gRPC target; None for the variable UNITVEC_TARGET, or
            localhost:50051 where it is not set, read when a client is opened.
        model: Name of the model, or the id it was exported from; empty for the server's default.
        connection: TLS, token and channel options; plaintext by default.
        token_env_var: Name of the environment variable that holds the token, read when a client
            is opened. Unlike a token of `connection` it may be stored.
        timeout_s: Time for each 512 texts of a call, in seconds; None for no deadline.
        expect: Fingerprint that all vectors must have, as for `Client`; None for any.

    Raises:
        InputError: If a value is not valid.
    """

    target: str | None = None
    model: str = ""
    connection: ConnectionOptions | None = None
    token_env_var: str | None = None
    timeout_s: float | None = DEFAULT_TIMEOUT_S
    expect: str | None = None

    def __post_init__(self) -> None:
        read_expectation(self.expect)
        check_type("target", self.target, (str, type(None)))
        check_type("model", self.model, (str,))
        check_type("connection", self.connection, (ConnectionOptions, type(None)))
        check_type("token_env_var", self.token_env_var, (str, type(None)))
        if self.timeout_s is not None:
            object.__setattr__(self, "timeout_s", read_seconds("timeout_s", self.timeout_s))
        if self.token_env_var is not None and self.connection and self.connection.token:
            raise InputError("connection.token and token_env_var exclude each other")

    def connect(self) -> ConnectionOptions:
        """Return how to connect, with the token.

        Raises:
            InputError: If the variable that should hold the token is not set.
        """
        connection = self.connection or ConnectionOptions()
        if self.token_env_var is None:
            return connection
        token = os.environ.get(self.token_env_var)
        if not token:
            raise InputError(f"the environment variable {self.token_env_var} holds no token")
        return replace(connection, token=token)

    def deadline_s(self, texts: int) -> float | None:
        """Return the time for a call with so many texts; None for no deadline."""
        if self.timeout_s is None:
            return None
        return self.timeout_s * max(1, math.ceil(texts / _TEXTS_PER_TIMEOUT))
