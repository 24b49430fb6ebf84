"""Digests of what a model is made of, and the record of them in a manifest.

`docs/identity.md` defines them, so that others can compute them; a test holds a small program that
shares no code with this one against it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

_EXACT_INTEGERS = 2**53
_WITHOUT_EFFECT = ("version", "truncation", "padding", "decoder")
"""Parts of a `tokenizer.json` that do not take part in turning a text into ids."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """What an artifact's vectors come from, as far as the artifact itself cannot show it.

    Attributes:
        space: Fingerprint of the space at export, for people; a server computes it anew.
        weights: Digest of the model's tensors, by value.
        architecture: Kind of transformer, and its settings that are not the defaults of the kind.
        tokenizer: Digest of the tokenizer, by what it does.
        tokenizer_sha256: SHA-256 of the `tokenizer.json` that this digest is of.
        pipeline: What becomes of token vectors, step by step.
        bits: Fingerprints of the graphs whose bits are the same on all machines, by precision.
    """

    space: str
    weights: str
    architecture: Mapping[str, Any]
    tokenizer: str
    tokenizer_sha256: str
    pipeline: Sequence[Mapping[str, Any]]
    bits: Mapping[str, str] = dataclasses.field(default_factory=dict)


def canonical(value: Any) -> bytes:
    """Writes JSON in the one form that is hashed.

    Keys are sorted by code point and nothing stands between tokens. Strings are UTF-8, escaped as
    in RFC 8785. A number that is whole and below 2^53 in magnitude is written as an integer; any
    other as a string of 16 hex digits, the big-endian bytes of its IEEE 754 binary64.
    """
    text = json.dumps(_plain(value), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode()


def digest(value: Any) -> str:
    """Hex SHA-256 of a JSON value in its canonical form."""
    return hashlib.sha256(canonical(value)).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        is_integer = value.is_integer() and abs(value) < _EXACT_INTEGERS
        return int(value) if is_integer else struct.pack(">d", value).hex()
    return value


def tokenizer_digest(text: str) -> str:
    """Digest of a `tokenizer.json` by what it does to a text.

    Releases of the library write the same tokenizer in several ways, which count as one: parts
    without effect are left out, and so are options at the value that they had before they existed.
    """
    whole = {key: val for key, val in json.loads(text).items() if key not in _WITHOUT_EFFECT}
    whole["added_tokens"] = sorted(whole.get("added_tokens") or [], key=lambda token: token["id"])
    whole["post_processor"] = _template(whole.get("post_processor"), ["A"])
    whole["model"] = _model(whole["model"])
    return digest(_without_nulls(whole))


def _model(model: Mapping[str, Any]) -> dict[str, Any]:
    """The model without options that are off; merges as pairs."""
    kept = {key: val for key, val in model.items() if val is not False and val != ""}
    if "merges" in kept:
        kept["merges"] = [
            pair.split(" ") if isinstance(pair, str) else pair for pair in kept["merges"]
        ]
    return kept


def _template(processor: Mapping[str, Any] | None, inner: list[Any]) -> list[Any]:
    """What stands around the ids of one text "A": ids of special tokens before and after it."""
    kind = processor["type"] if processor else "ByteLevel"
    if processor is None or kind == "ByteLevel":  # which only moves offsets
        return inner
    if kind in ("BertProcessing", "RobertaProcessing"):
        return [processor["cls"][1], *inner, processor["sep"][1]]
    if kind == "Sequence":
        for step in processor["processors"]:
            inner = _template(step, inner)
        return inner
    if kind != "TemplateProcessing":
        return [*inner, processor]
    ids = {name: token["ids"] for name, token in processor["special_tokens"].items()}
    parts = [
        inner if "Sequence" in piece else ids[piece["SpecialToken"]["id"]]
        for piece in processor["single"]
    ]
    return [item for part in parts for item in part]


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
