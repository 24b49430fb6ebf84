"""Bodies are refused for what is in them before it is made."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitvec_server.errors import InvalidRequest
from unitvec_server.http.bodies import BodyLimits, ValueCount, check_headers

TEXTS = st.text(st.sampled_from('a"\\[]{},é\n'), max_size=8)
VALUES = st.recursive(
    st.one_of(TEXTS, st.integers(), st.none()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(TEXTS, inner)),
    max_leaves=20,
)


class Counts(NamedTuple):
    """How many values there are: strings, lists and objects, names included; and commas."""

    values: int = 0
    items: int = 0


def count(value: Any) -> Counts:
    """Of all that is in a value."""
    if not isinstance(value, dict | list):
        return Counts(isinstance(value, str))
    names = len(value) if isinstance(value, dict) else 0
    inner = [count(one) for one in (value.values() if isinstance(value, dict) else value)]
    return Counts(
        1 + names + sum(one.values for one in inner),
        max(0, len(inner) - 1) + sum(one.items for one in inner),
    )


def feed(body: bytes, ends: Sequence[int], limits: Counts) -> None:
    """Counts a body that comes in parts with these ends."""
    counter = ValueCount(BodyLimits(len(body), *limits))
    within = sorted(end for end in ends if end < len(body))
    for start, end in itertools.pairwise([0, *within, len(body)]):
        counter.add(body[start:end])


@given(value=VALUES, escaped=st.booleans(), ends=st.lists(st.integers(0, 200), max_size=6))
def test_values_are_counted(value: Any, escaped: bool, ends: list[int]) -> None:
    """Whatever quotes, backslashes, commas and brackets texts have, wherever a part ends."""
    body = json.dumps(value, ensure_ascii=escaped).encode()
    found = count(value)
    feed(body, ends, found)
    if found.values:
        with pytest.raises(InvalidRequest, match="strings, lists and objects") as caught:
            feed(body, ends, found._replace(values=found.values - 1))
        assert caught.value.reason == "TOO_MANY_TEXTS"
    if found.items:
        with pytest.raises(InvalidRequest, match="numbers and other values") as caught:
            feed(body, ends, found._replace(items=found.items - 1))
        assert caught.value.reason == "TOO_MANY_TOKENS"


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
