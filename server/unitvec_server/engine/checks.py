"""The limits of one request, held against its texts before any work is done on them."""

from __future__ import annotations

from collections.abc import Sequence

from unitvec_server.engine.requests import Limits
from unitvec_server.errors import InvalidRequest, RequestError

_ID_BYTES = 4
"""Bytes that a token id counts for: a token of English prose has about as many."""


Failures = dict[int, RequestError]
"""Errors of texts by their indices. Where a check is given one, texts fail one by one."""


def check_texts(
    texts: Sequence[str], *, field: str, limits: Limits, failures: Failures | None = None
) -> list[int]:
    """Holds texts against the limits: the size of each in bytes.

    Raises:
        InvalidRequest: There are none, too many, or one is too long and may not fail alone.
    """
    _check_count(len(texts), "texts", field=field, limits=limits)
    sizes_bytes = [len(text) if text.isascii() else len(text.encode()) for text in texts]
    bound = limits.max_text_bytes
    if max(sizes_bytes) > bound:
        for index, size_bytes in enumerate(sizes_bytes):
            if size_bytes > bound:
                what = f"{size_bytes} bytes"
                _refuse(_too_large(f"{field}[{index}]", what, bound), index, failures)
    return sizes_bytes


def check_ids(
    rows: Sequence[Sequence[int]],
    *,
    field: str,
    limits: Limits,
    vocabulary_size: int,
    failures: Failures | None = None,
) -> list[int]:
    """Holds texts that are given as token ids against the limits: about the bytes of each.

    Raises:
        InvalidRequest: There are none, too many, or one that may not fail alone is too long or has
            an id that is no token's.
    """
    _check_count(len(rows), "lists of token ids", field=field, limits=limits)
    bound = limits.max_text_bytes  # a byte may be a token
    for index, ids in enumerate(rows):
        name = f"{field}[{index}]"
        if len(ids) > bound:
            _refuse(_too_large(name, f"{len(ids)} token ids", bound), index, failures)
        elif len(ids) and not (min(ids) >= 0 and max(ids) < vocabulary_size):
            _refuse(_foreign_id(ids, name, vocabulary_size), index, failures)
    return [_ID_BYTES * len(ids) for ids in rows]


def _refuse(error: RequestError, index: int, failures: Failures | None) -> None:
    if failures is None:
        raise error
    failures[index] = error


def _too_large(field: str, what: str, bound: int) -> InvalidRequest:
    return InvalidRequest(
        f"{field} has {what}; the limit max_text_bytes is {bound}",
        reason="TEXT_TOO_LARGE",
        field=field,
    )


def _foreign_id(ids: Sequence[int], field: str, vocabulary_size: int) -> InvalidRequest:
    place = next(i for i, number in enumerate(ids) if not 0 <= number < vocabulary_size)
    return InvalidRequest(
        f"{field}[{place}] is {ids[place]}; the token ids of this model are from 0 to "
        f"{vocabulary_size - 1}; split texts with its own tokenizer, or send the texts",
        reason="UNKNOWN_TOKEN_ID",
        field=f"{field}[{place}]",
    )


def _check_count(count: int, what: str, *, field: str, limits: Limits) -> None:
    if not count:
        raise InvalidRequest(
            f"{field} is empty; send at least one text", reason="NO_TEXTS", field=field
        )
    if count > limits.max_texts_per_request:
        raise InvalidRequest(
            f"{field} has {count} {what}; the limit max_texts_per_request is "
            f"{limits.max_texts_per_request}; split the request",
            reason="TOO_MANY_TEXTS",
            field=field,
        )
