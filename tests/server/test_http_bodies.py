"""Bodies are refused for what is in them before it is made."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitvec_server.errors import InvalidRequest
from unitvec_server.http.bodies import check_headers, check_values

TEXTS = st.text(st.sampled_from('a"\\[]{},é\n'), max_size=8)
VALUES = st.recursive(
    st.one_of(TEXTS, st.integers(), st.none()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(TEXTS, inner)),
    max_leaves=20,
)


def count(value: Any) -> int:
    """Strings, lists and objects, names of fields included."""
    if isinstance(value, dict):
        return 1 + len(value) + sum(map(count, value.values()))
    if isinstance(value, list):
        return 1 + sum(map(count, value))
    return isinstance(value, str)


@given(value=VALUES, escaped=st.booleans(), slack=st.integers(-2, 2))
def test_values_are_counted(value: Any, escaped: bool, slack: int) -> None:
    """Whatever quotes, backslashes and brackets the texts have."""
    body = json.dumps(value, ensure_ascii=escaped).encode()
    most = count(value) + slack
    if slack >= 0:
        check_values(body, most=most)
    else:
        with pytest.raises(InvalidRequest, match="strings, lists and objects") as caught:
            check_values(body, most=most)
        assert caught.value.reason == "TOO_MANY_TEXTS"


@pytest.mark.parametrize(
    "headers",
    [
        {b"content-encoding": b"gzip"},
        {b"transfer-encoding": b"gzip, chunked"},
        {b"content-type": b"text/plain"},
        {b"origin": b"https://example.com"},
    ],
    ids=str,
)
def test_what_is_no_plain_json_is_refused(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_headers(headers, max_body_bytes=10)
    assert caught.value.reason == "WRONG_CONTENT_TYPE"


@pytest.mark.parametrize(
    "headers",
    [{}, {b"content-type": b"application/x+json"}, {b"transfer-encoding": b"Chunked"}],
    ids=str,
)
def test_plain_json_is_read(headers: dict[bytes, bytes]) -> None:
    check_headers(headers, max_body_bytes=10)
