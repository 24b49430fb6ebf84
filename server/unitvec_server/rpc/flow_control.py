"""Flow control of a stream: how far it is read ahead of what it is answered.

A request is read only once there is room for one more in work, and its room is free again
only when its reply was taken. So a client that sends without reading stops being read, and
what a stream can hold in memory is bounded: in requests and, with all other streams, in bytes.
One that says nothing for long is ended: it takes the place of a call, and may have been forgotten.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

from unitvec_server.errors import Unavailable

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class Memory:
    """What all streams hold in messages in work. For one event loop.

    Args:
        max_bytes: Of all streams together; those that hold nothing may still read one message.
        max_stream_bytes: Of one stream.
    """

    def __init__(self, *, max_bytes: int, max_stream_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._max_stream_bytes = max_stream_bytes
        self._freed = asyncio.Event()
        self.held_bytes = 0

    def is_full(self, stream_bytes: int) -> bool:
        """Whether a stream that holds so much must not read on."""
        full = stream_bytes >= self._max_stream_bytes or self.held_bytes >= self._max_bytes
        return full and stream_bytes > 0

    def hold(self, size_bytes: int) -> None:
        """Notes what was read, or with a negative number what was let go."""
        self.held_bytes += size_bytes
        if size_bytes < 0:
            self._freed.set()

    async def wait(self) -> None:
        """Until something is let go."""
        self._freed.clear()
        await self._freed.wait()


class Room(Generic[Request]):
    """What one stream may hold.

    Args:
        most: Requests read and not yet taken as replies.
        memory: Shared with all streams; None for as much as they bring.
        weigh: Bytes that a request and its reply hold, about.
    """

    def __init__(
        self,
        most: int,
        memory: Memory | None = None,
        weigh: Callable[[Request], int] = lambda _: 0,
    ) -> None:
        self._free = asyncio.Semaphore(most)
        self._memory = memory or Memory(max_bytes=1, max_stream_bytes=1)
        self._weigh = weigh
        self.held_bytes = 0

    async def wait(self) -> None:
        """Until one more request may be read."""
        await self._free.acquire()
        while self._memory.is_full(self.held_bytes):
            await self._memory.wait()

    def take(self, request: Request) -> int:
        """Holds a request that was read: its weight, to be given back."""
        weight = self._weigh(request)
        self._hold(weight)
        return weight

    def give_back(self, weight: int) -> None:
        """Lets go of a request whose reply was taken."""
        self._hold(-weight)
        self._free.release()

    def close(self) -> None:
        """Lets go of all."""
        self._hold(-self.held_bytes)

    def _hold(self, size_bytes: int) -> None:
        self.held_bytes += size_bytes
        self._memory.hold(size_bytes)


class Pipeline(Generic[Request, Reply]):
    """Works on several requests of one stream at a time.

    Args:
        requests: The stream.
        work: Answers one request; must not raise.
        room: How much of it may be in work.
        in_order: Reply in request order, else as the work finishes.
        max_idle_s: Silence, with nothing in work, after which the stream is ended, give or take as
            much.
    """

    def __init__(
        self,
        requests: AsyncIterator[Request],
        work: Callable[[Request], Awaitable[Reply]],
        *,
        room: Room[Request],
        in_order: bool,
        max_idle_s: float = math.inf,
    ) -> None:
        self._requests = requests
        self._work = work
        self._in_order = in_order
        self._room = room
        self._ready: asyncio.Queue[asyncio.Task[Reply] | None] = asyncio.Queue()
        self._in_work: dict[asyncio.Task[Reply], int] = {}  # with their weights
        self._reader: asyncio.Task[None] | None = None
        self._stopped = False
        self._max_idle_s = max_idle_s
        self._is_idle = False
        self._count_read = 0

    def stop_reading(self) -> None:
        """Reads no more; what was read is still answered. May come before `replies` begins."""
        self._stopped = True
        if self._reader is not None:
            self._reader.cancel()

    async def replies(self) -> AsyncGenerator[Reply]:
        """Replies until all that was read is answered.

        Raises:
            Unavailable: The stream was silent for too long.
            Exception: Whatever reading the stream raised, after the last reply.
        """
        self._reader = asyncio.create_task(self._read())
        self._reader.add_done_callback(lambda _: self._ready.put_nowait(None))
        if self._stopped:
            self._reader.cancel()
        watch = asyncio.create_task(self._end_if_idle())
        try:
            while self._in_work or not self._reader.done():
                task = await self._ready.get()
                if task is not None:
                    yield await task
                    self._room.give_back(self._in_work.pop(task))
            if self._is_idle:
                raise Unavailable(
                    f"nothing came over this stream for {self._max_idle_s:g} s; "
                    "open another when there is more to send",
                    reason="STREAM_IDLE",
                )
            if not self._reader.cancelled():
                self._reader.result()
        finally:
            await self._close(watch)

    async def _end_if_idle(self) -> None:
        assert self._reader is not None
        count_read = -1
        while self._in_work or count_read != self._count_read:
            count_read = self._count_read
            await asyncio.sleep(self._max_idle_s)  # for ever, if it is infinite
        self._is_idle = True
        self._reader.cancel()

    async def _read(self) -> None:
        while True:
            # Room first: a request that was read is never given up.
            await self._room.wait()
            try:
                request = await anext(self._requests)
            except StopAsyncIteration:
                return
            self._count_read += 1
            task = asyncio.ensure_future(self._work(request))
            self._in_work[task] = self._room.take(request)
            if self._in_order:
                self._ready.put_nowait(task)
            else:
                task.add_done_callback(self._ready.put_nowait)

    async def _close(self, watch: asyncio.Task[None]) -> None:
        assert self._reader is not None
        tasks = [self._reader, watch, *self._in_work]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._room.close()
