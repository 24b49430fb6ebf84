"""Driver of scripts over an asyncio channel. See `steps` for what each step does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
)
from dataclasses import replace
from typing import Any, TypeVar

import grpc

from unitvec_client.connection import ConnectionOptions, open_aio_channel
from unitvec_client.core.failures import Failure, failure_of_call
from unitvec_client.core.steps import (
    END,
    Call,
    Collect,
    Compute,
    Drop,
    Emit,
    Finish,
    Invoke,
    Open,
    Poll,
    Pull,
    Receive,
    Script,
    Send,
    Sleep,
    Start,
)
from unitvec_client.errors import CallCancelledError, ClientClosedError

# A source that never awaits may keep the event loop to itself for this long, in seconds. A turn
# of the loop costs about as much as reading one text, so that not every text is given one.
_TURN_S = 0.001
# The details that grpc.aio gives a failed write.
_WRITE_FAILED = "Internal error from Core"

T = TypeVar("T")
Source = Iterable[Any] | AsyncIterable[Any]


_CLOSED = "the client was closed during the call"


class Wire:
    """A channel that can be closed under the calls on it; it belongs to one event loop.

    Args:
        channel: Calls go here. It was opened in the running loop.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.process_id = os.getpid()
        self.loop = asyncio.get_running_loop()
        self.closed = asyncio.Event()

    async def close(self) -> None:
        """Close the channel. Calls in flight end, and so do calls that wait to be sent again."""
        self.closed.set()
        await self.channel.close()


class Link:
    """The channel of a client: opened at its first call, in the event loop of that call.

    Args:
        target: Server to call, as gRPC takes it.
        connection: Options of the connection.

    Attributes:
        is_closed: Whether it was closed for good.
    """

    def __init__(self, target: str, connection: ConnectionOptions) -> None:
        self._target, self._connection = target, connection
        self._wire: Wire | None = None
        self._inherited: list[Wire] = []
        self.is_closed = False

    def check_open(self) -> None:
        """Refuse to go on where the client is closed.

        Raises:
            ClientClosedError: If it is.
        """
        if self.is_closed:
            raise ClientClosedError("the client is closed")

    def open(self) -> Wire:
        """Return the channel.

        Raises:
            ClientClosedError: If the client is closed, or is of another event loop or process.
        """
        self.check_open()
        wire = self._wire
        if wire is None:
            wire = self._wire = Wire(open_aio_channel(self._target, self._connection))
        elif not _is_of_here(wire):
            raise ClientClosedError(
                "this AsyncClient belongs to another event loop or process, in which it made its "
                "first call: open one in each"
            )
        return wire

    async def close(self) -> None:
        """Close it for good."""
        self.is_closed = True
        wire, self._wire = self._wire, None
        if wire is None:
            return
        if _is_of_here(wire):
            await wire.close()
        else:
            self._inherited.append(wire)


def _is_of_here(wire: Wire) -> bool:
    return wire.loop is asyncio.get_running_loop() and wire.process_id == os.getpid()


async def run(wire: Wire, script: Script[T], source: Source = ()) -> T:
    """Run a script that emits nothing and return its result.

    Args:
        wire: Calls go here.
        script: It has not been started yet.
        source: Items that it may pull.
    """
    driver = _Driver(wire, source)
    try:
        result = None
        while True:
            try:
                step = script.send(result)
            except StopIteration as stop:
                value: T = stop.value
                return value
            result = await driver.actions[type(step)](step)
    finally:
        script.close()
        await driver.close()


async def iterate(
    wire: Wire, script: Script[None], source: Source = ()
) -> AsyncGenerator[Any, None]:
    """Run a script and yield what it emits.

    Args:
        wire: Calls go here.
        script: It has not been started yet.
        source: Items that it may pull.
    """
    driver = _Driver(wire, source)
    try:
        result = None
        while True:
            try:
                step = script.send(result)
            except StopIteration:
                return
            if isinstance(step, Emit):
                yield step.item
                result = None
            else:
                result = await driver.actions[type(step)](step)
    finally:
        script.close()
        await driver.close()


