"""The most memory that clients can make a server hold; `docs/operations/memory.md` explains it."""

from __future__ import annotations

from unitvec_server.config import ServerConfig

HELD_MESSAGES = 16
"""Messages of the longest kind that all unary calls hold together, and all streams likewise."""

_LEAST_TOKENS_A_TEXT = 8
_QUEUED_TEXT_BYTES = 2048
"""Bytes of a queued text, without its vector."""

_TOKENIZING_BYTES = 107 * 2**20
"""Bytes that one thread takes to split the longest text, as measured."""

_HEALTH_MESSAGES = 64

_HTTP_CONNECTION_BYTES = 400 * 1024
"""Most bytes of a connection over HTTP: a head of 16 KiB, 64 KiB of a body and what is read at once
beside it, 256 KiB, and 64 KiB of a reply. All else counts as messages of unary calls."""

_CONNECTION_BYTES, _TLS_BYTES = 44 * 1024, 30 * 1024
"""Bytes of a connection, and the bytes that TLS adds, as measured."""


def most_client_bytes(config: ServerConfig, *, dim: int, workers: int) -> int:
    """Returns the bytes that are held if all clients are at their worst at the same moment.

    Args:
        config: The configuration, which has the limits.
        dim: The dimension of the longest vectors.
        workers: The number of threads that split texts.
    """
    texts = config.max_queued_tokens // _LEAST_TOKENS_A_TEXT
    messages = 2 * HELD_MESSAGES + config.max_calls + _HEALTH_MESSAGES
    connection_bytes = _CONNECTION_BYTES + (_TLS_BYTES if config.tls_cert else 0)
    http_bytes = 0 if config.http_port is None else _HTTP_CONNECTION_BYTES
    return (
        texts * (_QUEUED_TEXT_BYTES + 4 * dim)
        + messages * config.max_message_bytes
        + config.max_corpora_bytes
        + config.cache_bytes
        + workers * _TOKENIZING_BYTES
        + config.max_connections * (connection_bytes + http_bytes)
    )
