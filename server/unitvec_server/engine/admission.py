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
import math
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable
from typing import Self

from unitvec_server.errors import InvalidRequest, Overloaded

STREAM_SHARE = 0.5
"""Part of the bound that streams may fill: half keeps as much room for unary callers."""

LEAST_TEXT_TOKENS = 8
"""What a text counts at least, so that texts are bounded too: each costs memory beside its tokens,
some 2 KiB with a vector of 384 floats."""

_MIN_RETRY_S, _MAX_RETRY_S = 0.05, 30.0
_RATE_HALF_LIFE_TOKENS = 20_000
_LASTING_HALF_LIFE_TOKENS = 200_000


def count_tokens(lengths: Iterable[int]) -> int:
    """What texts of these lengths in tokens count in the queue."""
    return sum(max(length, LEAST_TEXT_TOKENS) for length in lengths)


def retry_delay_s(seconds: float) -> float:
    """A delay to tell a caller: neither at once nor a promise about the far future."""
    return min(max(seconds, _MIN_RETRY_S), _MAX_RETRY_S)


class Throughput:
    """Tokens per second as measured lately: averages that forget by work done."""

    def __init__(self) -> None:
        self.tokens_per_s = 0.0
        self._lasting_tokens_per_s = 0.0

    def record(self, *, tokens: int, busy_s: float, workers: int) -> None:
        """Notes a batch of `tokens` that took one of `workers` side-by-side workers `busy_s`."""
        rate = workers * tokens / max(busy_s, 1e-9)
        lately, lasting = tokens / _RATE_HALF_LIFE_TOKENS, tokens / _LASTING_HALF_LIFE_TOKENS
        self.tokens_per_s = _blend(self.tokens_per_s, rate, half_lives=lately)
        self._lasting_tokens_per_s = _blend(self._lasting_tokens_per_s, rate, half_lives=lasting)

    def seconds_for(self, tokens: float) -> float:
        """Time that `tokens` take; 0 while nothing was measured."""
        return tokens / self.tokens_per_s if self.tokens_per_s else 0.0

    def least_seconds_for(self, tokens: float) -> float:
        """Time that `tokens` take at the better of the rates of late and of a longer past.

        A few lone texts, which run slower than full batches, do not make it pessimistic.
        """
        return tokens / self.best_tokens_per_s

    @property
    def best_tokens_per_s(self) -> float:
        """The better of the rates of late and of a longer past; infinite before any."""
        return max(self.tokens_per_s, self._lasting_tokens_per_s) or math.inf


def _blend(average: float, rate: float, *, half_lives: float) -> float:
    weight = 0.5**half_lives if average else 0.0
    return weight * average + (1 - weight) * rate


class Ticket:
    """Permission to queue some tokens. Use as a context manager: leaving returns them."""

    def __init__(self, gate: TokenGate, tokens: int, *, flow: Hashable = None) -> None:
        self._gate = gate
        self._flow = flow
        self.tokens = tokens

    def settle(self, tokens: int) -> None:
        """Corrects an estimate to the true count."""
        self._gate.give_back(self.tokens - tokens, flow=self._flow)
        self.tokens = tokens

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.settle(0)


_Waiter = tuple[int, asyncio.Future[None]]
"""Tokens and turn of a stream's request that waits."""


class TokenGate:
    """Bounds the tokens that wait or run in the whole server. For one event loop.

    Args:
        max_queued_tokens: The bound.
        throughput: The measured rate, for telling callers when to try again.
    """

    def __init__(self, max_queued_tokens: int, throughput: Throughput) -> None:
        self._max_queued_tokens = max_queued_tokens
        self._max_stream_tokens = max(1, int(max_queued_tokens * STREAM_SHARE))
        self._throughput = throughput
        self._lines: OrderedDict[Hashable, deque[_Waiter]] = OrderedDict()
        self._held: dict[Hashable, int] = {}
        self._streams_need_room = False
        self.unary_tokens = 0
        self.stream_tokens = 0

    @property
    def max_queued_tokens(self) -> int:
        """The bound."""
        return self._max_queued_tokens

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
        self.check_size(tokens, self._max_queued_tokens)
        excess = self.queued_tokens + tokens - self._max_queued_tokens
        if self._streams_need_room:
            own = self._max_queued_tokens - self._max_stream_tokens
            excess = max(excess, self.unary_tokens + tokens - own)
        if excess > 0:
            raise self._overloaded(tokens, excess)
        self.unary_tokens += tokens
        return Ticket(self, tokens)

    async def admit_when_free(self, tokens: int, *, flow: Hashable) -> Ticket:
        """Lets a stream's request in as soon as there is room; streams take turns.

        Args:
            tokens: What it counts.
            flow: The stream, never None.

        Raises:
            InvalidRequest: There can never be room.
        """
        self.check_size(tokens, self._max_stream_tokens)
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
        self._wake()

    def _leave(self, flow: Hashable, waiter: _Waiter) -> None:
        """Gives up a place, in line or, if the turn had come, in the queue."""
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
        """Whether as much stays free for other streams as this one then holds."""
        held = self._held.get(flow, 0)
        return not held or held + tokens <= self._max_stream_tokens - self.stream_tokens - tokens

    def _stream_fits(self, tokens: int) -> bool:
        if self.stream_tokens + tokens > self._max_stream_tokens:
            return False
        self._streams_need_room = self.queued_tokens + tokens > self._max_queued_tokens
        return not self._streams_need_room

    def bound(self, *, waits: bool) -> int:
        """Most tokens of one request, of a stream (`waits`) or unary."""
        return self._max_stream_tokens if waits else self._max_queued_tokens

    def check_size(self, tokens: int, bound: int) -> None:
        """Holds a request against its bound.

        Raises:
            InvalidRequest: There can never be room for it.
        """
        if tokens > bound:
            raise InvalidRequest(
                f"the request has {tokens} tokens; this server queues at most {bound} of one call "
                f"(max_queued_tokens is {self._max_queued_tokens}, streams may fill half of it, "
                f"a text counts at least {LEAST_TEXT_TOKENS}); send fewer texts at a time",
                reason="TOO_MANY_TOKENS",
                field="texts",
            )

    def _overloaded(self, tokens: int, excess: int) -> Overloaded:
        delay_s = retry_delay_s(self._throughput.seconds_for(excess))
        return Overloaded(
            f"{self.queued_tokens} tokens are queued and the request adds up to {tokens}; the "
            f"bound max_queued_tokens is {self._max_queued_tokens}; try again in {delay_s:.2f} s",
            retry_delay_s=delay_s,
            bound="max_queued_tokens",
        )
