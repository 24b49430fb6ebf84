"""The standard health service of gRPC, for the server as a whole and for each service."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from grpc_health.v1 import health, health_pb2

from unitvec_server.rpc.interceptor import SERVICE

_LAST_WORD_S = 0.1
"""Time for a watch to pass NOT_SERVING on before it ends."""


class Health(health.aio.HealthServicer):
    """Answers health checks, and ends all watches when the server drains.

    A watch that stayed open would use up all of the time that calls have to finish.

    Args:
        services: The services beside our own, by full name.
    """

    def __init__(self, services: Iterable[str] = ()) -> None:
        super().__init__()
        self._services = ("", SERVICE, *services)
        self._draining = asyncio.Event()
        self._is_serving = True  # as the base class starts

    def is_serving(self) -> bool:
        """Returns whether health says SERVING. It may be called from any thread."""
        return self._is_serving

    async def set_serving(self, *, serving: bool) -> None:
        """Sets SERVING or NOT_SERVING for the server and for each service."""
        states = health_pb2.HealthCheckResponse
        for service in self._services:
            await self.set(service, states.SERVING if serving else states.NOT_SERVING)
        self._is_serving = serving

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802 - gRPC's name
        """Reports changes to a client until the server drains."""
        watch = asyncio.ensure_future(super().Watch(request, context))
        draining = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait({watch, draining}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({watch}, timeout=_LAST_WORD_S)
        finally:
            watch.cancel()
            draining.cancel()
            await asyncio.gather(watch, draining, return_exceptions=True)

    async def drain(self) -> None:
        """Sets NOT_SERVING for good and ends all watches."""
        await self.enter_graceful_shutdown()
        self._is_serving = False
        self._draining.set()
