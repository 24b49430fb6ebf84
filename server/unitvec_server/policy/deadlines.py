"""Can it be done in time? Pure policy: no clock, thread, queue or I/O here.

The question is asked three times, each time by the class `Deadlines`:

1. **At the door**: could the request be done in time if nothing were ahead of it? If not, it is
   refused as DEADLINE_TOO_SHORT (`check`).
2. **In the queue**: with what waits, will its turn come early enough? If not, it is refused as
   OVERLOADED, with a delay after which it would have been accepted (`check`, and `check_estimate`
   for texts that are not split into tokens yet).
3. **At its turn**: can what is left of it still be done? If not, it is handed back as expired, so
   that the time goes to a request that can be done (`is_late`).

All three answers rest on one record of how fast the runs of the model have been (`RunSpeed`) and
on one forecast of the work that will arrive and go first (`Forecast`).

**A worked case.** Two workers together run 8,000 tokens a second, a batch has at most 256 tokens,
and 40 requests of 16 texts with 320 tokens each wait: 12,800 tokens, all of them ahead of another
request of that size. It must allow for the run under way, 256 tokens on one of two workers: 0.064
s. It must allow twice the best time for what is ahead: 3.2 s. And its own texts need 0.04 s, by the
margin of 1.5: 0.06 s. That is 3.324 s. With a deadline in 2 s it is refused at once and told to try
again in 1.32 s; with a deadline in 4 s it waits. If half of the work of late arrived in smaller
requests, which will go first again, it must allow twice as much for what is ahead and for itself.
Once its turn comes it is begun if 0.064 s are left, which is the longer of one run and its 0.06 s.

**The weak spot** is the speed itself. It is the better of two averages, so that a few lone texts do
not make the server refuse what it could do. A machine that has just become slower, and stays so, is
therefore trusted for some seconds longer than it deserves, and requests that were accepted
meanwhile expire. `tests/server/test_overload_policy.py` measures how many, on a machine whose speed
drops by half and comes back within each second.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Sequence
from typing import Protocol

from unitvec_server.errors import DeadlineExpired, Overloaded

_LATELY_TOKENS = 20_000
"""Work after which a run counts half in the speed of late: two or three seconds on two cores."""

_LASTING_TOKENS = 200_000
"""The same for the speed of a longer past: about half a minute."""

_OWN_PART = 0.5
"""Part of the measured time that a request's own texts are held to take where nothing is ahead of
them. Full batches are a third to a half faster than the lone texts that perhaps were measured."""

BEGIN_MARGIN = 1.5
"""How many times the best time of its work a request must have left, to be begun: what is begun
should be finished. On a machine that drifts by half within a second, at five times the load of
calls of 64 texts, 8 % of the accepted calls were late with 1.0 and 3 % with 1.5; 2.0 was no
better."""

_WAIT_MARGIN = 2.0
"""How many times the best time of the work ahead a newcomer must have left. Padding takes time too,
machines drift, and what comes a moment too late was done in vain. At five times the load of calls
of 16 texts, 24 % of the accepted calls were late with 1.0, 3 % with 1.5 and 0.1 % with 2.0; on a
machine that drifts by half within a second 42 %, 26 % and 9 %. With 3.0 hardly any were late even
there, but at a load that the machine can just bear, goodput of calls of 64 texts fell from 0.86 to
0.83, since more of them were refused."""

_NEAR_PART = 0.25
"""Part of the work that could be done until the first deadline, from which a batch is chosen. On a
machine whose speed drops by half and comes back within a second, at five times the load of calls of
64 texts, goodput is 0.92 of what is possible and 3 % of the accepted calls are late; if a batch is
chosen from all that waits, it is 0.82 and 16 %. On a machine of steady speed it costs 1 to 2 %."""

_FORECAST_BATCHES = 32
"""Batches after which a request that arrived counts half in the forecast: a second or two on two
cores."""

_FIRST_BATCHES = 4
"""Batches that count as run before the first request arrived, so that a few do not decide alone."""

_MOST_OVERTAKING = 0.8
"""Largest part of the machine that later requests are expected to take. A forecast near 1 would
refuse everything that is not small, and it is only a forecast. Without any, 13 to 18 % of the
accepted calls of 1 to 32 texts were late under overload; with it, at most 0.3 %."""

_MIN_RETRY_S, _MAX_RETRY_S = 0.05, 30.0


def retry_delay_s(seconds: float) -> float:
    """A delay to tell a caller: neither at once nor a promise about the far future."""
    return min(max(seconds, _MIN_RETRY_S), _MAX_RETRY_S)


class RunSpeed:
    """How fast the runs of one model have been, while they had the machine to themselves.

    Both averages forget by work done, not by time: an idle server knows its speed.

    Args:
        workers: Number of workers that run side by side.

    Attributes:
        tokens_per_s: Speed of late, of all workers together; 0 while nothing was measured.
        best_tokens_per_s: Better one of the speeds of late and of a longer past; infinite while
            nothing was measured.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.tokens_per_s = 0.0
        self.best_tokens_per_s = math.inf
        self._lasting_tokens_per_s = 0.0

    def record(self, *, tokens: int, busy_s: float) -> None:
        """Notes a run of `tokens` tokens that took one worker `busy_s` seconds."""
        run_tokens_per_s = self.workers * tokens / max(busy_s, 1e-9)
        lately = 0.5 ** (tokens / _LATELY_TOKENS) if self.tokens_per_s else 0.0
        lasting = 0.5 ** (tokens / _LASTING_TOKENS) if self.tokens_per_s else 0.0
        self.tokens_per_s = lately * self.tokens_per_s + (1 - lately) * run_tokens_per_s
        self._lasting_tokens_per_s = (
            lasting * self._lasting_tokens_per_s + (1 - lasting) * run_tokens_per_s
        )
        self.best_tokens_per_s = max(self.tokens_per_s, self._lasting_tokens_per_s)

    def seconds_for(self, tokens: float) -> float:
        """Time that all workers take for `tokens` at the speed of late; 0 while it is unknown."""
        return tokens / self.tokens_per_s if self.tokens_per_s else 0.0


