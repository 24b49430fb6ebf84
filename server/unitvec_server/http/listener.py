"""The HTTP server: its address, TLS, connections, and how it ends."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import ssl
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from unitvec_server.config import ServerConfig
from unitvec_server.errors import ConfigError
from unitvec_server.http.connection import Connection, ConnectionLimits

_HANDSHAKE_S = 10.0
"""Time for the handshake of TLS, as over gRPC."""

_BACKLOG = 1024


class HttpListener:
    """Listens, and closes connections when the server drains.

    Args:
        app: What answers, as ASGI has it.
        limits: What connections may cost.

    Attributes:
        port: The port, once it listens.
    """

    def __init__(self, app: Any, limits: ConnectionLimits) -> None:
        # What strangers do wrong is no news; what we do wrong is.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        config = Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
        )
        config.load()
        self._state = ServerState()
        self._connect = functools.partial(Connection, config, self._state, limits)
        self._servers: list[asyncio.Server] = []
        self.port = 0

    @property
    def connections(self) -> int:
        """The connections that are open."""
        return len(self._state.connections)

    async def start(self, config: ServerConfig, tls: ssl.SSLContext | None) -> None:
        """Listens on the address of the server.

        Raises:
            ConfigError: It cannot.
        """
        port = config.http_port or 0
        try:
            sockets = _listen(config.host, port)
        except OSError as exc:
            address = f"{config.host}:{port}"
            raise ConfigError(f"--host, --http-port: cannot listen on {address}: {exc}") from exc
        self.port = sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        how: dict[str, Any] = {"ssl_handshake_timeout": _HANDSHAKE_S} if tls else {}
        for each in sockets:
            server = await loop.create_server(
                self._connect, sock=each, ssl=tls, backlog=_BACKLOG, **how
            )
            self._servers.append(server)

    async def drain(self, grace_s: float) -> None:
        """Takes no more connections, and returns when what was asked for is answered.

        Args:
            grace_s: Time after which what is left is cut.
        """
        for server in self._servers:
            server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(set(self._state.tasks), timeout=grace_s)
        for connection in list(self._state.connections):
            if isinstance(connection, Connection):
                connection.abort()


def _listen(host: str, port: int) -> list[socket.socket]:
    """A socket for each address that a host has, all with the same port."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    for family, _, _, _, address in dict.fromkeys(found):
        bound = sockets[0].getsockname()[1] if sockets else port
        dual = family == socket.AF_INET6 and address[0] == "::"
        try:
            sockets.append(
                socket.create_server(
                    (str(address[0]), bound), family=family, backlog=_BACKLOG, dualstack_ipv6=dual
                )
            )
        except OSError as exc:  # such as that of IPv6 on a machine without it
            failure = exc
    if not sockets and failure is not None:
        raise failure
    return sockets
