"""Damaged messages to every method of other systems: each has a canonical answer."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.serving import Server, ServerProcess
from unitvec_protos.inference import inference_pb2
from unitvec_protos.tei import tei_pb2
from unitvec_protos.v1 import embedding_pb2 as pb

Code = grpc.StatusCode
CANONICAL = {Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND}
FILES = (tei_pb2.DESCRIPTOR, inference_pb2.DESCRIPTOR)
METHODS = [
    method
    for file in FILES
    for service in file.services_by_name.values()
    for method in service.methods
]


def infer_requests() -> Iterator[Message]:
    """Texts in both forms, and token ids."""
    raw = struct.pack("<I", 5) + b"a cat" + struct.pack("<I", 0)
    texts = inference_pb2.ModelInferRequest(id="1", raw_input_contents=[raw])
    texts.inputs.add(name="text", datatype="BYTES", shape=[2, 1])
    texts.parameters["dimensions"].int64_param = 8
    yield texts
    ids = inference_pb2.ModelInferRequest()
    for name in ("input_ids", "attention_mask"):
        tensor = ids.inputs.add(name=name, datatype="INT64", shape=[1, 3])
        tensor.contents.int64_contents.extend([1, 1, 1])
    yield ids


VALID: dict[str, list[Message]] = {
    "EmbedRequest": [
        tei_pb2.EmbedRequest(inputs="a cat", truncate=True, normalize=False, dimensions=8)
    ],
    "EncodeRequest": [tei_pb2.EncodeRequest(inputs="a cat", add_special_tokens=True)],
    "DecodeRequest": [tei_pb2.DecodeRequest(ids=[1, 2, 3])],
    "ModelInferRequest": list(infer_requests()),
}


@pytest.fixture(scope="module")
def under_fire(artifact: Path) -> Iterator[Server]:
    """One server for all of it: what harms it once shows in the next case."""
    process = ServerProcess("--model", str(artifact))
    try:
        server = Server(process)
        yield server
        server.channel.close()
        assert process.stop() == 0
        assert "Traceback" not in "".join(process.output)
    finally:
        process.stop(9)


@st.composite
def damaged(draw: st.DrawFn, method: MethodDescriptor) -> bytes:
    """A valid message with a few bytes changed, lost or put in; or any bytes."""
    valid = VALID.get(method.input_type.name)
    if valid is None or draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=64))
    body = bytearray(draw(st.sampled_from(valid)).SerializeToString())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(body)


def outcome(server: Server, method: MethodDescriptor, body: bytes) -> Any:
    """The status of a call with this message."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    try:
        if method.client_streaming:
            list(server.channel.stream_stream(path)(iter([body]), timeout=60))
        else:
            server.channel.unary_unary(path)(body, timeout=60)
    except grpc.RpcError as exc:
        return exc.code()
    return Code.OK


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_valid_messages_are_answered(under_fire: Server, method: MethodDescriptor) -> None:
    """What the damage starts from."""
    for message in VALID.get(method.input_type.name, []):
        assert outcome(under_fire, method, message.SerializeToString()) is Code.OK


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_damaged_ones_have_a_canonical_answer(under_fire: Server, method: MethodDescriptor) -> None:
    @settings(max_examples=40)
    @given(body=damaged(method))
    def attack(body: bytes) -> None:
        assert outcome(under_fire, method, body) in CANONICAL

    attack()
    assert under_fire.stub.Embed(pb.EmbedRequest(texts=["a cat"])).embeddings.rows == 1
