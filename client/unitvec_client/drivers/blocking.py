"""Driver of scripts over a blocking channel. See `steps` for what each step does."""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeVar

import grpc

from unitvec_client.connection import ConnectionOptions, open_channel
from unitvec_client.core.failures import Failure, failure_of_call
from unitvec_client.core.rpcs import Method
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

T = TypeVar("T")

# The longest wait in one piece, in seconds: a signal that comes right before a wait is seen only
# after it.
_INTERRUPTIBLE_S = 0.5

_CLOSED = "the client was closed during the call"


class Wire:
    """A channel that can be closed under the calls on it; it belongs to one process.

    Args:
        channel: Calls go here.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.process_id = os.getpid()
        self.closed = threading.Event()
        self.in_flight: set[_Driver] = set()
        self._callables: dict[Method, Any] = {}

    def callable(self, method: Method) -> Any:
        """Return grpc's callable of a unary method. Making one takes 5 % of a lone call."""
        found = self._callables.get(method)
        if found is None:
            make = self.channel.unary_unary
            found = make(method.path, method.serialize, method.deserialize)
            self._callables[method] = found
        return found

    def close(self) -> None:
        """Close the channel. Calls in flight end, and so do calls that wait to be sent again."""
        self.closed.set()
        self.channel.close()


class Link:
    """The channel of a client: opened at once, and anew in a process that was forked off.

    Args:
        target: Server to call, as gRPC takes it.
        connection: Options of the connection.
    """

    def __init__(self, target: str, connection: ConnectionOptions) -> None:
        self._target, self._connection = target, connection
        self._wire: Wire | None = Wire(open_channel(target, connection))
        self._inherited: list[Wire] = []

    def open(self) -> Wire:
        """Return the channel of this process.

        Raises:
            ClientClosedError: If the client is closed, or was forked with a call in flight.
        """
        wire = self._wire
        if wire is None:
            raise ClientClosedError("the client is closed")
        return wire if wire.process_id == os.getpid() else self._open_anew(wire)

    def _open_anew(self, wire: Wire) -> Wire:
        if wire.in_flight:
            raise ClientClosedError(
                "this process was forked while the client had a call in flight, which gRPC does "
                "not survive: fork before the call or after it, or start processes by 'spawn'"
            )
        # Even to destroy an inherited channel may hang: the threads that it waits for stayed
        # behind in the other process. So it is kept.
        self._inherited.append(wire)
        opened = self._wire = Wire(open_channel(self._target, self._connection))
        return opened

    def close(self) -> None:
        """Close it for good."""
        wire, self._wire = self._wire, None
        if wire is None:
            return
        if wire.process_id == os.getpid():
            wire.close()
        else:
            self._inherited.append(wire)


def run(wire: Wire, script: Script[T], source: Iterable[Any] = ()) -> T:
    """Run a script that emits nothing and return its result.

    Args:
        wire: Calls go here.
        script: It has not been started yet.
        source: Items that it may pull.
    """
    steps = iterate(wire, script, source)
    try:
        while True:
            next(steps)
    except StopIteration as stop:
        value: T = stop.value
        return value
    finally:
        steps.close()


def iterate(wire: Wire, script: Script[T], source: Iterable[Any] = ()) -> Generator[Any, None, T]:
    """Run a script and yield what it emits; a generator that returns the script's result.

    Args:
        wire: Calls go here.
        script: It has not been started yet.
        source: Items that it may pull, in the caller's thread.
    """
    driver = _Driver(wire, source)
    wire.in_flight.add(driver)
    try:
        result = None
        while True:
            try:
                step = script.send(result)
            except StopIteration as stop:
                value: T = stop.value
                return value
            if isinstance(step, Emit):
                yield step.item
                result = None
            else:
                result = driver.actions[type(step)](step)
    finally:
        script.close()
        driver.close()
        wire.in_flight.discard(driver)


