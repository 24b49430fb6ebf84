"""Flow control of a stream: how far it is read ahead of what it is answered.

A request is read only once there is room for one more in work, and its room is free again
only when its reply was taken. So a client that sends without reading stops being read, and
what a stream can hold in memory is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class Pipeline(Generic[Request, Reply]):
    """Works on several requests of one stream at a time.

    Args:
        requests: The stream.
        work: Answers one request; must not raise.
        most_in_work: Requests read and not yet taken as replies.
        in_order: Reply in request order, else as the work finishes.
    """

    def __init__(
        self,
        requests: AsyncIterator[Request],
        work: Callable[[Request], Awaitable[Reply]],
        *,
        most_in_work: int,
        in_order: bool,
    ) -> None:
        self._requests = requests
        self._work = work
        self._in_order = in_order
        self._room = asyncio.Semaphore(most_in_work)
        self._ready: asyncio.Queue[asyncio.Task[Reply] | None] = asyncio.Queue()
        self._in_work: set[asyncio.Task[Reply]] = set()
        self._reader: asyncio.Task[None] | None = None
        self._stopped = False

    def stop_reading(self) -> None:
        """Reads no more; what was read is still answered. May come before `replies` begins."""
        self._stopped = True
        if self._reader is not None:
            self._reader.cancel()

    async def replies(self) -> AsyncGenerator[Reply]:
        """Replies until all that was read is answered.

        Raises:
            Exception: Whatever reading the stream raised, after the last reply.
        """
        self._reader = asyncio.create_task(self._read())
        self._reader.add_done_callback(lambda _: self._ready.put_nowait(None))
        if self._stopped:
            self._reader.cancel()
        try:
            while self._in_work or not self._reader.done():
                task = await self._ready.get()
                if task is not None:
                    yield await task
                    self._in_work.discard(task)
                    self._room.release()
            if not self._reader.cancelled():
                self._reader.result()
        finally:
            await self._close()

    async def _read(self) -> None:
        while True:
            # Room first: a request that was read is never given up.
            await self._room.acquire()
            try:
                request = await anext(self._requests)
            except StopAsyncIteration:
                return
            task = asyncio.ensure_future(self._work(request))
            self._in_work.add(task)
            if self._in_order:
                self._ready.put_nowait(task)
            else:
                task.add_done_callback(self._ready.put_nowait)

    async def _close(self) -> None:
        assert self._reader is not None
        tasks = [self._reader, *self._in_work]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
