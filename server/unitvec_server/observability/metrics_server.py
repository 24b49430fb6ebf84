"""Metrics over HTTP: the server of prometheus_client, at one path and with a time limit."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app, start_http_server

_PATH = "/metrics"

_TIMEOUT_S = 5.0
"""Silence after which a client is hung up on. Each client holds a thread and a file descriptor."""


class _Handler(WSGIRequestHandler):
    timeout = _TIMEOUT_S

    def handle(self) -> None:
        """Answers a client; no stack trace is written for one that hangs up or says nothing."""
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, *_: Any) -> None:
        """Logs nothing, since scrapes come all day."""


def start_metrics_server(host: str, port: int, *, registry: CollectorRegistry) -> WSGIServer:
    """Serves a registry from threads of its own, which end with the process.

    Args:
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.
        registry: The metrics to serve.

    Raises:
        OSError: The address cannot be listened on.
    """
    server, _ = start_http_server(port, host, registry)
    server.RequestHandlerClass = _Handler
    server.set_app(_at_one_path(make_wsgi_app(registry)))
    return server


def _at_one_path(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Refuses other paths. The app of prometheus_client answers at all, so mistakes go unseen."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == _PATH:
            return app(environ, start_response)
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [f"metrics are at {_PATH}\n".encode()]

    return answer
