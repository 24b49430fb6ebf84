"""The streams of all gRPC services: their common memory, and their end when the server drains."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

from unitvec_server.config import FixedLimits, ServerConfig
from unitvec_server.errors import Unavailable
from unitvec_server.rpc.flow_control import Memory, Pipeline, Reply, Request, Room

_STREAM_MESSAGES = 16
"""Messages of the longest kind, with their replies, that all streams hold together before they are
no longer read ahead. Beyond that each stream may still hold one. By default these are 256 MiB."""


class Streams:
    """Gives each stream its flow control.

    Args:
        config: The configuration, which has the limits with a flag.
        limits: The limits without a flag.
    """

    def __init__(self, config: ServerConfig, limits: FixedLimits) -> None:
        self._limits = limits
        self._memory = Memory(
            max_bytes=_STREAM_MESSAGES * config.max_message_bytes,
            max_stream_bytes=config.max_message_bytes,
        )
        self._draining = False
        self._pipelines: set[Pipeline[Any, Any]] = set()

    @property
    def held_bytes(self) -> int:
        """Bytes that all streams hold in messages."""
        return self._memory.held_bytes

    def drain(self) -> None:
        """Ends streams once the requests that were read are answered. gRPC refuses new calls."""
        self._draining = True
        for pipeline in self._pipelines:
            pipeline.stop_reading()

    async def answer(
        self,
        requests: AsyncIterator[Request],
        work: Callable[[Request], Awaitable[Reply]],
        *,
        weigh: Callable[[Request], int],
        in_order: bool,
        most: int | None = None,
    ) -> AsyncGenerator[Reply]:
        """Yields the replies of a stream.

        When the server drains, the requests that were read are answered; then comes UNAVAILABLE.

        Args:
            requests: The requests of the stream.
            work: Answers one request and never raises.
            weigh: Tells about how many bytes a request and its reply hold.
            in_order: True for replies in the order of the requests, False for as they finish.
            most: Requests in work at a time; None for the limit of all streams.

        Raises:
            Unavailable: The server drains, or nothing came over the stream for too long.
        """
        if self._draining:
            raise Unavailable("the server is shutting down; try another")
        room = Room(most or self._limits.max_stream_requests, self._memory, weigh)
        max_idle_s = self._limits.max_stream_idle_s
        pipeline = Pipeline(requests, work, room=room, in_order=in_order, max_idle_s=max_idle_s)
        self._pipelines.add(pipeline)
        try:
            async with contextlib.aclosing(pipeline.replies()) as replies:
                async for reply in replies:
                    yield reply
        finally:
            self._pipelines.discard(pipeline)
        if self._draining:
            raise Unavailable("the server is shutting down; send what is unanswered to another")
