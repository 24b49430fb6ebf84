"""`embed` with both clients: splitting, order, dtypes, retries, deadlines."""

from __future__ import annotations

import threading
from typing import Any

import grpc
import numpy as np
import pytest

import unitvec_client as uv
from unitvec_protos.v1 import embedding_pb2 as pb

BAD = "<bad>"
WORDS = [f"text number {i}" for i in range(100)]


def test_one_text_is_a_vector_and_many_are_a_matrix(client: Any, expected: np.ndarray) -> None:
    one = client.embed(WORDS[0])
    many = client.embed(WORDS[:3])
    assert (one.shape, many.shape) == ((8,), (3, 8))
    assert one.dtype == many.dtype == np.float32
    np.testing.assert_array_equal(one, expected[0])
    np.testing.assert_array_equal(many, expected[:3])
    many[0] = 0  # writable


@pytest.mark.parametrize("n", [1, 15, 16, 17, 100])
def test_any_number_of_texts_comes_back_in_order(
    client: Any, fake: Any, expected: np.ndarray, n: int
) -> None:
    result = client.embed_result(WORDS[:n])
    np.testing.assert_array_equal(result.vectors, expected[:n])
    assert result.tokens.tolist() == [5] * n
    sizes = [len(call.requests[0].texts) for call in fake.servicer.calls("Embed")]
    assert (sum(sizes), max(sizes)) == (n, min(n, 16))
    assert result.timings == uv.Timings(*(len(sizes) * ns for ns in (1, 2, 3, 6)))


def test_requests_stay_under_message_bytes(client: Any, fake: Any) -> None:
    fake.servicer.limits.max_message_bytes = 6000
    client.embed(["x" * 900] * 10)
    calls = fake.servicer.calls("Embed")
    assert len(calls) > 1
    assert max(call.requests[0].ByteSize() for call in calls) <= 6000


def test_limits_are_asked_for_once(client: Any, fake: Any) -> None:
    client.embed(["a"])
    client.embed(["b"])
    client.similarity(["a"], ["b"])
    assert len(fake.servicer.calls("ListModels")) == 1
    client.models()
    assert len(fake.servicer.calls("ListModels")) == 2


@pytest.mark.parametrize(
    ("keywords", "shape", "dtype"),
    [
        ({}, (0, 8), np.float32),
        ({"dimensions": 3}, (0, 3), np.float32),
        ({"model": "second"}, (0, 4), np.float32),
        ({"dtype": "float16"}, (0, 8), np.float16),
        ({"dtype": "binary"}, (0, 1), np.uint8),
        ({"dtype": "int8"}, (0, 8), np.float32),
    ],
)
def test_no_texts(client: Any, keywords: Any, shape: Any, dtype: Any) -> None:
    vectors = client.embed([], **keywords)
    assert (vectors.shape, vectors.dtype) == (shape, dtype)


@pytest.mark.parametrize(
    ("dtype", "wire", "tolerance"),
    [("float16", np.float16, 1e-3), ("int8", np.int8, 5e-3)],
)
def test_smaller_dtypes(
    client: Any, expected: np.ndarray, dtype: str, wire: Any, tolerance: float
) -> None:
    result = client.embed_result(WORDS, dtype=dtype)
    assert result.vectors.dtype == wire
    assert (result.scales is not None) == (dtype == "int8")
    np.testing.assert_allclose(result.values(), expected, atol=tolerance)
    np.testing.assert_array_equal(client.embed(WORDS, dtype=dtype), result.values())


def test_binary(client: Any, expected: np.ndarray) -> None:
    packed = client.embed(WORDS, dtype="binary")
    np.testing.assert_array_equal(packed, np.packbits(expected > 0, axis=1))


def test_options_reach_the_server(client: Any, fake: Any) -> None:
    client.embed(
        ["a"], model="second", normalize=False, dimensions=2, prompt_name="", truncate="start"
    )
    request = fake.servicer.calls("Embed")[0].requests[0]
    assert request.model == "second"
    assert request.options == pb.EncodeOptions(
        normalize=False, dimensions=2, prompt_name="", truncate=pb.TRUNCATE_START
    )
    client.embed(["a"])
    assert not fake.servicer.calls("Embed")[1].requests[0].options.HasField("prompt_name")


def test_truncated_indices_count_in_all_texts(client: Any) -> None:
    texts = ["short"] * 40
    texts[3] = texts[37] = "a text of more than six tokens"
    result = client.embed_result(texts)
    assert (result.truncated, result.left_out_tokens) == ((3, 37), (3, 3))


def test_bad_text_is_named_by_its_own_index(client: Any) -> None:
    texts = [*WORDS[:50], BAD, "fine"]
    with pytest.raises(uv.InvalidArgumentError) as caught:
        client.embed(texts)
    error = caught.value
    assert (error.field, error.reason) == ("texts[50]", "BAD_TEXT")
    assert error.message == "texts[50] is bad"
    assert isinstance(error.__cause__, grpc.RpcError)


@pytest.mark.parametrize("n", [1, 100])
def test_transient_failures_are_retried_with_one_request_id(
    client: Any, fake: Any, make_fault: Any, expected: np.ndarray, n: int
) -> None:
    shed = pb.Error(code=8, reason="OVERLOADED", retry_delay_ms=1)
    fake.servicer.fail(
        "Embed",
        make_fault(grpc.StatusCode.UNAVAILABLE),
        make_fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", shed),
        make_fault(grpc.StatusCode.UNAVAILABLE),
    )
    np.testing.assert_array_equal(client.embed(WORDS[:n]), expected[:n])
    ids = {call.metadata["x-request-id"] for call in fake.servicer.calls("Embed")}
    assert len(ids) == 1


def test_overload_says_when_to_come_back(client: Any, fake: Any, make_fault: Any) -> None:
    shed = pb.Error(code=8, reason="OVERLOADED", retry_delay_ms=120_000)
    fake.servicer.fail("Embed", make_fault(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", shed))
    # The hint is past the deadline, so the call ends at once.
    with pytest.raises(uv.OverloadedError) as caught:
        client.embed("a")
    assert caught.value.retry_delay_s == 120
    assert caught.value.reason == "OVERLOADED"


def test_deadline_reaches_the_server_and_ends_the_call(client: Any, fake: Any) -> None:
    release = threading.Event()
    fake.servicer.before_reply = release.wait
    client.models()
    timeout_s = 0.1
    try:
        while not fake.servicer.calls("Embed"):  # a busy machine may be late to see it
            timeout_s *= 2
            with pytest.raises(uv.DeadlineExceededError) as caught:
                client.embed("a", timeout_s=timeout_s)
            assert isinstance(caught.value, TimeoutError)
        # gRPC rounds on the wire; the default would be 30 s.
        assert 0 < fake.servicer.calls("Embed")[0].remaining_s < timeout_s + 1
    finally:
        release.set()


def test_failed_call_cancels_the_others(client: Any, fake: Any) -> None:
    texts = WORDS[:64]
    texts[0] = BAD
    with pytest.raises(uv.InvalidArgumentError):
        client.embed(texts)
    assert client.embed("a").shape == (8,)


def test_numpy_array_of_strings_is_texts(client: Any, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(client.embed(np.array(WORDS[:3])), expected[:3])


def test_client_bound_of_a_message_splits_too(connect: Any, fake: Any) -> None:
    client = connect(fake.target, connection=uv.ConnectionOptions(max_message_bytes=5000))
    assert client.embed(["x" * 400] * 16).shape == (16, 8)
    assert len(fake.servicer.calls("Embed")) > 1
