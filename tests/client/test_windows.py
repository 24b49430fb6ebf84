"""Windows, with both clients, against a server that cuts texts into pairs of words, or lies."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import grpc
import numpy as np
import pytest

import unitvec_client as uv
from unitvec_protos.v1 import embedding_pb2 as pb

BAD, SURROGATE = "<bad>", "\ud800"
WINDOWS = uv.Windows(4)


def pairs(text: str) -> list[tuple[int, int]]:
    """Where each pair of words begins and ends; blanks go with the pair before."""
    words = text.split(" ")
    ends = np.cumsum([len(word) + 1 for word in words])[1::2].tolist()
    bounds = [0, *(end for end in ends if end < len(text)), len(text)]
    return list(pairwise(bounds))


@pytest.fixture
def server(fake: Any, vectors: Callable[[list[str]], np.ndarray]) -> Any:
    """The fake, which knows windows."""
    fake.servicer.limits.max_windows_per_request = 40
    whole = fake.servicer._embed

    def embed(request: pb.EmbedRequest) -> pb.EmbedResponse:
        options = request.options
        if not options.HasField("windows") or options.windows.pooled:
            return whole(request)  # type: ignore[no-any-return]
        parts = pb.EmbedRequest(dtype=request.dtype)
        windows = []
        for index, text in enumerate(request.texts):
            for start, end in pairs(text) if BAD not in text else []:
                at = [len(text[:place].encode()) for place in (start, end)]
                windows.append(pb.Window(
                    text_index=index, char_start=start, char_end=end, tokens=4,
                    byte_start=at[0], byte_end=at[1],
                ))  # fmt: skip
                parts.texts.append(text[start:end])
        response = whole(parts)
        response.windows.extend(windows)
        response.usage.Clear()
        response.usage.CopyFrom(fake.servicer._usage(request.texts))
        response.errors.extend(fake.servicer._bad(request.texts))
        fake.servicer.mangle(response)
        return response  # type: ignore[no-any-return]

    fake.servicer._embed = embed
    return fake


def test_windows_of_any_number_of_texts(client: Any, server: Any, vectors: Any) -> None:
    texts = [f"text é number {n} " + "of a few more words" * (n % 3) for n in range(50)]
    result = client.embed(texts, windows=WINDOWS)
    spans = [texts[w.text_index][w.start : w.end] for w in result.windows]
    assert [w.text_index for w in result.windows] == sorted(w.text_index for w in result.windows)
    for index, text in enumerate(texts):
        assert "".join(spans[result.rows_of(index)]) == text
    np.testing.assert_array_equal(result.vectors, vectors(spans))
    for window, vector in result:
        assert vector.shape == (8,)
        encoded = texts[window.text_index].encode()
        assert encoded[window.byte_start : window.byte_end].decode() in spans
    assert len(server.servicer.calls("Embed")) > 1
    items = list(client.embed_stream(texts, windows=WINDOWS, chunk_texts=7))
    assert tuple(w for item in items for w in item.windows) == result.windows
    np.testing.assert_array_equal(np.concatenate([i.vectors for i in items]), result.vectors)


def test_rows_cannot_be_taken_for_texts(client: Any, server: Any) -> None:
    result = client.embed(["one two three", "four"], windows=WINDOWS)
    with pytest.raises(TypeError, match="windows, not texts"):
        np.asarray(result)
    with pytest.raises(IndexError):
        result.rows_of(2)
    assert (len(result), "2 texts" in repr(result)) == (3, True)
    [item, _] = client.embed_stream(["one two three", "four"], windows=WINDOWS)
    assert item.vector is None
    assert item.vectors.shape == (2, 8)


def test_texts_that_fail_have_no_windows(client: Any, server: Any) -> None:
    texts = ["one two three", SURROGATE, BAD, "four", "x " * 3000]
    server.servicer.limits.max_message_bytes = 6000
    result = client.embed(texts, windows=WINDOWS, errors="return")
    assert [failed.index for failed in result.errors] == [1, 2, 4]
    assert [failed.error.field for failed in result.errors] == [f"texts[{i}]" for i in (1, 2, 4)]
    assert [window.text_index for window in result.windows] == [0, 0, 3]
    assert [result.rows_of(i).stop - result.rows_of(i).start for i in range(5)] == [2, 0, 0, 1, 0]
    with pytest.raises(uv.InvalidArgumentError):
        client.embed(["one", BAD], windows=WINDOWS)
    for empty in ([], [SURROGATE]):
        result = client.embed(empty, windows=WINDOWS, errors="return")
        assert (result.vectors.shape, len(result)) == ((0, 8), 0)


@pytest.mark.parametrize(
    "lie",
    [
        lambda response: response.windows.pop(),
        lambda response: response.windows.reverse(),
        lambda response: response.windows.add(text_index=7),
        lambda response: response.ClearField("windows"),
    ],
)
def test_windows_that_are_not_those_of_the_texts_are_a_protocol_error(
    client: Any, server: Any, lie: Any
) -> None:
    def mangle(response: Any) -> None:
        if isinstance(response, pb.EmbedResponse) and response.windows:
            lie(response)

    server.servicer.mangle = mangle
    with pytest.raises(uv.ProtocolError):
        client.embed(["one", "two"], windows=WINDOWS)


@pytest.mark.parametrize("windows", [uv.Windows(), uv.PooledWindows(8)])
def test_a_server_that_knows_no_windows_is_not_asked(client: Any, fake: Any, windows: Any) -> None:
    """It would cut long texts off without a word."""
    with pytest.raises(uv.UnimplementedError, match="too old"):
        client.embed(["a"], windows=windows)
    with pytest.raises(uv.UnimplementedError, match="too old"):
        list(client.embed_stream(["a"], windows=windows))
    assert not fake.servicer.calls("Embed")


@pytest.mark.parametrize(
    ("kind", "arguments", "error"),
    [
        (uv.Windows, (0,), uv.InputError),
        (uv.Windows, ("4",), uv.InputTypeError),
        (uv.PooledWindows, (8, -1), uv.InputError),
        (uv.Windows, (8, True), uv.InputTypeError),
    ],
)
def test_windows_are_checked_at_once(kind: Any, arguments: Any, error: Any) -> None:
    with pytest.raises(error):
        kind(*arguments)


def test_windows_are_windows(client: Any) -> None:
    with pytest.raises(uv.InputTypeError, match="windows"):
        client.embed(["a"], windows=256)


def test_windows_reach_the_server(client: Any, server: Any) -> None:
    client.embed(["a"], windows=uv.PooledWindows(np.int64(8), 2))
    request = server.servicer.calls("Embed")[0].requests[0]
    assert request.options.windows == pb.Windows(tokens=8, overlap_tokens=2, pooled=True)


def test_a_call_that_fails_raises(client: Any, server: Any, make_fault: Any) -> None:
    server.servicer.fail("Embed", make_fault(grpc.StatusCode.INTERNAL, "no"))
    with pytest.raises(uv.InternalError):
        client.embed(["a", "b"], windows=WINDOWS)
