"""Backoff: bounds, hints and deadlines, as properties."""

from __future__ import annotations

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitvec_client import InputError, RetryPolicy
from unitvec_client.core.backoff import Backoff
from unitvec_client.core.failures import Failure
from unitvec_protos.v1 import embedding_pb2 as pb

DOWN = Failure(grpc.StatusCode.UNAVAILABLE, "down")

policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 20),
    initial_backoff_s=st.floats(0, 1),
    max_backoff_s=st.floats(1, 60),
    multiplier=st.floats(1, 10),
)


@given(policies, st.floats(0, 1, exclude_max=True))
def test_tries_end_and_waits_are_bounded(policy: RetryPolicy, chance: float) -> None:
    backoff = Backoff(policy, random=lambda: chance)
    waits = []
    while (delay_s := backoff.next_delay_s(DOWN, None)) is not None:
        waits.append(delay_s)
    assert len(waits) == policy.max_attempts - 1
    assert all(0 <= delay_s <= policy.max_backoff_s for delay_s in waits)
    assert waits == sorted(waits)


@given(policies, st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_never_before_the_servers_hint(policy: RetryPolicy, hint_ms: int, chance: float) -> None:
    shed = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", pb.Error(retry_delay_ms=hint_ms))
    delay_s = Backoff(policy, random=lambda: chance).next_delay_s(shed, None)
    assert delay_s is None if policy.max_attempts == 1 else (delay_s or 0) >= hint_ms / 1000


@given(policies, st.floats(-1, 10), st.floats(0, 1, exclude_max=True))
def test_never_past_the_deadline(policy: RetryPolicy, remaining_s: float, chance: float) -> None:
    delay_s = Backoff(policy, random=lambda: chance).next_delay_s(DOWN, remaining_s)
    assert delay_s is None or delay_s < remaining_s


def test_success_forgets_failures() -> None:
    backoff = Backoff(RetryPolicy(max_attempts=2))
    assert backoff.next_delay_s(DOWN, None) is not None
    backoff.reset()
    assert backoff.next_delay_s(DOWN, None) is not None
    assert backoff.next_delay_s(DOWN, None) is None


@pytest.mark.parametrize(
    "bad",
    [{"max_attempts": 0}, {"initial_backoff_s": -1}, {"max_backoff_s": 0.01}, {"multiplier": 0.5}],
)
def test_bad_policies_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError):
        RetryPolicy(**bad)  # type: ignore[arg-type]