@dataclasses.dataclass(frozen=True)
class WarmRun:
    """The longest run before the first caller, from which longer ones are foreseen.

    Attributes:
        length: Tokens of each of its texts.
        s_per_token: Time that each of its tokens took, in seconds.
    """

    length: int
    s_per_token: float

    def most_s(self, tokens: int) -> float:
        """Time that a run may take: attention compares each token with all others of its text."""
        return self.s_per_token * tokens * max(1.0, tokens / self.length)


NO_WARM_RUN = WarmRun(1, 0.0)
"""That of a model that has not run."""


class Forecast:
    """Which part of the machine goes to requests that arrive later, are smaller and so go first.

    It is measured by work, not by a clock: tokens that arrived for each token that ran meanwhile.

    Args:
        batch_tokens: Number of tokens of a full batch.
    """

    def __init__(self, batch_tokens: int) -> None:
        self._batch_tokens = batch_tokens
        self.clear()

    def clear(self) -> None:
        """Expects nothing."""
        self._run_tokens: float = _FIRST_BATCHES * self._batch_tokens
        self._arrived_tokens: dict[int, float] = {}  # by the power of two of the request's tokens

    def note_arrival(self, tokens: int) -> None:
        """Notes a request of so many tokens."""
        size = tokens.bit_length()
        self._arrived_tokens[size] = self._arrived_tokens.get(size, 0.0) + tokens

    def note_batch(self, tokens: int) -> None:
        """Notes a batch of so many tokens, and forgets by it."""
        kept = 0.5 ** (tokens / (_FORECAST_BATCHES * self._batch_tokens))
        self._run_tokens = kept * self._run_tokens + tokens
        for size in self._arrived_tokens:
            self._arrived_tokens[size] *= kept

    def overtaking(self, tokens: int) -> float:
        """Part of the machine that will go to requests smaller than one of so many tokens."""
        size = tokens.bit_length()
        smaller = sum(arrived for other, arrived in self._arrived_tokens.items() if other < size)
        return min(_MOST_OVERTAKING, smaller / self._run_tokens)


class Queue(Protocol):
    """The texts that wait, as a newcomer sees them."""

    @property
    def waiting_tokens(self) -> int:
        """Tokens of all texts that wait."""

    def tokens_before(self, lengths: Sequence[int], *, flow: Hashable) -> int:
        """Waiting tokens whose turn comes before the newcomer's last text."""

    def most_tokens_before(self, tokens: int, *, flow: Hashable) -> float:
        """Tokens that fair sharing would give to others before the newcomer is done."""


