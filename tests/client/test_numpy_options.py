"""Options in numpy's types, and in any other that stands for a whole number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import unitvec_client as uv
from unitvec_client.stored.files import open_rows
from unitvec_client.stored.search import StoredSearch

WORDS = [f"text number {i}" for i in range(100)]


class Three:
    def __index__(self) -> int:
        return 3


@pytest.mark.parametrize("three", [np.int64(3), np.uint8(3), np.array(3), Three()])
def test_whole_numbers(client: Any, three: Any) -> None:
    expected = client.similarity(WORDS[:5], WORDS[:5], top_k=3)
    rankings = client.similarity(WORDS[:5], WORDS[:5], top_k=three)
    np.testing.assert_array_equal(rankings.indices, expected.indices)
    assert client.embed(WORDS[:5], dimensions=three).shape == (5, 3)
    assert len(client.search("a", WORDS, top_k=three)[0]) == 3
    items = list(client.embed_stream(WORDS[:5], chunk_texts=three, dimensions=three))
    assert [item.vector.shape for item in items] == [(3,)] * 5


@pytest.mark.parametrize("three", [np.int64(3), Three()])
def test_whole_numbers_of_other_options(three: Any) -> None:
    assert uv.RetryPolicy(max_attempts=three).max_attempts == 3
    assert uv.ConnectionOptions(max_message_bytes=three).max_message_bytes == 3
    assert type(uv.ConnectionOptions(keepalive_time_s=np.int64(3)).keepalive_time_s) is float
    vectors = np.eye(5, 8, dtype=np.float32)
    [hits] = StoredSearch(open_rows(vectors), top_k=three).run(vectors[:1])
    assert len(hits) == 3


@pytest.mark.parametrize("wrong", [True, np.bool_(True), 1.0, np.float64(1), "1", None])
def test_what_is_no_whole_number(wrong: Any) -> None:
    for make in (
        lambda: uv.RetryPolicy(max_attempts=wrong),
        lambda: uv.ConnectionOptions(max_message_bytes=wrong),
        lambda: StoredSearch(open_rows(np.eye(2, dtype=np.float32)), top_k=wrong),
    ):
        with pytest.raises(uv.InputTypeError, match="must be int"):
            make()


@pytest.mark.parametrize("flag", [np.bool_(True), np.bool_(False)])
def test_flags(client: Any, fake: Any, flag: Any) -> None:
    client.embed(["a"], normalize=flag)
    assert fake.servicer.calls("Embed")[0].requests[0].options.normalize is bool(flag)
    scores = client.similarity(WORDS[:3], WORDS[:3], pairs=flag)
    assert scores.shape == ((3,) if flag else (3, 3))


def test_what_is_no_flag(client: Any) -> None:
    with pytest.raises(uv.InputTypeError, match="normalize must be bool, not str"):
        client.embed(["a"], normalize="no")


@pytest.mark.parametrize("timeout_s", [np.float64(9.5), np.float32(9.5), np.int64(9)])
def test_times(connect: Any, fake: Any, timeout_s: Any) -> None:
    client = connect(fake.target, timeout_s=timeout_s)
    client.embed("a")
    client.embed("a", timeout_s=timeout_s)
    assert all(8 < call.remaining_s < 10 for call in fake.servicer.calls("Embed"))


def test_names(client: Any, fake: Any) -> None:
    client.embed(["a"], model=np.str_("second"), dtype=np.str_("int8"))
    assert fake.servicer.calls("Embed")[0].requests[0].model == "second"
