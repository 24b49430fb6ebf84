"""What holds for every call, whatever door it comes through."""

from __future__ import annotations

from collections.abc import Sequence

from unitvec_server.doors.bounds import Gate, HeldBytes
from unitvec_server.doors.calls import ErrorTally, Observer
from unitvec_server.security.secrets import TokenCheck


class HouseRules:
    """The tokens, limits and counts that all doors share.

    Args:
        check_token: Refuses calls without a valid token.
        max_calls: Calls and streams in work at a time.
        max_unary_bytes: Bytes of the messages of all unary calls in work.
        observers: Functions that are shown each call at its end.

    Attributes:
        check_token: Refuses calls without a valid token.
        calls: Counts and bounds the calls and streams in work, without those of health.
        messages: Counts and bounds the bytes of the messages of unary calls in work.
        errors: Counts of failed requests.
        observers: Functions that are shown each call at its end.
    """

    def __init__(
        self,
        check_token: TokenCheck,
        *,
        max_calls: int,
        max_unary_bytes: int,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.check_token = check_token
        self.calls = Gate("calls are in work, which is the limit max_calls", max_calls)
        self.messages = HeldBytes(max_unary_bytes)
        self.errors = ErrorTally()
        self.observers = observers
