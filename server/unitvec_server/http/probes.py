"""Probes, which tell whether the process lives and is ready for requests; and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from unitvec_server.errors import Unavailable
from unitvec_server.http.apis import openai
from unitvec_server.http.exchange import TEXT, Handler, Reply, Request, Route

API = "probes"
METRICS = "metrics"

_EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


class Probes:
    """Answers probes, which need no token.

    Args:
        is_serving: Tells whether requests are taken.
    """

    def __init__(self, is_serving: Callable[[], bool]) -> None:
        self._is_serving = is_serving

    def routes(self) -> list[Route]:
        """The routes."""
        live = "Whether the process lives: it does if it answers"
        ready = "Whether requests are taken: models are loaded and the server does not drain"
        return [
            _route("/livez", self.live, live),
            _route("/readyz", self.ready, ready),
            _route("/health", self.ready, ready),
            _route("/.well-known/live", self.well_known_live, live),
            _route("/.well-known/ready", self.well_known_ready, ready),
        ]

    async def live(self, _: Request) -> Reply:
        """Answers."""
        return Reply(b"ok\n", TEXT)

    async def ready(self, _: Request) -> Reply:
        """Answers if requests are taken."""
        if not self._is_serving():
            raise Unavailable("the server is starting or shutting down", reason="NOT_SERVING")
        return Reply(b"ok\n", TEXT)

    async def well_known_live(self, request: Request) -> Reply:
        """Answers as Weaviate expects it, without a body."""
        await self.live(request)
        return Reply(b"", status=204)

    async def well_known_ready(self, request: Request) -> Reply:
        """Answers if requests are taken."""
        await self.ready(request)
        return Reply(b"", status=204)


class Metrics:
    """Answers Prometheus.

    Args:
        scrape: Returns the metrics.
    """

    def __init__(self, scrape: Callable[[], bytes]) -> None:
        self._scrape = scrape

    def routes(self) -> list[Route]:
        """The routes."""
        what = "Metrics of the server, as Prometheus reads them"
        return [Route("GET", "/metrics", self.metrics, METRICS, openai.write_error, what)]

    async def metrics(self, _: Request) -> Reply:
        """Answers with all metrics."""
        return Reply(await asyncio.to_thread(self._scrape), _EXPOSITION)


def _route(path: str, handler: Handler, summary: str) -> Route:
    return Route("GET", path, handler, API, openai.write_error, summary, is_probe=True)
