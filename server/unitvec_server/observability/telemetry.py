"""The access log and, if they are asked for, metrics and traces."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from unitvec_protos.installation import install_command
from unitvec_server.config import ServerConfig
from unitvec_server.doors.calls import Observer
from unitvec_server.engine.engine import Engine
from unitvec_server.engine.scheduler import Scheduler
from unitvec_server.errors import ConfigError
from unitvec_server.observability.access_log import log_call
from unitvec_server.observability.frontend import Frontend
from unitvec_server.observability.logs import LogWriter
from unitvec_server.security.hosts import host_check

if TYPE_CHECKING:  # Loading these takes time and memory, and most servers need neither.
    from wsgiref.simple_server import WSGIServer

    from prometheus_client import CollectorRegistry

    from unitvec_server.observability.metrics import Metrics
    from unitvec_server.observability.tracing import Tracing

logger = logging.getLogger(__name__)


class Telemetry:
    """The metrics, traces and access log of one server, as a context manager that ends them.

    Args:
        config: The configuration, which says what is asked for.
        logs: The writer of logs, which counts the lines that were lost.

    Attributes:
        observers: The functions that are shown each call at its end.

    Raises:
        ConfigError: Traces are asked for and cannot be made.
    """

    def __init__(self, config: ServerConfig, logs: LogWriter) -> None:
        self._config, self._logs = config, logs
        self._tracing = _open_tracing() if config.tracing else None
        self._metrics: Metrics | None = None
        self._registry: CollectorRegistry | None = None
        self._server: WSGIServer | None = None
        observers = (log_call, self._tracing)
        self.observers: Sequence[Observer] = [one for one in observers if one is not None]

    def show(self, frontend: Frontend) -> None:
        """Serves metrics, if they are asked for on a port of their own, or there is an HTTP door.

        Raises:
            ConfigError: The server cannot listen on their address.
        """
        if self._config.metrics_port is None and not frontend.http:
            return
        from unitvec_server.observability.metrics import Metrics, make_registry

        self._metrics = Metrics(frontend, self._logs)
        self._registry = make_registry(self._metrics)
        if self._config.metrics_port is not None:
            self._serve(self._registry, self._config.metrics_host, self._config.metrics_port)

    def _serve(self, registry: CollectorRegistry, host: str, port: int) -> None:
        from unitvec_server.observability.metrics_server import start_metrics_server

        try:
            check_host = host_check(host, is_guarded=self._config.insecure)
            self._server = start_metrics_server(
                host, port, registry=registry, check_host=check_host
            )
        except OSError as exc:
            raise ConfigError(
                f"--metrics-host, --metrics-port: cannot listen on {host}:{port}: {exc}"
            ) from exc
        host = f"[{host}]" if ":" in host else host
        logger.info("metrics on http://%s:%d/metrics", host, self._server.server_port)

    def scrape(self) -> bytes:
        """Returns the metrics as Prometheus reads them. It may be called from any thread."""
        from prometheus_client import generate_latest

        assert self._registry is not None  # there is an HTTP door, which asks
        return generate_latest(self._registry)

    def open(self, engine: Engine, scheduler: Scheduler) -> None:
        """Adds the models to the metrics when they are loaded, and anew when one was replaced."""
        if self._metrics is not None:
            self._metrics.open(engine, scheduler)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Exports the traces that are left and ends the metrics."""
        if self._tracing is not None:
            self._tracing.stop()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


def _open_tracing() -> Tracing:
    try:
        from unitvec_server.observability.tracing import open_tracing
    except ImportError as exc:
        raise ConfigError(
            f"--tracing: {exc.name} is not installed: {install_command('server-otel')}"
        ) from exc
    return open_tracing()
