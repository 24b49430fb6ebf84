"""Calls that must be answered in one way, whatever changes: a table that only grows.

Each entry is a message that a fuzzer, a bug report or a bad day came up with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc

from tests.chaos.strategies import HOSTILE_TEXTS, METHODS, Case, to_message, valid_bodies

_OK, _WRONG = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT
_FOUND_NOT = grpc.StatusCode.NOT_FOUND
_METHODS = {method.name: method for method in METHODS}
_MOST = 2**32 - 1


@dataclass(frozen=True)
class Hostile:
    """A call and the status that it is owed.

    Attributes:
        name: What it is.
        case: The call.
        code: Its status.
    """

    name: str
    case: Case
    code: grpc.StatusCode


def _bytes(name: str, method: str, *bodies: bytes, code: grpc.StatusCode = _WRONG) -> Hostile:
    return Hostile(name, Case(_METHODS[method], bodies), code)


def _form(name: str, method: str, form: dict[str, Any], code: grpc.StatusCode) -> Hostile:
    body = to_message(_METHODS[method].input_type.name, form).SerializeToString()
    return _bytes(name, method, body, code=code)


def _vectors(**matrix: Any) -> dict[str, Any]:
    good = {"vectors": {"rows": 1, "dim": 1, "values": [1.0]}}
    return {"pairs": {"a": {"vectors": matrix}, "b": good}}


_VALID_EMBED = valid_bodies("EmbedRequest")[0]
_VALID_STREAM = valid_bodies("StreamEmbedRequest")[0]

HOSTILE: tuple[Hostile, ...] = (
    _bytes("no bytes", "Embed", b""),
    _bytes("a tag without a value", "Embed", b"\x0a"),
    _bytes("a length beyond the end", "Embed", b"\x12\x7fab"),
    _bytes("the longest length", "Embed", b"\x12\xff\xff\xff\xff\x0f"),
    _bytes("a negative length", "Embed", b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
    _bytes("a varint without an end", "Embed", b"\x20" + b"\xff" * 11),
    _bytes("field number 0", "Embed", b"\x00\x00"),
    _bytes("groups in groups", "Embed", b"\x0b" * 200),
    _bytes("a group that ends only", "Embed", b"\x0c"),
    _bytes("no UTF-8", "Embed", b"\x12\x02\xff\xfe"),
    _bytes("half a surrogate pair", "Embed", b"\x12\x03\xed\xa0\x80"),
    _bytes("an overlong NUL", "Embed", b"\x12\x02\xc0\x80"),
    _bytes("unknown fields beside known ones", "Embed", _VALID_EMBED + b"\xfa\x3e\x01x", code=_OK),
    _bytes("the same request twice over", "Embed", _VALID_EMBED * 2, code=_OK),
    _bytes("an empty stream", "StreamEmbed", code=_OK),
    _bytes("an empty search", "StreamSimilarity", code=_OK),
    _bytes("an empty message in a stream", "StreamEmbed", b"", _VALID_STREAM, code=_OK),
    _bytes("one id many times", "StreamEmbed", *[_VALID_STREAM] * 50, code=_OK),
    _bytes("no message amid a stream", "StreamEmbed", _VALID_STREAM, b"\x0a", _VALID_STREAM),
    _bytes("setups only", "StreamSimilarity", b"\x12\x00", b"\x12\x00", b"\x12\x00", code=_OK),
    _form("many empty texts", "Embed", {"texts": [""] * 2048}, _OK),
    _form("one text too many", "Embed", {"texts": [""] * 2049}, _WRONG),
    _form("a text too long", "Embed", {"texts": ["x" * 262_145]}, _WRONG),
    _form("the longest text", "Embed", {"texts": ["x" * 262_144]}, _OK),
    _form("all hostile texts", "Embed", {"texts": list(HOSTILE_TEXTS)}, _OK),
    _form("all hostile texts, in tokens", "Tokenize", {"texts": list(HOSTILE_TEXTS)}, _OK),
    _form("a path for a model", "Embed", {"texts": ["a"], "model": "../../etc"}, _FOUND_NOT),
    _form("NUL in a model", "Embed", {"texts": ["a"], "model": "\0"}, _FOUND_NOT),
    _form("an enum from the future", "Embed", {"texts": ["a"], "dtype": 99}, _WRONG),
    _form("a negative enum", "Embed", {"texts": ["a"], "dtype": -1}, _WRONG),
    _form(
        "more dimensions than there are",
        "Embed",
        {"texts": ["a"], "options": {"dimensions": _MOST}},
        _WRONG,
    ),
    _form("no comparison", "Similarity", {}, _WRONG),
    _form("empty sides", "Similarity", {"pairs": {"a": {}, "b": {}}}, _WRONG),
    _form("rows times dim overflows", "Similarity", _vectors(rows=_MOST, dim=_MOST), _WRONG),
    _form("rows times dim is 2**64", "Similarity", _vectors(rows=2**31, dim=2**31), _WRONG),
    _form("a matrix of nothing", "Similarity", _vectors(rows=0, dim=0, data=""), _WRONG),
    _form("NaN", "Similarity", _vectors(rows=1, dim=1, values=["NaN"]), _WRONG),
    _form("infinity", "Similarity", _vectors(rows=1, dim=1, values=["-Infinity"]), _WRONG),
    _form("half a value", "Similarity", _vectors(rows=1, dim=1, data="AAA="), _WRONG),
    _form(
        "bytes and values",
        "Similarity",
        _vectors(rows=1, dim=1, data="AAAAAA==", values=[1]),
        _WRONG,
    ),
)
