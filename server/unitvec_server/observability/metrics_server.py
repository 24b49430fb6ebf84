"""Metrics over HTTP: the server of prometheus_client, at one path and with a time limit."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app, start_http_server

from unitvec_server.errors import InvalidRequest
from unitvec_server.security.hosts import HostCheck, allow_any_host

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


def start_metrics_server(
    host: str, port: int, *, registry: CollectorRegistry, check_host: HostCheck = allow_any_host
) -> WSGIServer:
    """Serves a registry from threads of its own, which end with the process.

    Args:
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.
        registry: The metrics to serve.
        check_host: Refuses requests by the name that they give the server, their header Host.

    Raises:
        OSError: The address cannot be listened on.
    """
    server, _ = start_http_server(port, host, registry)
    server.RequestHandlerClass = _Handler
    server.set_app(_guarded(make_wsgi_app(registry), check_host))
    return server


def _guarded(
    app: Callable[..., Iterable[bytes]], check_host: HostCheck
) -> Callable[..., Iterable[bytes]]:
    """Refuses other paths, where the app answers too, so that mistakes go unseen; and hosts."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        status, words = "404 Not Found", f"metrics are at {_PATH}"
        try:
            check_host(environ.get("HTTP_HOST", ""))
            if environ["PATH_INFO"] == _PATH:
                return app(environ, start_response)
        except InvalidRequest as exc:
            status, words = "403 Forbidden", str(exc)
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{words}\n".encode()]

    return answer
