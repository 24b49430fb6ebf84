"""When to try again, without a clock or a sleep of its own."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from unitvec_client.core.failures import Failure
from unitvec_client.retry import RetryPolicy

Clock = Callable[[], float]
"""Seconds of a clock that never goes back, such as `time.monotonic`."""


@dataclass(slots=True)
class Backoff:
    """Counts the failures of one request and says how long to wait.

    Attributes:
        policy: Bounds of the waits and of the number of tries.
        failures: Number of failures in a row so far.
        random: Source of chance, uniform in [0, 1).
    """

    policy: RetryPolicy
    failures: int = 0
    random: Callable[[], float] = field(default=random.random, repr=False)

    def next_delay_s(self, failure: Failure, remaining_s: float | None) -> float | None:
        """Count a failure and return the wait before the next try, in seconds.

        Args:
            failure: The failure to count.
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
        """Forget the failures, because something succeeded."""
        self.failures = 0