class Deadlines:
    """Decides for one model what can be done in time. Not thread-safe.

    Args:
        speed: Record of the model's runs, which goes on being written.
        max_batch_tokens: Most tokens in one run.
    """

    def __init__(self, speed: RunSpeed, max_batch_tokens: int) -> None:
        self._speed = speed
        self._max_batch_tokens = max_batch_tokens
        self.forecast = Forecast(max_batch_tokens)

    def check(self, lengths: Sequence[int], *, flow: Hashable, left_s: float, queue: Queue) -> None:
        """Refuses work that cannot be done in time, at all or behind what waits.

        Args:
            lengths: Tokens of each text that must run, of one request, at least one text.
            flow: Flow of the request.
            left_s: Time until its deadqueue.
            queue: Texts that wait already.

        Raises:
            DeadlineExpired: It could not be done even if nothing were ahead of it.
            Overloaded: Too much is ahead of it.
        """
        least_s = self._least_s(lengths)
        if least_s > left_s:
            raise DeadlineExpired(
                f"{sum(lengths)} tokens take at least {least_s:.2f} s and the deadline is in "
                f"{max(0.0, left_s):.2f} s; not run",
                reason="DEADLINE_TOO_SHORT",
            )
        if queue.waiting_tokens:
            self._check_turn(lengths, flow=flow, left_s=left_s, queue=queue)

    def check_estimate(
        self, lengths: Sequence[int], *, flow: Hashable, left_s: float, queue: Queue
    ) -> None:
        """Refuses texts whose lengths are only estimated if they would be refused behind others.

        Texts that could not be done even if nothing were ahead of them are left to `check`, which
        is told their true lengths. The arguments are the same.

        Raises:
            Overloaded: Too much is ahead of the texts.
        """
        if queue.waiting_tokens and self._least_s(lengths) <= left_s:
            self._check_turn(lengths, flow=flow, left_s=left_s, queue=queue)

    def _least_s(self, lengths: Sequence[int]) -> float:
        """Time that a request takes at least, if nothing is ahead of it."""
        return _OWN_PART * sum(lengths) / self._speed.best_tokens_per_s

    def _check_turn(
        self, lengths: Sequence[int], *, flow: Hashable, left_s: float, queue: Queue
    ) -> None:
        """Refuses work whose turn comes too late, before it takes the place of other work."""
        needed_s = self._needed_s(lengths, flow=flow, left_s=left_s, queue=queue)
        if needed_s > left_s:
            delay_s = retry_delay_s(needed_s - left_s)
            raise Overloaded(
                f"with what is queued it may take {needed_s:.2f} s and the deadline is in "
                f"{left_s:.2f} s; not run; try another server, or again in {delay_s:.2f} s",
                retry_delay_s=delay_s,
                bound="deadline",
            )

    def _needed_s(
        self, lengths: Sequence[int], *, flow: Hashable, left_s: float, queue: Queue
    ) -> float:
        """Time to allow for a newcomer: exact only if it is more than what is left."""
        tokens = sum(lengths)
        # The margin is that of its turn: with less, it would wait and then not be begun.
        own_s = BEGIN_MARGIN * tokens / self._speed.best_tokens_per_s
        run_s = self._run_s(queue.waiting_tokens)
        free_part = 1 - self.forecast.overtaking(tokens)
        bound_s = run_s + (own_s + self._wait_s(queue.waiting_tokens)) / free_part
        if bound_s <= left_s:  # all that waits can be ahead of it; who is need not be counted
            return bound_s
        # Smaller requests that arrive later overtake it, but no longer than fair sharing allows.
        least_s = own_s + self._wait_s(queue.tokens_before(lengths, flow=flow))
        most_s = own_s + self._wait_s(queue.most_tokens_before(tokens, flow=flow))
        return run_s + max(least_s, min(least_s / free_part, most_s))

    def is_late(self, tokens: int, *, left_s: float, is_begun: bool, waiting_tokens: int) -> bool:
        """Whether a request whose turn has come cannot be done in time while others could.

        Args:
            tokens: Tokens of the request that still have to run.
            left_s: Time until its deadqueue.
            is_begun: Whether some of its texts were taken before.
            waiting_tokens: Tokens of all texts that wait, the request's included.
        """
        if left_s <= 0:
            return True
        if not tokens or tokens == waiting_tokens:
            return False  # it delays nobody, so it may try
        margin = 1.0 if is_begun else BEGIN_MARGIN
        own_s = margin * tokens / self._speed.best_tokens_per_s
        return max(self._run_s(waiting_tokens), own_s) > left_s

    def near_tokens(self, left_s: float) -> float:
        """Tokens, the first in line, among which a batch is chosen when the first has so long."""
        return max(_NEAR_PART * left_s * self._speed.best_tokens_per_s, self._max_batch_tokens)

    def _run_s(self, waiting_tokens: int) -> float:
        """Time of one run, of what waits if that is less than a batch."""
        tokens = min(self._max_batch_tokens, waiting_tokens)
        return tokens * self._speed.workers / self._speed.best_tokens_per_s

    def _wait_s(self, tokens: float) -> float:
        """What to allow for tokens that are ahead."""
        best_s = tokens / self._speed.best_tokens_per_s
        return max(_WAIT_MARGIN * best_s, self._speed.seconds_for(tokens))