class _Driver:
    """The calls in flight of one script, and what each step does to them."""

    def __init__(self, wire: Wire, source: Source) -> None:
        self._wire = wire
        self._source = source
        self._pulled: Iterator[Any] | AsyncIterator[Any] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._finished: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()
        self._stream: _Stream | None = None
        self._turned_s = 0.0
        self.actions: dict[type, Callable[[Any], Awaitable[Any]]] = {
            Invoke: self._invoke,
            Start: self._start,
            Collect: self._collect,
            Drop: self._drop,
            Sleep: self._sleep,
            Open: self._open,
            Send: self._send,
            Finish: self._finish,
            Receive: self._receive,
            Poll: self._poll,
            Pull: self._pull,
            Compute: lambda step: asyncio.to_thread(step.work),
        }

    async def close(self) -> None:
        """Cancel what is in flight."""
        if self._tasks:
            await _cancel(self._tasks)
        if self._stream is not None:
            await self._stream.close()

    async def _invoke(self, step: Invoke) -> Any:
        return await _unary(self._wire.channel, step.call)

    async def _start(self, step: Start) -> None:
        task = asyncio.create_task(self._finish_call(step))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish_call(self, step: Start) -> None:
        outcome = await _unary(self._wire.channel, step.call)
        # It counts as finished before its outcome is taken, which may be before it has returned.
        self._tasks.discard(asyncio.current_task())
        self._finished.put_nowait((step.key, outcome))

    async def _collect(self, step: Collect) -> tuple[int, Any] | None:
        if not self._tasks and self._finished.empty() and step.timeout_s is not None:
            await self._wait(step.timeout_s)
            return None
        try:
            async with asyncio.timeout(step.timeout_s):
                return await self._finished.get()
        except TimeoutError:
            return None

    async def _drop(self, _: Drop) -> None:
        await _cancel(self._tasks)
        self._finished = asyncio.Queue()

    async def _sleep(self, step: Sleep) -> None:
        await self._wait(step.delay_s)

    async def _wait(self, delay_s: float) -> None:
        """Wait, so that closing the client ends the wait."""
        try:
            async with asyncio.timeout(delay_s):
                await self._wire.closed.wait()
        except TimeoutError:
            return
        raise CallCancelledError(_CLOSED)

    async def _open(self, step: Open) -> None:
        if self._stream is not None:
            await self._stream.close()
        try:
            self._stream = _Stream(self._wire.channel, step.call)
        except grpc.aio.UsageError as exc:  # What grpc raises for a closed channel.
            raise CallCancelledError(_CLOSED) from exc

    @property
    def _opened(self) -> _Stream:
        if self._stream is None:
            raise AssertionError("a script used a stream before opening one; this is a bug")
        return self._stream

    async def _send(self, step: Send) -> None:
        self._opened.outbox.put_nowait(step.message)

    async def _finish(self, _: Finish) -> None:
        self._opened.outbox.put_nowait(END)

    async def _receive(self, _: Receive) -> Any:
        return await self._opened.receive()

    async def _poll(self, _: Poll) -> Any:
        now_s = time.monotonic()
        if now_s - self._turned_s >= _TURN_S:
            self._turned_s = now_s
            await asyncio.sleep(0)
        return self._opened.poll()

    async def _pull(self, _: Pull) -> Any:
        if self._pulled is None:
            is_async = isinstance(self._source, AsyncIterable)
            self._pulled = aiter(self._source) if is_async else iter(self._source)  # type: ignore[arg-type]
        if isinstance(self._pulled, AsyncIterator):
            return await anext(self._pulled, END)
        return next(self._pulled, END)


class _Stream:
    """One bidirectional stream, written by a task of its own from a queue.

    Writing apart keeps a full connection from blocking the reading that would empty it. The
    policy bounds what is queued.
    """

    def __init__(self, channel: grpc.aio.Channel, call: Call) -> None:
        self.outbox: asyncio.Queue[Any] = asyncio.Queue()
        method = call.method
        multicallable = channel.stream_stream(method.path, method.serialize, method.deserialize)
        self._call = multicallable(timeout=call.timeout_s, metadata=call.metadata)
        self._writer = asyncio.create_task(self._write())
        self._reading: asyncio.Task[Any] | None = None

    async def _write(self) -> None:
        # Where the call has ended, the reader learns why, and writing just stops.
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            while (message := await self.outbox.get()) is not END:
                await self._call.write(message)
            await self._call.done_writing()

    async def receive(self) -> Any:
        if self._reading is None:
            return await self._read()
        reading, self._reading = self._reading, None
        return await reading

    def poll(self) -> Any:
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        if not self._reading.done():
            return None
        reading, self._reading = self._reading, None
        return reading.result()

    async def _read(self) -> Any:
        message = await _outcome(self._call.read())
        if isinstance(message, Failure) and _lost_its_status(message):
            return replace(
                message,
                code=grpc.StatusCode.UNAVAILABLE,
                message="the stream broke",
                status_lost=True,
            )
        return END if message is grpc.aio.EOF else message

    async def close(self) -> None:
        self._call.cancel()
        await _cancel([self._writer, self._reading] if self._reading else [self._writer])


def _lost_its_status(failure: Failure) -> bool:
    """Return whether grpc.aio put its own INTERNAL in place of the server's status.

    It does where a write meets a stream that the server has just ended. What was sent is
    answered or not; that it may be sent again is all that is left to know.
    """
    return (
        failure.code is grpc.StatusCode.INTERNAL
        and failure.error is None
        and failure.message == _WRITE_FAILED
    )


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for their end, so that none outlives its call."""
    pending = list(tasks)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)


async def _unary(channel: grpc.aio.Channel, call: Call) -> Any:
    method = call.method
    try:
        send = channel.unary_unary(method.path, method.serialize, method.deserialize)
        reply = send(call.request, timeout=call.timeout_s, metadata=call.metadata)
    except grpc.aio.UsageError as exc:  # What grpc raises for a closed channel.
        return Failure(grpc.StatusCode.CANCELLED, _CLOSED, cause=exc)
    return await _outcome(reply)


async def _outcome(reply: Awaitable[Any]) -> Any:
    try:
        return await reply
    except grpc.RpcError as exc:
        return failure_of_call(exc)
    except asyncio.CancelledError as exc:
        # grpc raises this also where the channel was closed under the call. It goes on only where
        # the task itself was cancelled.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return Failure(grpc.StatusCode.CANCELLED, _CLOSED, cause=exc)
