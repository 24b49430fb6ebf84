"""Flow control of a stream: how many requests are read before earlier ones are answered.

A request is read only when there is room for one more in work, and it gives its room back only
when gRPC has taken its reply. So a client that sends without reading is no longer read, and the
memory of a stream is limited: by a number of requests and, together with all other streams, by a
number of bytes. A stream over which nothing comes for long is ended, because it takes the place of
a call and its client may have forgotten it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

from unitvec_server.errors import Unavailable

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class Memory:
    """The bytes that all streams hold in messages. It belongs to one event loop.

    Args:
        max_bytes: Limit of all streams together. A stream that holds nothing may always read one
            message, so that each of them goes on.
        max_stream_bytes: Limit of one stream.

    Attributes:
        held_bytes: The bytes that all streams hold now.
    """

    def __init__(self, *, max_bytes: int, max_stream_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._max_stream_bytes = max_stream_bytes
        self._freed = asyncio.Event()
        self.held_bytes = 0

    def is_full(self, stream_bytes: int) -> bool:
        """Returns whether a stream that holds this many bytes must wait before it reads on."""
        full = stream_bytes >= self._max_stream_bytes or self.held_bytes >= self._max_bytes
        return full and stream_bytes > 0

    def hold(self, size_bytes: int) -> None:
        """Adds bytes that were read; a negative number takes off bytes that were let go."""
        self.held_bytes += size_bytes
        if size_bytes < 0:
            self._freed.set()

    async def wait(self) -> None:
        """Waits until a stream lets go of some bytes."""
        self._freed.clear()
        await self._freed.wait()


class Room(Generic[Request]):
    """The room that one stream has for requests.

    Args:
        most: Requests that may be read and whose replies are not yet taken.
        memory: The bytes of all streams; None for no limit of bytes.
        weigh: Tells about how many bytes a request and its reply hold.

    Attributes:
        held_bytes: The bytes that the stream holds now.
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
        """Waits until one more request may be read."""
        await self._free.acquire()
        while self._memory.is_full(self.held_bytes):
            await self._memory.wait()

    def take(self, request: Request) -> int:
        """Takes room for a request that was read, and returns its weight for `give_back`."""
        weight = self._weigh(request)
        self._hold(weight)
        return weight

    def give_back(self, weight: int) -> None:
        """Gives back the room of a request whose reply was taken."""
        self._hold(-weight)
        self._free.release()

    def close(self) -> None:
        """Gives back the bytes of all requests, when the stream is over."""
        self._hold(-self.held_bytes)

    def _hold(self, size_bytes: int) -> None:
        self.held_bytes += size_bytes
        self._memory.hold(size_bytes)


class Pipeline(Generic[Request, Reply]):
    """Works on several requests of one stream at a time.

    Args:
        requests: The requests of the stream.
        work: Answers one request and never raises.
        room: The room for requests in work.
        in_order: True for replies in the order of the requests, False for replies as they finish.
        max_idle_s: Time without a request, and with none in work, after which the stream is ended.
            It may last up to twice as long.
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
        """Stops reading. Requests that were read are still answered.

        It may be called before `replies` begins.
        """
        self._stopped = True
        if self._reader is not None:
            self._reader.cancel()

    async def replies(self) -> AsyncGenerator[Reply]:
        """Yields replies until all requests that were read are answered.

        Raises:
            Unavailable: Nothing came over the stream for too long.
            Exception: The exception that reading the stream raised, after the last reply.
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
                raise _silent_too_long(self._max_idle_s)
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
            # Room comes first, so that a request that was read is never given up.
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


class ForeignStreams:
    """Ends streams of handlers that are not ours, such as those of reflection.

    Such handlers have no limits of their own.

    Args:
        max_idle_s: Time without a reply after which such a stream is ended.
    """

    def __init__(self, *, max_idle_s: float) -> None:
        self._max_idle_s = max_idle_s
        self._silent: set[asyncio.Timeout] = set()
        self._draining = False

    async def attend(self, answers: AsyncGenerator[Reply]) -> AsyncGenerator[Reply]:
        """Passes on the replies of a handler.

        Raises:
            Unavailable: No reply came for too long, or the server drains.
        """
        async with contextlib.aclosing(answers) as replies:
            while True:
                try:
                    reply = await self._next(replies)
                except StopAsyncIteration:
                    return
                yield reply

    async def _next(self, replies: AsyncGenerator[Reply]) -> Reply:
        silence = asyncio.timeout(0 if self._draining else self._max_idle_s)
        self._silent.add(silence)
        try:
            async with silence:
                return await anext(replies)
        except TimeoutError:
            if silence.expired():
                raise self._reason() from None
            raise
        finally:
            self._silent.discard(silence)

    def drain(self) -> None:
        """Ends the streams that wait for a request now, and the others when they wait."""
        self._draining = True
        now_s = asyncio.get_running_loop().time()
        for silence in self._silent:
            silence.reschedule(now_s)

    def _reason(self) -> Unavailable:
        if self._draining:
            return Unavailable("the server is shutting down; try another")
        return _silent_too_long(self._max_idle_s)


def _silent_too_long(max_idle_s: float) -> Unavailable:
    return Unavailable(
        f"nothing came over this stream for {max_idle_s:g} s; "
        "open another when there is more to send",
        reason="STREAM_IDLE",
    )
