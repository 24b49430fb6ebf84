"""What calls may hold beside their place in the queue: their number, and their messages' bytes."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import grpc

from unitvec_server.errors import Overloaded

Context = grpc.aio.ServicerContext[Any, Any]

_RETRY_S = 1.0


class Gate:
    """Counts calls in work and refuses those beyond a bound.

    Args:
        limit: What is at its limit, for the caller.
        most: The bound.
    """

    def __init__(self, limit: str, most: float) -> None:
        self.count = 0
        self._limit, self._most = limit, most

    @contextlib.contextmanager
    def enter(self) -> Iterator[None]:
        """Counts a call while it is in work.

        Raises:
            Overloaded: The bound is reached.
        """
        if self.count >= self._most:
            raise Overloaded(
                f"{self.count} {self._limit}; try again soon",
                retry_delay_s=_RETRY_S,
                bound="max_calls",
            )
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1


class UnaryMessages:
    """Bytes of the messages of unary calls, until their clients have taken the whole reply.

    A client that reads slowly, or not at all, thus holds what it asked for against the bound.

    Args:
        most_bytes: The bound.
    """

    def __init__(self, most_bytes: int) -> None:
        self.held_bytes = 0
        self._most_bytes = most_bytes

    def admit(self, size_bytes: int, context: Context) -> None:
        """Lets a request in, as there is room; one alone always gets in.

        Raises:
            Overloaded: There is none.
        """
        if self.held_bytes and self.held_bytes + size_bytes > self._most_bytes:
            raise Overloaded(
                f"calls in work hold {self.held_bytes} bytes in messages and this one has "
                f"{size_bytes}; the limit is {self._most_bytes}; try again soon",
                retry_delay_s=_RETRY_S,
                bound="messages",
            )
        self.hold(size_bytes, context)

    def hold(self, size_bytes: int, context: Context) -> None:
        """Counts a message until its call is over."""
        self.held_bytes += size_bytes
        release: Any = functools.partial(self._release, size_bytes)
        context.add_done_callback(release)

    def _release(self, size_bytes: int, _: object) -> None:
        self.held_bytes -= size_bytes
