"""When to try again: policy, backoff and deadline, without a clock or a sleep of their own."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from unitvec_client.errors import InputError
from unitvec_client.failures import Failure

Clock = Callable[[], float]
"""Seconds of a clock that never goes back, such as `time.monotonic`."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon a request is sent again. Embedding is idempotent.

    The wait before try n is uniform in [0, min(max_backoff_s, initial_backoff_s *
    multiplier ** (n - 1))] ("full jitter": it spreads a crowd of clients best; see Marc
    Brooker, "Exponential Backoff And Jitter", 2015). A delay named by the server is added.
    Nothing is sent again past the call's deadline.

    Attributes:
        max_attempts: Tries in all; 1 never retries.
        initial_backoff_s: Upper bound of the first wait.
        max_backoff_s: Upper bound of every wait.
        multiplier: Growth of the bound from try to try.
    """

    max_attempts: int = 5
    initial_backoff_s: float = 0.1
    max_backoff_s: float = 5.0
    multiplier: float = 2.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise InputError("max_attempts must be at least 1")
        if self.initial_backoff_s < 0 or self.max_backoff_s < self.initial_backoff_s:
            raise InputError("need 0 <= initial_backoff_s <= max_backoff_s")
        if self.multiplier < 1:
            raise InputError("multiplier must be at least 1")

    def backoff_bound_s(self, failures: int) -> float:
        """Return the upper bound of the wait after this many failures in a row, in seconds."""
        # The exponent is capped: a float power overflows long after the bound is reached.
        growth = self.multiplier ** min(failures - 1, 64)
        return min(self.max_backoff_s, self.initial_backoff_s * growth)


@dataclass(slots=True)
class Backoff:
    """Counts the failures of one request and says how long to wait.

    Attributes:
        policy: The bounds.
        failures: Failures in a row so far.
        random: Uniform in [0, 1).
    """

    policy: RetryPolicy
    failures: int = 0
    random: Callable[[], float] = field(default=random.random, repr=False)

    def next_delay_s(self, failure: Failure, remaining_s: float | None) -> float | None:
        """Count a failure and return the wait before the next try, in seconds.

        Args:
            failure: What came back.
            remaining_s: Time left to the deadline; None if there is none.

        Returns:
            None if there must be no next try.
        """
        self.failures += 1
        if not failure.retryable or self.failures >= self.policy.max_attempts:
            return None
        delay_s = self.random() * self.policy.backoff_bound_s(self.failures)
        delay_s += failure.retry_delay_s or 0.0
        if remaining_s is not None and delay_s >= remaining_s:
            return None
        return delay_s

    def reset(self) -> None:
        """Forget the failures: something succeeded."""
        self.failures = 0
