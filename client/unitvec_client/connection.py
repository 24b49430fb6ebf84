"""Channels: where to, how secured, with which limits. Nothing connects before the first call."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import grpc

from unitvec_client.errors import InputError
from unitvec_client.targets import is_loopback, resolve_target
from unitvec_client.values import read_count, read_seconds

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Largest message either way. gRPC's own 4 MiB is 2,730 vectors of 384 floats."""

# A server counts pings more often than every 5 minutes without data as strikes, unless it is
# configured otherwise (gRFC A8), and hangs up at the third. A little more never offends.
_KEEPALIVE_TIME_S = 310.0
_KEEPALIVE_TIMEOUT_S = 20.0
# gRPC core waits 1 s, growing to 120 s, before it connects again; until then every call fails at
# once. Our own retries give up sooner than that.
_INITIAL_RECONNECT_MS = 100
_MAX_RECONNECT_MS = 5_000
# This is the time for connecting, although gRPC's argument is called the least backoff. After an
# attempt that was refused, the next one comes as soon as the two above say. Less time than a few
# round trips, for TCP, TLS and HTTP/2, would never reach a server that is far away.
_CONNECT_TIMEOUT_MS = 5_000

_COMPRESSIONS = {
    "none": grpc.Compression.NoCompression,
    "gzip": grpc.Compression.Gzip,
    "deflate": grpc.Compression.Deflate,
}

PemSource = bytes | str | Path
"""PEM data (bytes), or the path of a file that holds it."""


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """How to reach a server.

    Attributes:
        tls: Whether to encrypt, and to verify the server's certificate.
        root_certificates: Authorities that may sign it; None for the well-known ones.
        client_key: Private key for mutual TLS.
        client_chain: Certificate chain that goes with it.
        token: Secret that goes with every call as ``authorization: Bearer``, also where nothing is
            encrypted.
        server_name: Name to verify in the certificate, where it differs from the target.
        compression: Compression of requests: ``none``, ``gzip`` or ``deflate``. Texts compress
            well, vectors do not.
        load_balancing: ``pick_first``, or ``round_robin`` over all addresses of a ``dns:///`` or
            ``ipv4:`` target.
        max_message_bytes: Largest message either way.
        keepalive_time_s: Ping after this much silence during a call, in seconds.
        extra_options: Channel arguments of gRPC; they win over ours.

    Raises:
        InputError: Where options contradict each other.
    """

    tls: bool = False
    root_certificates: PemSource | None = None
    client_key: PemSource | None = field(default=None, repr=False)
    client_chain: PemSource | None = None
    token: str | None = field(default=None, repr=False)
    server_name: str | None = None
    compression: Literal["none", "gzip", "deflate"] = "none"
    load_balancing: Literal["pick_first", "round_robin"] = "pick_first"
    max_message_bytes: int = MAX_MESSAGE_BYTES
    keepalive_time_s: float = _KEEPALIVE_TIME_S
    extra_options: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        certificates = (self.root_certificates, self.client_key, self.client_chain)
        if not self.tls and any(value is not None for value in (*certificates, self.server_name)):
            raise InputError("certificates, keys and server_name need tls=True")
        if (self.client_key is None) != (self.client_chain is None):
            raise InputError("client_key and client_chain go together")
        if self.compression not in _COMPRESSIONS:
            raise InputError(f"compression must be one of {', '.join(_COMPRESSIONS)}")
        if self.load_balancing not in ("pick_first", "round_robin"):
            raise InputError("load_balancing must be pick_first or round_robin")
        message_bytes = read_count("max_message_bytes", self.max_message_bytes)
        object.__setattr__(self, "max_message_bytes", message_bytes)
        keepalive_time_s = read_seconds("keepalive_time_s", self.keepalive_time_s)
        object.__setattr__(self, "keepalive_time_s", keepalive_time_s)
        if self.token is not None and not _is_header_text(self.token):
            raise InputError("token must be printable ASCII, without a line break")


