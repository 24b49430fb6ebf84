"""Texts that no message holds: each fails alone, by its own name."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

import unitvec_client as uv
from unitvec_protos.v1 import embedding_pb2_grpc as pb_grpc

LARGE = "x" * 20_000
WIDE = "\U0001f642" * 4_000  # 16,000 bytes.


@pytest.fixture
def small(fake: Any) -> Any:
    """A server whose messages hold 10,000 bytes."""
    fake.servicer.limits.max_message_bytes = 10_000
    return fake


@pytest.mark.parametrize("large", [LARGE, WIDE])
@pytest.mark.parametrize("at", [0, 1, 2, 7])
def test_a_stream_goes_on_without_it(
    connect: Any, small: Any, expected: np.ndarray, large: str, at: int
) -> None:
    texts: list[str] = [f"text number {i}" for i in range(8)]
    texts[at] = large
    items = list(connect(small.target).embed_stream(iter(texts), chunk_texts=3))
    assert [item.index for item in items] == list(range(8))
    error = items.pop(at).error
    assert isinstance(error, uv.MessageTooLargeError)
    assert (error.field, error.reason) == (f"texts[{at}]", "TEXT_TOO_LARGE")
    assert f"{len(large.encode()):,} bytes" in error.message
    np.testing.assert_array_equal([item.vector for item in items], np.delete(expected[:8], at, 0))
    assert len(small.servicer.calls("StreamEmbed")) == 1


def test_all_of_them(connect: Any, small: Any) -> None:
    items = list(connect(small.target).embed_stream([LARGE] * 5))
    assert [item.error.field for item in items] == [f"texts[{i}]" for i in range(5)]


def test_the_client_s_own_bound_counts_too(connect: Any, fake: Any) -> None:
    client = connect(fake.target, connection=uv.ConnectionOptions(max_message_bytes=10_000))
    first, second, third = client.embed_stream(["a", LARGE, "b"])
    assert isinstance(second.error, uv.MessageTooLargeError)
    assert (first.error, third.error) == (None, None)


@pytest.mark.parametrize(
    ("method", "arguments", "field"),
    [
        ("embed", [["a", LARGE]], "texts[1]"),
        ("embed_result", [[LARGE, "a"]], "texts[0]"),
        ("tokenize", [["a", LARGE]], "texts[1]"),
        ("similarity", [["a", LARGE], ["b"]], "a[1]"),
        ("similarity", [["a"], ["b", "c", LARGE]], "b[2]"),
        ("similarity", [["a"], np.ones((1, 3000))], "b[0]"),
        ("search", [["a", LARGE], ["b"]], "queries[1]"),
        ("search", [["a"], ["b", LARGE]], "documents[1]"),
    ],
)
def test_calls_of_all_or_nothing_name_it(
    connect: Any, small: Any, method: str, arguments: Any, field: str
) -> None:
    with pytest.raises(uv.MessageTooLargeError, match="one message holds") as caught:
        getattr(connect(small.target), method)(*arguments)
    assert caught.value.field == field


def test_larger_messages_of_a_new_server_are_learned(connect: Any, small: Any) -> None:
    client = connect(small.target)
    client.models()
    small.servicer.limits.max_message_bytes = 1 << 20
    small.servicer.limits.max_text_bytes = 1 << 20
    assert client.embed(["a", LARGE]).shape == (2, 8)
    small.servicer.limits.max_message_bytes = 10_000


@pytest.fixture
def narrow(fake: Any) -> Iterator[str]:
    """A server that takes 10,000 bytes but states 1 MiB, as one behind a proxy would."""
    server = grpc.server(
        ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 10_000)]
    )
    pb_grpc.add_EmbeddingServiceServicer_to_server(fake.servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_bound_that_nobody_stated(connect: Any, narrow: str, expected: np.ndarray) -> None:
    """The stream breaks, and does not say on which message."""
    texts: list[str] = [f"text number {i}" for i in range(20)]
    texts[3] = texts[11] = LARGE
    items = list(connect(narrow).embed_stream(texts, chunk_texts=4))
    errors = {item.index: item.error for item in items if item.error}
    assert list(errors) == [3, 11]
    for index, error in errors.items():
        assert isinstance(error, uv.MessageTooLargeError)
        assert error.field == f"texts[{index}]"
    vectors = [item.vector for item in items if item.vector is not None]
    np.testing.assert_array_equal(vectors, np.delete(expected[:20], [3, 11], 0))
