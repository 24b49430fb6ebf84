"""Metrics over HTTP, bounded in whatever clients do: few at a time, none for long."""

from __future__ import annotations

import logging
import socket
import threading
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

logger = logging.getLogger(__name__)

_MOST_AT_A_TIME = 8
_TIMEOUT_S = 5.0


class _Handler(WSGIRequestHandler):
    timeout = _TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Debug only: scrapes come all day."""
        logger.debug(format, *args)


class MetricsServer(ThreadingMixIn, WSGIServer):
    """Serves a registry at every path, from threads of its own. Constructing it binds the port.

    Args:
        host: Address to listen on.
        port: 0 takes a free one.
        registry: What to serve.

    Raises:
        OSError: The address cannot be listened on.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, *, registry: CollectorRegistry) -> None:
        kind = socket.SOCK_STREAM
        self.address_family = socket.getaddrinfo(host, port, type=kind)[0][0]
        self._free = threading.BoundedSemaphore(_MOST_AT_A_TIME)
        super().__init__((host, port), _Handler)
        self.set_app(make_wsgi_app(registry))
        self._thread = threading.Thread(target=self.serve_forever, name="metrics", daemon=True)

    def server_bind(self) -> None:
        """Binds without asking the name service for the host's full name, which may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def start(self) -> None:
        """Answers from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Answers no more."""
        if self._thread.is_alive():
            self.shutdown()
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answers in a thread; beyond the bound, hangs up."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answers one request."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, *_: Any) -> None:
        """Clients that hang up or say nothing are their own affair."""
        logger.debug("a scrape failed", exc_info=True)