def call_metadata(options: ConnectionOptions) -> tuple[tuple[str, str], ...]:
    """Return the metadata that every call on a channel with these options needs.

    A token is metadata rather than a call credential because gRPC refuses to send those
    over plaintext, which is what a sidecar or a loopback proxy speaks.
    """
    if options.token is None:
        return ()
    return (("authorization", f"Bearer {options.token}"),)


def open_channel(target: str | None, options: ConnectionOptions | None = None) -> grpc.Channel:
    """Open a channel for blocking calls.

    Args:
        target: ``host:port`` (the port is 50051 where it is left out), ``dns:///host:port``,
            ``ipv4:host:port,host:port`` for several addresses, ``unix:path`` or any other gRPC
            target. None takes the variable UNITVEC_TARGET, else localhost:50051.
        options: How to reach it; plaintext by default.

    Raises:
        InputError: If it is no target, or a certificate file cannot be read.
    """
    options = options or ConnectionOptions()
    target = resolve_target(target, tls=options.tls)
    arguments, compression = _prepare(target, options)
    if not options.tls:
        return grpc.insecure_channel(target, arguments, compression)
    return grpc.secure_channel(target, _credentials(options), arguments, compression)


def open_aio_channel(
    target: str | None, options: ConnectionOptions | None = None
) -> grpc.aio.Channel:
    """Open a channel for asyncio; call it inside the event loop that will use it.

    Args:
        target: As for `open_channel`.
        options: How to reach it; plaintext by default.

    Raises:
        InputError: If it is no target, or a certificate file cannot be read.
    """
    options = options or ConnectionOptions()
    target = resolve_target(target, tls=options.tls)
    arguments, compression = _prepare(target, options)
    if not options.tls:
        return grpc.aio.insecure_channel(target, arguments, compression)
    return grpc.aio.secure_channel(target, _credentials(options), arguments, compression)


def channel_arguments(options: ConnectionOptions) -> list[tuple[str, Any]]:
    """Return the gRPC channel arguments for these options; the last of a name wins."""
    arguments: dict[str, Any] = {
        "grpc.max_send_message_length": options.max_message_bytes,
        "grpc.max_receive_message_length": options.max_message_bytes,
        "grpc.keepalive_time_ms": int(options.keepalive_time_s * 1000),
        "grpc.keepalive_timeout_ms": int(_KEEPALIVE_TIMEOUT_S * 1000),
        "grpc.keepalive_permit_without_calls": 0,
        "grpc.initial_reconnect_backoff_ms": _INITIAL_RECONNECT_MS,
        "grpc.min_reconnect_backoff_ms": _CONNECT_TIMEOUT_MS,
        "grpc.max_reconnect_backoff_ms": _MAX_RECONNECT_MS,
        "grpc.primary_user_agent": _user_agent(),
    }
    if options.load_balancing == "round_robin":
        config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
        arguments["grpc.service_config"] = json.dumps(config)
    if options.server_name is not None:
        arguments["grpc.ssl_target_name_override"] = options.server_name
    arguments.update(options.extra_options)
    return list(arguments.items())


def _prepare(
    target: str, options: ConnectionOptions
) -> tuple[list[tuple[str, Any]], grpc.Compression]:
    arguments = channel_arguments(options)
    if is_loopback(target):
        # gRPC would send even this machine's own addresses through the proxy that variables name.
        # The option comes first, so that `extra_options` win.
        arguments.insert(0, ("grpc.enable_http_proxy", 0))
    return arguments, _COMPRESSIONS[options.compression]


def _credentials(options: ConnectionOptions) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=_read_pem("root_certificates", options.root_certificates),
        private_key=_read_pem("client_key", options.client_key),
        certificate_chain=_read_pem("client_chain", options.client_chain),
    )


def _read_pem(name: str, source: PemSource | None) -> bytes | None:
    if source is None or isinstance(source, bytes):
        return source
    try:
        return Path(source).read_bytes()
    except OSError as exc:
        raise InputError(f"{name}: cannot read {source}: {exc.strerror}") from exc


def _is_header_text(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable()


def _user_agent() -> str:
    from unitvec_protos import __version__

    return f"unitvec-python/{__version__}"