class _Driver:
    """The calls in flight of one script, and what each step does to them."""

    def __init__(self, wire: Wire, source: Iterable[Any]) -> None:
        self._wire = wire
        self._source = source
        self._pulled: Iterator[Any] | None = None
        self._futures: dict[int, Any] = {}
        self._finished: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._stream: _Stream | None = None
        self.actions: dict[type, Callable[[Any], Any]] = {
            Invoke: self._invoke,
            Start: self._start,
            Collect: self._collect,
            Drop: lambda _: self._cancel(),
            Sleep: lambda step: self._sleep(step.delay_s),
            Open: self._open,
            Send: lambda step: self._opened.send(step.message),
            Finish: lambda _: self._opened.finish(),
            Receive: lambda _: self._opened.receive(),
            Poll: lambda _: self._opened.poll(),
            Pull: self._pull,
            Compute: lambda step: step.work(),
        }

    def close(self) -> None:
        """Cancel what is in flight."""
        if self._futures:
            self._cancel()
        if self._stream is not None:
            self._stream.close()

    @property
    def _opened(self) -> _Stream:
        if self._stream is None:
            raise AssertionError("a script used a stream before opening one; this is a bug")
        return self._stream

    def _invoke(self, step: Invoke) -> Any:
        # grpc's own blocking call needs no thread beside this one. Ctrl-C ends it within 0.2 s and
        # cancels it at the server.
        call = step.call
        try:
            send = self._wire.callable(call.method)
            return send(call.request, timeout=call.timeout_s, metadata=call.metadata)
        except ValueError as exc:  # What grpc raises for a closed channel.
            raise CallCancelledError(_CLOSED) from exc
        except grpc.RpcError as exc:
            if exc.code() is grpc.StatusCode.CANCELLED and self._wire.closed.is_set():
                return Failure(grpc.StatusCode.CANCELLED, _CLOSED, cause=exc)
            return failure_of_call(exc)

    def _begin(self, call: Call) -> Any:
        try:
            send = self._wire.callable(call.method)
            return send.future(call.request, timeout=call.timeout_s, metadata=call.metadata)
        except ValueError as exc:  # What grpc raises for a closed channel.
            raise CallCancelledError(_CLOSED) from exc

    def _start(self, step: Start) -> None:
        future = self._begin(step.call)
        self._futures[step.key] = future
        finished = self._finished
        future.add_done_callback(lambda done: finished.put((step.key, done)))

    def _collect(self, step: Collect) -> tuple[int, Any] | None:
        if not self._futures and step.timeout_s is not None:
            self._sleep(step.timeout_s)
            return None
        try:
            key, future = _take(self._finished, step.timeout_s)
        except queue.Empty:
            return None
        del self._futures[key]
        return key, _outcome(future)

    def _cancel(self) -> None:
        for future in self._futures.values():
            future.cancel()
        self._futures.clear()
        self._finished = queue.SimpleQueue()

    def _sleep(self, delay_s: float) -> None:
        """Wait, so that Ctrl-C and closing the client end the wait."""
        end_s = time.monotonic() + delay_s
        while (left_s := end_s - time.monotonic()) > 0:
            if self._wire.closed.wait(min(left_s, _INTERRUPTIBLE_S)):
                raise CallCancelledError(_CLOSED)

    def _open(self, step: Open) -> None:
        if self._stream is not None:
            self._stream.close()
        try:
            self._stream = _Stream(self._wire.channel, step.call)
        except ValueError as exc:  # What grpc raises for a closed channel.
            raise CallCancelledError(_CLOSED) from exc

    def _pull(self, _: Pull) -> Any:
        if self._pulled is None:
            self._pulled = iter(self._source)
        return next(self._pulled, END)


def _take(items: queue.SimpleQueue[Any], timeout_s: float | None = None) -> Any:
    """Take the next item, so that Ctrl-C ends the wait.

    Raises:
        queue.Empty: None came in time.
    """
    deadline_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
    while True:
        remaining_s = deadline_s - time.monotonic()
        try:
            return items.get(timeout=max(0.0, min(remaining_s, _INTERRUPTIBLE_S)))
        except queue.Empty:
            if remaining_s <= _INTERRUPTIBLE_S:
                raise


def _outcome(future: Any) -> Any:
    try:
        return future.result()
    except grpc.RpcError as exc:
        return failure_of_call(exc)
    except grpc.FutureCancelledError as exc:  # The channel was closed under it.
        return Failure(grpc.StatusCode.CANCELLED, _CLOSED, cause=exc)


class _Stream:
    """One bidirectional stream. grpc reads its requests in a thread, from a queue.

    Replies are read in a thread too: grpc has no other way to ask for one without waiting.
    The policy bounds what is queued either way. The end marker and the end of the call free
    these threads, so that they never outlive the stream.
    """

    def __init__(self, channel: grpc.Channel, call: Call) -> None:
        self._outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        method = call.method
        multicallable = channel.stream_stream(method.path, method.serialize, method.deserialize)
        requests = iter(self._outbox.get, END)
        self._call = multicallable(requests, timeout=call.timeout_s, metadata=call.metadata)
        threading.Thread(target=self._read, name="unitvec-replies", daemon=True).start()

    def _read(self) -> None:
        try:
            for message in self._call:
                self._inbox.put(message)
        except grpc.RpcError as exc:
            self._inbox.put(failure_of_call(exc))
        else:
            self._inbox.put(END)

    def send(self, message: Any) -> None:
        self._outbox.put(message)

    def finish(self) -> None:
        self._outbox.put(END)

    def receive(self) -> Any:
        return _take(self._inbox)

    def poll(self) -> Any:
        return None if self._inbox.empty() else self._inbox.get()

    def close(self) -> None:
        self._call.cancel()
        self._outbox.put(END)
