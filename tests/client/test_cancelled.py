"""Calls that the other side cancels, as a server does that stops while they arrive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

import unitvec_client as uv


@pytest.mark.parametrize("message", ["CANCELLED", ""])
def test_cancelled_by_the_server_is_sent_again(
    client: Any, fake: Any, make_fault: Any, message: str
) -> None:
    before = client.embed(["a", "b"])
    fake.servicer.fail("Embed", make_fault(grpc.StatusCode.CANCELLED, message))
    np.testing.assert_array_equal(client.embed(["a", "b"]), before)


def test_stream_cancelled_by_the_server_goes_on(client: Any, fake: Any, make_fault: Any) -> None:
    fake.servicer.fail("StreamEmbed", make_fault(grpc.StatusCode.CANCELLED, "CANCELLED"))
    assert [item.error for item in client.embed_stream(["a", "b"])] == [None, None]


def test_tries_end(connect: Any, fake: Any, make_fault: Any) -> None:
    client = connect(fake.target, retry=uv.RetryPolicy(max_attempts=2, initial_backoff_s=0))
    faults = [make_fault(grpc.StatusCode.CANCELLED, "CANCELLED")] * 2
    fake.servicer.fail("Embed", *faults)
    with pytest.raises(uv.CallCancelledError):
        client.embed("a")


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("Embed", lambda client: client.embed("a", timeout_s=0.09)),
        ("StreamEmbed", lambda client: list(client.embed_stream(["a"], timeout_s=0.09))),
    ],
)
def test_cancelled_at_the_deadline_is_the_deadline(
    connect: Any, fake: Any, make_fault: Any, method: str, call: Callable[[Any], object]
) -> None:
    """The server's clock ran out first, by less than the time that a reply takes."""
    client = connect(fake.target, retry=uv.RetryPolicy(max_attempts=1))
    fake.servicer.fail(method, make_fault(grpc.StatusCode.CANCELLED, "CANCELLED"))
    with pytest.raises(uv.DeadlineExceededError):
        call(client)


def test_stream_that_breaks_at_the_deadline_is_the_deadline(
    connect: Any, fake: Any, make_fault: Any
) -> None:
    """Where many messages are on their way, grpc.aio nearly always drops the server's status."""
    client = connect(fake.target, retry=uv.RetryPolicy(max_attempts=1))
    client.embed("a")
    for _ in range(20):
        fake.servicer.fail("StreamEmbed", make_fault(grpc.StatusCode.CANCELLED, "CANCELLED"))
        with pytest.raises(uv.DeadlineExceededError):
            list(client.embed_stream(["a"] * 64, timeout_s=0.09))
