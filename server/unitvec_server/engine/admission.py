"""Who may queue work: tokens are counted, not calls.

Unary requests beyond the bound are shed at once; streams wait, which stops the reading of
their input and so pushes back through flow control. Neither can take what the other needs:

- Streams fill at most half of the bound, whatever waits.
- Unary requests may fill all of it while no stream waits for that room, and half of it when one
  does. What they borrowed comes back as they finish, so streams are slowed and never starved.
- A stream that already holds room takes more only where at least as much stays free (a dynamic
  threshold; Choudhury and Hahne, IEEE/ACM Transactions on Networking 1998). So one stream holds at
  most half of the streams' room, and another one that comes always finds some.
- Streams that wait take turns, each with its requests in order.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable
from typing import Self

from unitvec_server.errors import InvalidRequest, Overloaded
from unitvec_server.policy.deadlines import retry_delay_s

STREAM_PART = 0.5
"""Part of the bound that streams may fill: half keeps as much room for unary callers."""

LEAST_TEXT_TOKENS = 8
"""Least number of tokens that a text counts, so that texts are bounded too: each costs memory
beside its tokens, some 2 KiB with a vector of 384 floats."""


def count_tokens(lengths: Iterable[int]) -> int:
    """What texts of these lengths in tokens count against the bound."""
    return sum([max(length, LEAST_TEXT_TOKENS) for length in lengths])


class Ticket:
    """Permission to queue some tokens. Use as a context manager: leaving returns them.

    Attributes:
        tokens: Number of tokens that it stands for.
    """

    def __init__(self, gate: TokenGate, tokens: int, *, flow: Hashable = None) -> None:
        self._gate = gate
        self._flow = flow
        self.tokens = tokens

    def correct(self, tokens: int) -> None:
        """Replaces an estimate by the true count.

        Raises:
            InvalidRequest: There can never be room for so many.
        """
        self._gate.check_size(tokens, waits=self._flow is not None)
        self._gate.give_back(self.tokens - tokens, flow=self._flow)
        self.tokens = tokens

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._gate.give_back(self.tokens, flow=self._flow)


_Waiter = tuple[int, asyncio.Future[None]]
"""A request of a stream that waits: its tokens, and a future that is set once it is let in."""


class TokenGate:
    """Bounds the tokens that wait or run in the whole server. For one event loop.

    Args:
        max_queued_tokens: The bound.
        seconds_for: Time that so many tokens take, for telling callers when to try again.

    Attributes:
        max_queued_tokens: The bound.
        unary_tokens: Number of tokens of unary requests that wait or run.
        stream_tokens: Number of tokens of streams that wait or run.
    """

    def __init__(self, max_queued_tokens: int, seconds_for: Callable[[float], float]) -> None:
        self.max_queued_tokens = max_queued_tokens
        self._max_stream_tokens = max(1, int(max_queued_tokens * STREAM_PART))
        self._seconds_for = seconds_for
        self._lines: OrderedDict[Hashable, deque[_Waiter]] = OrderedDict()
        self._held: dict[Hashable, int] = {}
        self._streams_need_room = False
        self.unary_tokens = 0
        self.stream_tokens = 0

    @property
    def waiting_streams(self) -> int:
        """Streams whose next request waits for room. Callable from any thread."""
        return len(self._lines)

    @property
    def queued_tokens(self) -> int:
        """Tokens of all that wait or run."""
        return self.unary_tokens + self.stream_tokens

    def admit(self, tokens: int) -> Ticket:
        """Lets a unary request in.

        Raises:
            Overloaded: There is no room now.
            InvalidRequest: There can never be.
        """
        excess = self.unary_tokens + self.stream_tokens + tokens - self.max_queued_tokens
        if self._streams_need_room:
            own = self.max_queued_tokens - self._max_stream_tokens
            excess = max(excess, self.unary_tokens + tokens - own)
        if excess > 0:
            self.check_size(tokens, waits=False)
            raise self._overloaded(tokens, excess)
        self.unary_tokens += tokens
        return Ticket(self, tokens)

    async def admit_when_free(self, tokens: int, *, flow: Hashable) -> Ticket:
        """Lets a stream's request in as soon as there is room; streams take turns.

        Args:
            tokens: Number of tokens that it counts.
            flow: The stream, never None.

        Raises:
            InvalidRequest: There can never be room.
        """
        self.check_size(tokens, waits=True)
        waiter = (tokens, asyncio.get_running_loop().create_future())
        self._lines.setdefault(flow, deque()).append(waiter)
        self._wake()
        try:
            await waiter[1]
        except asyncio.CancelledError:
            self._leave(flow, waiter)
            raise
        return Ticket(self, tokens, flow=flow)

    def give_back(self, tokens: int, *, flow: Hashable = None) -> None:
        """Returns tokens, of a stream if one is named, and lets waiting streams in."""
        if flow is None:
            self.unary_tokens -= tokens
        else:
            self._hold(flow, -tokens)
        if self._lines:
            self._wake()

    def _leave(self, flow: Hashable, waiter: _Waiter) -> None:
        """Gives up a stream's place in line or, if it has been let in, its tokens."""
        if waiter[1].cancelled():
            line = self._lines.get(flow, deque())
            with contextlib.suppress(ValueError):
                line.remove(waiter)
            if not line:
                self._lines.pop(flow, None)
            self._wake()
        else:
            self.give_back(waiter[0], flow=flow)

    def _hold(self, flow: Hashable, tokens: int) -> None:
        self.stream_tokens += tokens
        held = self._held.get(flow, 0) + tokens
        if held:
            self._held[flow] = held
        else:
            self._held.pop(flow, None)

    def _wake(self) -> None:
        """Lets streams in, in turn, until the next one does not fit."""
        self._streams_need_room = False
        while self._lines and self._let_one_in():
            pass

    def _let_one_in(self) -> bool:
        for flow, line in list(self._lines.items()):
            while line and line[0][1].cancelled():
                line.popleft()
            if not line:
                del self._lines[flow]
                continue
            tokens, turn = line[0]
            if not self._is_fair(flow, tokens):
                continue  # it waits for itself and is in nobody's way
            if not self._stream_fits(tokens):
                return False
            line.popleft()
            self._lines.move_to_end(flow)
            self._hold(flow, tokens)
            turn.set_result(None)
            return True
        return False

    def _is_fair(self, flow: Hashable, tokens: int) -> bool:
        """Whether other streams keep as much room free as this one would then hold."""
        held = self._held.get(flow, 0)
        return not held or held + tokens <= self._max_stream_tokens - self.stream_tokens - tokens

    def _stream_fits(self, tokens: int) -> bool:
        if self.stream_tokens + tokens > self._max_stream_tokens:
            return False
        self._streams_need_room = self.queued_tokens + tokens > self.max_queued_tokens
        return not self._streams_need_room

    def bound(self, *, waits: bool) -> int:
        """Most tokens of one request, of a stream (`waits`) or unary."""
        return self._max_stream_tokens if waits else self.max_queued_tokens

    def check_size(self, tokens: int, *, waits: bool) -> None:
        """Holds a request against its bound.

        Raises:
            InvalidRequest: There can never be room for it.
        """
        bound = self.bound(waits=waits)
        if tokens > bound:
            raise InvalidRequest(
                f"the request has {tokens} tokens; this server queues at most {bound} of one call "
                f"(max_queued_tokens is {self.max_queued_tokens}, streams may fill half of it, "
                f"a text counts at least {LEAST_TEXT_TOKENS}); send fewer texts at a time",
                reason="TOO_MANY_TOKENS",
                field="texts",
            )

    def _overloaded(self, tokens: int, excess: int) -> Overloaded:
        delay_s = retry_delay_s(self._seconds_for(excess))
        return Overloaded(
            f"{self.queued_tokens} tokens are queued and the request adds up to {tokens}; the "
            f"bound max_queued_tokens is {self.max_queued_tokens}; try again in {delay_s:.2f} s",
            retry_delay_s=delay_s,
            bound="max_queued_tokens",
        )
