"""Hostile input to every method: answers and logs tell nothing that is not the caller's own.

Each call carries a marker of its own in every text it sends. No log line may hold any marker,
and no answer that of another call, a path, a type or a stack trace.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from tests.serving import Server
from unitvec_protos.v1 import embedding_pb2 as pb

TOKEN = "a-token-of-ours"
PLACE = "marker-000000"
MARKER = re.compile(rb"marker-\d{6}")
METHODS: tuple[MethodDescriptor, ...] = tuple(
    method
    for file in (pb, health_pb2, reflection_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
)

# What is valid, so that a hostile field is reached.
TEXTS = {"texts": {"texts": [PLACE, f"{PLACE} and more"]}}
VECTORS = {"vectors": {"rows": 1, "dim": 2, "dtype": "DTYPE_FLOAT32", "values": [1.0, 0.5]}}
VALID: dict[str, list[dict[str, Any]]] = {
    "EmbedRequest": [{"texts": [PLACE, f"{PLACE} and more"]}],
    "StreamEmbedRequest": [{"id": PLACE, "request": {"texts": [PLACE]}}],
    "SimilarityRequest": [
        {"cross": {"queries": TEXTS, "documents": TEXTS}},
        {"pairs": {"a": VECTORS, "b": VECTORS}},
    ],
    "StreamSimilarityRequest": [
        {"id": PLACE, "setup": {}},
        {"id": PLACE, "documents": TEXTS},
        {"id": PLACE, "query": {"queries": TEXTS}},
    ],
    "TokenizeRequest": [{"texts": [PLACE, ""]}],
    "GetCanaryRequest": [{}],
    "ListModelsRequest": [{}],
    "HealthCheckRequest": [{}, {"service": PLACE}],
    "ServerReflectionRequest": [{"listServices": PLACE}, {"fileContainingSymbol": PLACE}],
}
NOT_PROTOBUF = [b"\xff" * 9, b"\x0a", b"\x0a\x05ab", b"\x12\x02\xff\xfe", b"\x0b" * 200, b"\x00"]


def test_every_request_has_a_valid_form() -> None:
    """A new method must come into the table above."""
    assert {method.input_type.name for method in METHODS} == set(VALID)


def hostile_values(field: FieldDescriptor) -> list[Any]:
    """What no honest client puts into a field of this type."""
    kinds = FieldDescriptor
    if field.type == kinds.TYPE_STRING:
        return [PLACE, f"{PLACE}\0\r\n\x1b[31m", PLACE * 3000, f"../../{PLACE}", f"%s{{0}}{PLACE}"]
    if field.type == kinds.TYPE_BYTES:
        return [PLACE.encode(), b"\x00\x00\xc0\x7f" * 2, b"\xff" * 4099]
    if field.type in (kinds.TYPE_FLOAT, kinds.TYPE_DOUBLE):
        return [float("nan"), float("inf"), 3e38]
    if field.type == kinds.TYPE_BOOL:
        return [True]
    return [99, 2**31 - 1] if field.type == kinds.TYPE_ENUM else [0, 1, 2**31 - 1]


def variants(descriptor: Any) -> Iterator[Message]:
    """Messages with one hostile field each, whatever its depth."""
    for field in descriptor.fields:
        if field.message_type is None:
            values: Iterator[Any] = iter(hostile_values(field))
        else:
            empty = GetMessageClass(field.message_type)()
            values = itertools.chain([empty], variants(field.message_type))
        for value in values:
            message = GetMessageClass(descriptor)()
            if field.is_repeated:
                getattr(message, field.name).extend([value] * 3)
            elif field.message_type is not None:
                getattr(message, field.name).CopyFrom(value)
            else:
                setattr(message, field.name, value)
            yield message


@dataclass(frozen=True)
class Attack:
    """A call: its method, its messages and the marker in them."""

    method: MethodDescriptor
    messages: list[bytes]
    marker: bytes


def attacks() -> Iterator[Attack]:
    """Each method with each hostile field, with undecodable bytes, and with none at all."""
    numbers = itertools.count()
    for method in METHODS:
        bases = [
            json_format.ParseDict(base, GetMessageClass(method.input_type)())
            for base in VALID[method.input_type.name]
        ]
        valid = [base.SerializeToString() for base in bases]
        bodies = [[*valid[:-1], valid[-1] + bytes(raw)] for raw in NOT_PROTOBUF]
        bodies += [[raw] for raw in NOT_PROTOBUF]
        bodies += [valid, valid[::-1], valid * 2]
        for variant in variants(method.input_type):
            for base in bases:
                merged = type(base)()
                merged.CopyFrom(base)
                merged.MergeFrom(variant)
                bodies.append([*valid, merged.SerializeToString()])
        for body in bodies:
            # As long as what it replaces, for the lengths in the bytes to stay right.
            marker = b"marker-%06d" % next(numbers)
            yield Attack(method, [part.replace(PLACE.encode(), marker) for part in body], marker)


def answer_to(channel: grpc.Channel, attack: Attack) -> bytes:
    """All that the caller gets to see; the first reply of `Watch` is all there is."""
    streams_in, streams_out = attack.method.client_streaming, attack.method.server_streaming
    kind = f"{'stream' if streams_in else 'unary'}_{'stream' if streams_out else 'unary'}"
    path = f"/{attack.method.containing_service.full_name}/{attack.method.name}"
    body = iter(attack.messages) if streams_in else attack.messages[-1]
    header = (("authorization", f"Bearer {TOKEN}"),)
    call = getattr(channel, kind)(path)
    try:
        if not streams_out:
            return bytes(call(body, metadata=header, timeout=60))
        replies = call(body, metadata=header, timeout=60)
        if not streams_in:
            first = bytes(next(replies))
            replies.cancel()
            return first
        return b"".join(replies)
    except grpc.RpcError as exc:
        trailers = [value for _, value in exc.trailing_metadata() or ()]
        told = [exc.code().name, str(exc.details()), *trailers]
        return b"\n".join(each if isinstance(each, bytes) else each.encode() for each in told)


@pytest.fixture
def server(start: Callable[..., Server], artifact: Path) -> Server:
    """One that tells its log all it can."""
    return start(
        *("--model", str(artifact), "--log-level", "debug"), variables={"UNITVEC_TOKENS": TOKEN}
    )


def test_hostile_input_discloses_nothing(server: Server, artifact: Path) -> None:
    """Not to its caller, not to another, not to the log."""
    every = list(attacks())
    assert len(every) > 500
    insides = [str(artifact), sys.prefix, str(Path(__file__).parents[2]), "Traceback", ".py"]
    insides += ["<class", "object at 0x", "Error(", "Exception", TOKEN]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda attack: answer_to(server.channel, attack), every))
    assert sum(attack.marker in answer for attack, answer in zip(every, answers, strict=True)) > 99
    for attack, answer in zip(every, answers, strict=True):
        assert not answer.startswith((b"UNKNOWN", b"INTERNAL")), (attack, answer)
        assert set(MARKER.findall(answer)) <= {attack.marker}, (attack, answer)
        for inside in insides:
            assert inside.encode() not in answer, (attack, answer)
    assert server.process.stop() == 0
    log = "".join(server.process.output).encode()
    assert not MARKER.findall(log)
    assert TOKEN.encode() not in log
    assert b"Traceback" not in log
