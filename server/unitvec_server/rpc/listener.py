"""The gRPC server: its services, its options, and the address it listens on."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Sequence

import grpc
from grpc_health.v1 import health_pb2_grpc

from unitvec_protos.v1 import admin_pb2_grpc
from unitvec_protos.v1 import embedding_pb2_grpc as pb_grpc
from unitvec_server.config import ServerConfig
from unitvec_server.errors import ConfigError
from unitvec_server.rpc.admin import AdminServicer
from unitvec_server.rpc.health import Health
from unitvec_server.rpc.intake import MAX_METADATA_BYTES
from unitvec_server.rpc.interceptor import ADMIN, Edge
from unitvec_server.rpc.peer_api import PeerApi
from unitvec_server.rpc.reflection import add_reflection
from unitvec_server.rpc.servicer import EmbeddingServicer
from unitvec_server.security.secrets import Secrets, check_exposure

SETTINGS_S = 5
"""Time for a client to acknowledge our HTTP/2 settings; gRPC would wait a minute."""

UNSETTLED_METADATA_BYTES = 16 * 2**20
"""The longest metadata until a client has done so. It is gRPC's own, and no option changes it."""


@dataclasses.dataclass(frozen=True)
class Services:
    """What answers the calls: our services, health, and the APIs of other systems."""

    servicer: EmbeddingServicer
    admin: AdminServicer
    health: Health
    peers: Sequence[PeerApi]


def build_server(
    config: ServerConfig, edge: Edge, services: Services, secrets: Secrets
) -> tuple[grpc.aio.Server, int]:
    """Makes the gRPC server and binds its port, which takes calls once the server is started.

    Returns:
        The server and its port.

    Raises:
        ConfigError: The server cannot listen on the address.
    """
    server = grpc.aio.server(interceptors=[edge], options=_channel_options(config))
    pb_grpc.add_EmbeddingServiceServicer_to_server(services.servicer, server)
    if secrets.check_admin is not None:
        admin_pb2_grpc.add_AdminServiceServicer_to_server(services.admin, server)
        edge.expect(ADMIN.methods)
    health_pb2_grpc.add_HealthServicer_to_server(services.health, server)
    server.add_generic_rpc_handlers(tuple(services.peers))
    for peer in services.peers:
        edge.expect(peer.methods)
    if config.reflection:
        add_reflection(server, services.peers, is_admin=secrets.check_admin is not None)
    return server, _bind(server, config, secrets.credentials())


def _channel_options(config: ServerConfig) -> list[tuple[str, int]]:
    """Limits what a connection may cost; `docs/operations/security.md` lists the limits."""
    age_ms = min(int(config.max_connection_age_s * 1000), 2**31 - 1) or 2**31 - 1
    return [
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        ("grpc.max_allowed_incoming_connections", config.max_connections),
        # Two servers must not share a port without saying so.
        ("grpc.so_reuseport", 0),
        # Clients may ping every 10 s, as some do; gRPC's own limit is 5 minutes.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_ping_strikes", 2),
        # The lower limit is gRPC's default. Between the two, the longer the more calls fail.
        ("grpc.max_metadata_size", 8 * 1024),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        # Until a client has acknowledged that limit, gRPC applies a far larger one of its own.
        ("grpc.http2.settings_timeout", SETTINGS_S * 1000),
        # Calls beyond it wait without an answer. Those between max_calls and it are told.
        ("grpc.max_concurrent_streams", 2 * config.max_calls),
        # The handshakes of TLS and HTTP/2 must be finished in time; gRPC would wait 2 minutes.
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.max_connection_idle_ms", 600_000),
        # Renewal spreads clients over new replicas and ends what old certificates let in.
        ("grpc.max_connection_age_ms", age_ms),
        ("grpc.max_connection_age_grace_ms", age_ms),
    ]


def _bind(
    server: grpc.aio.Server, config: ServerConfig, credentials: grpc.ServerCredentials | None
) -> int:
    host = f"[{config.host}]" if ":" in config.host else config.host
    address = f"{host}:{config.port}"
    try:
        check_exposure(config)
        _try_address(config)
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except (OSError, RuntimeError) as exc:
        raise ConfigError(f"--host, --port: cannot listen on {address}: {exc}") from exc


def _try_address(config: ServerConfig) -> None:
    """Tries to listen, since gRPC does not tell why it cannot."""
    kind = socket.SOCK_STREAM
    family, *_, address = socket.getaddrinfo(config.host, config.port, type=kind)[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen()
