"""Who may queue work: tokens are counted, not calls.

Unary requests beyond the bound are shed at once; streams wait, which stops the reading of
their input and so pushes back through flow control. Streams may fill only part of the bound,
so that they can never take what unary callers need.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Self

from unitvec_server.errors import InvalidRequest, Overloaded

STREAM_SHARE = 0.5
"""Part of the bound that streams may fill: half keeps as much room for unary callers."""

_MIN_RETRY_S, _MAX_RETRY_S = 0.05, 30.0
_RATE_HALF_LIFE_TOKENS = 20_000


class Throughput:
    """Tokens per second as measured lately: an average that forgets by work done."""

    def __init__(self) -> None:
        self.tokens_per_s = 0.0

    def record(self, *, tokens: int, busy_s: float, workers: int) -> None:
        """Notes a batch of `tokens` that took one of `workers` side-by-side workers `busy_s`."""
        rate = workers * tokens / max(busy_s, 1e-9)
        weight = 0.5 ** (tokens / _RATE_HALF_LIFE_TOKENS) if self.tokens_per_s else 0.0
        self.tokens_per_s = weight * self.tokens_per_s + (1 - weight) * rate

    def seconds_for(self, tokens: int) -> float:
        """Time that `tokens` take; 0 while nothing was measured."""
        return tokens / self.tokens_per_s if self.tokens_per_s else 0.0


class Ticket:
    """Permission to queue some tokens. Use as a context manager: leaving returns them."""

    def __init__(self, gate: TokenGate, tokens: int) -> None:
        self._gate = gate
        self.tokens = tokens

    def settle(self, tokens: int) -> None:
        """Corrects an estimate to the true count."""
        self._gate.give_back(self.tokens - tokens)
        self.tokens = tokens

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.settle(0)


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
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.queued_tokens = 0

    def admit(self, tokens: int) -> Ticket:
        """Lets a unary request in.

        Raises:
            Overloaded: There is no room now.
            InvalidRequest: There can never be.
        """
        self.check_size(tokens, self._max_queued_tokens)
        if self.queued_tokens + tokens > self._max_queued_tokens:
            raise self._overloaded(tokens)
        self.queued_tokens += tokens
        return Ticket(self, tokens)

    async def admit_when_free(self, tokens: int) -> Ticket:
        """Lets a stream's request in as soon as there is room, first come first served.

        Raises:
            InvalidRequest: There can never be room.
        """
        self.check_size(tokens, self._max_stream_tokens)
        if self._waiters or not self._stream_fits(tokens):
            turn = asyncio.get_running_loop().create_future()
            waiter = (tokens, turn)
            self._waiters.append(waiter)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():
                    self.give_back(tokens)
                elif waiter in self._waiters:
                    self._waiters.remove(waiter)
                    self._wake()
                raise
        else:
            self.queued_tokens += tokens
        return Ticket(self, tokens)

    def give_back(self, tokens: int) -> None:
        """Returns tokens and lets waiting streams in."""
        self.queued_tokens -= tokens
        self._wake()

    def _wake(self) -> None:
        while self._waiters:
            tokens, turn = self._waiters[0]
            # A cancelled stream stands in line until its task has run.
            if not (turn.cancelled() or self._stream_fits(tokens)):
                return
            self._waiters.popleft()
            if not turn.cancelled():
                self.queued_tokens += tokens
                turn.set_result(None)

    def _stream_fits(self, tokens: int) -> bool:
        return self.queued_tokens + tokens <= self._max_stream_tokens

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
                f"(max_queued_tokens is {self._max_queued_tokens}, streams may fill half of it); "
                "send fewer texts at a time",
                reason="TOO_MANY_TOKENS",
                field="texts",
            )

    def _overloaded(self, tokens: int) -> Overloaded:
        excess = self.queued_tokens + tokens - self._max_queued_tokens
        delay_s = min(max(self._throughput.seconds_for(excess), _MIN_RETRY_S), _MAX_RETRY_S)
        return Overloaded(
            f"{self.queued_tokens} tokens are queued and the request adds up to {tokens}; the "
            f"bound max_queued_tokens is {self._max_queued_tokens}; try again in {delay_s:.2f} s",
            retry_delay_s=delay_s,
        )
