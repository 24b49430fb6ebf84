"""One asyncio client for each event loop: frameworks call `asyncio.run` again and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from unitvec_client.aio import AsyncClient

Lifetime = AsyncGenerator[AsyncClient]


class LoopClients:
    """The clients of all event loops that asked for one; threads may share it.

    A channel of gRPC stays with the loop that opened it. Each client here is held by an async
    generator of its loop: as `asyncio.run` finishes those before it closes the loop, the client
    is closed in time, by the loop it belongs to, with nobody calling `close`.

    Args:
        open_client: Makes a client. It connects at its first call.
    """

    def __init__(self, open_client: Callable[[], AsyncClient]) -> None:
        self._open_client = open_client
        self._lifetimes: dict[asyncio.AbstractEventLoop, tuple[Lifetime, AsyncClient]] = {}

    async def get(self) -> AsyncClient:
        """Return the client of the running loop, opened at its first call."""
        loop = asyncio.get_running_loop()
        if loop not in self._lifetimes:
            self._forget_closed()
            lifetime = self._hold(loop)
            # It does not wait for anything before it yields: no task gets in between.
            self._lifetimes[loop] = lifetime, await anext(lifetime)
        return self._lifetimes[loop][1]

    async def aclose(self) -> None:
        """Close the running loop's client, and let other loops close theirs."""
        held = self._lifetimes.pop(asyncio.get_running_loop(), None)
        if held is not None:
            await held[0].aclose()
        self.close()

    def close(self) -> None:
        """Let each loop close its client when it next turns."""
        # What becomes of a generator that nobody holds: its loop is asked to close it.
        self._lifetimes.clear()

    async def _hold(self, loop: asyncio.AbstractEventLoop) -> Lifetime:
        client = self._open_client()
        try:
            yield client
        finally:
            self._lifetimes.pop(loop, None)
            await client.close()

    def _forget_closed(self) -> None:
        for loop in [loop for loop in self._lifetimes if loop.is_closed()]:
            self._lifetimes.pop(loop, None)
