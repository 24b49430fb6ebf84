"""`embed` with ``errors="return"``, with both clients: each text by itself, whoever refuses it."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

import unitvec_client as uv
from unitvec_protos.v1 import embedding_pb2 as pb

BAD = "<bad>"
SURROGATE = "\ud800"
WORDS = [f"text number {i}" for i in range(100)]


def with_bad(texts: dict[int, str], n: int = 100) -> list[str]:
    return [texts.get(i, WORDS[i]) for i in range(n)]


@pytest.mark.parametrize("n", [1, 2, 16, 17, 100])
def test_vectors_keep_their_rows(client: Any, fake: Any, expected: np.ndarray, n: int) -> None:
    """Wherever requests begin and end: no text is sent twice."""
    bad = {0, n // 2, n - 1}
    vectors, errors = client.embed(with_bad(dict.fromkeys(bad, BAD), n), errors="return")
    good = [i for i in range(n) if i not in bad]
    np.testing.assert_array_equal(vectors[good], expected[good])
    assert np.isnan(vectors[sorted(bad)]).all()
    assert [failed.index for failed in errors] == sorted(bad)
    for failed in errors:
        assert isinstance(failed.error, uv.InvalidArgumentError)
        assert failed.error.field == f"texts[{failed.index}]"
        assert failed.error.message == f"texts[{failed.index}] is bad"
        assert failed.error.reason == "BAD_TEXT"
    assert sum(len(call.requests[0].texts) for call in fake.servicer.calls("Embed")) == n


def test_what_cannot_be_sent_fails_as_the_others_do(
    client: Any, fake: Any, expected: np.ndarray
) -> None:
    """A lone surrogate, and a text larger than a message; the server refuses a third one."""
    fake.servicer.limits.max_message_bytes = 6000
    texts = with_bad({3: SURROGATE, 20: "x" * 6000, 21: BAD})
    result = client.embed_result(texts, errors="return")
    assert [(failed.index, type(failed.error)) for failed in result.errors] == [
        (3, uv.InputError),
        (20, uv.MessageTooLargeError),
        (21, uv.InvalidArgumentError),
    ]
    assert [failed.error.field for failed in result.errors] == [
        "texts[3]",
        "texts[20]",
        "texts[21]",
    ]
    good = [i for i in range(100) if i not in (3, 20, 21)]
    np.testing.assert_array_equal(result.vectors[good], expected[good])
    assert np.isnan(result.vectors[[3, 20, 21]]).all()
    assert result.tokens[[3, 20, 21]].tolist() == [0, 0, 0]
    assert "3 failed" in repr(result)


def test_truncated_texts_are_counted_among_all(client: Any) -> None:
    long = "a text of more than six tokens"
    result = client.embed_result([SURROGATE, "short", long, BAD, long], errors="return")
    assert (result.truncated, result.left_out_tokens) == ((2, 4), (3, 3))


@pytest.mark.parametrize(
    ("dtype", "bad_rows"), [("float16", np.nan), ("int8", np.nan), ("binary", 0)]
)
@pytest.mark.parametrize("bad", [BAD, SURROGATE])
def test_no_dtype_has_a_vector_for_a_text_that_failed(
    client: Any, dtype: str, bad: str, bad_rows: float
) -> None:
    vectors, errors = client.embed(["a", bad, "b"], dtype=dtype, errors="return")
    np.testing.assert_array_equal(vectors[1], np.full(vectors.shape[1], bad_rows))
    assert not np.isnan(vectors[[0, 2]]).any()
    np.testing.assert_array_equal(vectors[[0, 2]], client.embed(["a", "b"], dtype=dtype))
    assert [failed.index for failed in errors] == [1]


@pytest.mark.parametrize("bad", [BAD, SURROGATE])
def test_one_text(client: Any, bad: str) -> None:
    vector, errors = client.embed(bad, errors="return")
    assert vector.shape == (8,)
    assert np.isnan(vector).all()
    assert [failed.index for failed in errors] == [0]
    vector, errors = client.embed("good", errors="return")
    np.testing.assert_array_equal(vector, client.embed("good"))
    assert errors == []


def test_all_fail_or_there_are_none(client: Any) -> None:
    vectors, errors = client.embed([SURROGATE, SURROGATE], dimensions=3, errors="return")
    assert (vectors.shape, len(errors)) == ((2, 3), 2)
    vectors, errors = client.embed([], errors="return")
    assert (vectors.shape, errors) == ((0, 8), [])


@pytest.mark.parametrize("bad", [BAD, SURROGATE])
def test_the_default_is_all_or_nothing(client: Any, fake: Any, bad: str) -> None:
    with pytest.raises(uv.InvalidArgumentError):
        client.embed(["a", bad])
    assert not any(call.requests[0].partial for call in fake.servicer.calls("Embed"))


def test_what_is_no_text_at_all_raises(client: Any) -> None:
    with pytest.raises(uv.InputTypeError):
        client.embed(["a", b"b"], errors="return")
    with pytest.raises(uv.InputError, match="errors"):
        client.embed(["a"], errors="ignore")


def test_a_call_that_fails_as_a_whole_raises(client: Any, fake: Any, make_fault: Any) -> None:
    fake.servicer.fail("Embed", make_fault(grpc.StatusCode.INTERNAL, "no"))
    with pytest.raises(uv.InternalError):
        client.embed(WORDS, errors="return")


def test_a_failed_text_that_was_not_sent_is_a_protocol_error(client: Any, fake: Any) -> None:
    def mangle(response: Any) -> None:
        if isinstance(response, pb.EmbedResponse):
            response.errors.add(index=2)

    fake.servicer.mangle = mangle
    with pytest.raises(uv.ProtocolError, match="failed"):
        client.embed(["a", "b"], errors="return")
    with pytest.raises(uv.ProtocolError, match="failed"):
        list(client.embed_stream(["a", "b"]))


def test_too_large_for_a_server_that_was_restarted_with_lower_limits(
    client: Any, fake: Any
) -> None:
    """The error is returned, and the next call asks for the limits anew."""

    def shrink(response: Any) -> None:
        for item in getattr(response, "errors", ()):
            item.error.reason = "TEXT_TOO_LARGE"

    client.models()
    fake.servicer.mangle = shrink
    client.embed(["a", BAD], errors="return")
    client.embed("a")
    assert len(fake.servicer.calls("ListModels")) == 2
