"""How often and how soon a request is tried again."""

from __future__ import annotations

from dataclasses import dataclass

from unitvec_client.errors import InputError
from unitvec_client.values import read_count


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
        object.__setattr__(self, "max_attempts", read_count("max_attempts", self.max_attempts))
        if self.initial_backoff_s < 0 or self.max_backoff_s < self.initial_backoff_s:
            raise InputError("need 0 <= initial_backoff_s <= max_backoff_s")
        if self.multiplier < 1:
            raise InputError("multiplier must be at least 1")

    def backoff_bound_s(self, failures: int) -> float:
        """Return the upper bound of the wait after this many failures in a row, in seconds."""
        # The exponent is capped: a float power overflows long after the bound is reached.
        growth = self.multiplier ** min(failures - 1, 64)
        return min(self.max_backoff_s, self.initial_backoff_s * growth)
