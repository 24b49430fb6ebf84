"""What no honest client sends, as Hypothesis strategies: bytes, messages, field values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from unitvec_protos.v1 import embedding_pb2 as pb

METHODS: tuple[MethodDescriptor, ...] = tuple(
    pb.DESCRIPTOR.services_by_name["EmbeddingService"].methods
)
_KINDS = FieldDescriptor
_MOST_REPEATED, _MOST_MESSAGES = 4, 4
_PAIR = {"texts": {"texts": ["a cat on a mat", "a feline on a rug"]}}
_VECTORS = {"vectors": {"rows": 2, "dim": 2, "dtype": "DTYPE_FLOAT32", "values": [1, 0, 0, 1]}}
VALID: dict[str, list[dict[str, Any]]] = {
    "EmbedRequest": [
        {"texts": ["a cat", ""]},
        {
            "texts": ["a cat"],
            "options": {"dimensions": 8, "truncate": "TRUNCATE_START", "normalize": False},
            "dtype": "DTYPE_INT8",
        },
    ],
    "StreamEmbedRequest": [{"id": "1", "request": {"texts": ["a cat", "a dog"]}}],
    "SimilarityRequest": [
        {"cross": {"queries": _PAIR, "documents": _PAIR, "topK": 1}},
        {"pairs": {"a": _VECTORS, "b": _VECTORS}, "metric": "METRIC_EUCLIDEAN"},
    ],
    "StreamSimilarityRequest": [
        {"id": "1", "setup": {"metric": "METRIC_DOT"}},
        {"id": "2", "documents": _PAIR},
        {"id": "3", "query": {"queries": _PAIR, "topK": 1}},
    ],
    "TokenizeRequest": [{"texts": ["a cat", ""]}],
    "GetCanaryRequest": [{}],
    "ListModelsRequest": [{}],
}
"""Messages of each request type that are answered well; a test holds this to the contract."""


@dataclass(frozen=True)
class Case:
    """One call.

    Attributes:
        method: Which method.
        bodies: Bytes of its messages, one for a unary method.
    """

    method: MethodDescriptor
    bodies: tuple[bytes, ...]


@cache
def valid_bodies(name: str) -> tuple[bytes, ...]:
    """Bytes of the valid messages of this request type."""
    return tuple(to_message(name, form).SerializeToString() for form in VALID[name])


def to_message(name: str, form: dict[str, Any]) -> Message:
    """A message of this type from its JSON form."""
    return json_format.ParseDict(form, GetMessageClass(pb.DESCRIPTOR.message_types_by_name[name])())


def random_bytes() -> st.SearchStrategy[Case]:
    """Any bytes to any method."""
    return _cases(lambda _: st.binary(max_size=200))


def mutated_messages() -> st.SearchStrategy[Case]:
    """Valid messages with a few bytes changed, lost, doubled or put in."""
    return _cases(lambda method: _mutated(method.input_type.name))


def field_values() -> st.SearchStrategy[Case]:
    """Well-formed messages whose fields have any values."""
    return _cases(lambda method: messages(method.input_type).map(_to_bytes))


def _to_bytes(message: Message) -> bytes:
    return message.SerializeToString()


@st.composite
def _cases(draw: st.DrawFn, bodies: Any) -> Case:
    method = draw(st.sampled_from(METHODS))
    if not method.client_streaming:
        return Case(method, (draw(bodies(method)),))
    valid = st.sampled_from(valid_bodies(method.input_type.name))
    body = st.one_of(bodies(method), valid)
    return Case(method, tuple(draw(st.lists(body, max_size=_MOST_MESSAGES))))


@st.composite
def _mutated(draw: st.DrawFn, name: str) -> bytes:
    body = bytearray(draw(st.sampled_from(valid_bodies(name))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        kind = draw(st.sampled_from(("set", "cut", "insert", "double")))
        if kind == "set" and at < len(body):
            body[at] = draw(st.integers(0, 255))
        elif kind == "cut":
            del body[at : at + draw(st.integers(1, 8))]
        elif kind == "insert":
            body[at:at] = draw(st.binary(min_size=1, max_size=8))
        else:
            body[at:at] = body[at : at + 16]
    return bytes(body)


@cache
def messages(descriptor: Descriptor) -> st.SearchStrategy[Message]:
    """Messages of this type: some fields set, to anything that their types can hold."""
    # A map is a message of its own on the wire; none is in a request.
    fields = {field.name: _values(field) for field in descriptor.fields}
    build = GetMessageClass(descriptor)
    return st.fixed_dictionaries({}, optional=fields).map(
        lambda values: build(**_one_of_each_oneof(descriptor, values))
    )


def _one_of_each_oneof(descriptor: Descriptor, values: dict[str, Any]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for name, value in values.items():
        oneof = descriptor.fields_by_name[name].containing_oneof
        if oneof is None or not any(field.name in chosen for field in oneof.fields):
            chosen[name] = value
    return chosen


@cache
def _values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    one = messages(field.message_type) if field.message_type else _scalars(field)
    return st.lists(one, max_size=_MOST_REPEATED) if field.is_repeated else one


def _scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.type == _KINDS.TYPE_STRING:
        return _strings()
    if field.type == _KINDS.TYPE_BYTES:
        return st.one_of(
            st.binary(max_size=64), st.sampled_from([bytes(16), b"\x00\x00\xc0\x7f" * 4])
        )
    if field.type in (_KINDS.TYPE_FLOAT, _KINDS.TYPE_DOUBLE):
        return st.floats(width=32)
    if field.type == _KINDS.TYPE_BOOL:
        return st.booleans()
    if field.type == _KINDS.TYPE_ENUM:
        return st.one_of(st.integers(0, 6), st.sampled_from([-1, 2**31 - 1]))
    edges = st.sampled_from([2**31 - 1, 2**32 - 1])
    return st.one_of(st.integers(0, 8), edges)


def _strings() -> st.SearchStrategy[str]:
    """Any Unicode but lone surrogates, which protobuf itself refuses; some of it long."""
    plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
    tricky = st.sampled_from(HOSTILE_TEXTS)
    return st.one_of(plain, tricky)


HOSTILE_TEXTS: tuple[str, ...] = (
    "",
    " ",
    "\0",
    "\r\n\x1b[31m",
    "\ufeff\u202e\u200b",
    "e" + "\u0301" * 200,
    "\U0001f469\u200d\U0001f469\u200d\U0001f467" * 20,
    "\U0010ffff",
    "\ufdfa" * 60,
    "x" * 5_000,
    "a " * 3_000,
    "漢" * 2_000,
    "[CLS] [SEP] [PAD] [MASK] [UNK]",
    "%s{0}${jndi:x}../../etc/passwd",
    "0" * 1_000,
    "\u0085\u2028\u2029" * 100,
)
"""Texts that once broke some tokenizer, logger or terminal."""
