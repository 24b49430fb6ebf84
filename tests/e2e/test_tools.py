"""Clients nobody here wrote find, describe and call the service by reflection alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

if TYPE_CHECKING:
    from tests.serving import Server

BUF = Path(sys.executable).with_name("buf")
SERVICE = "unitvec.v1.EmbeddingService"


@pytest.fixture
def buf_curl(minilm_server: Server) -> Callable[..., str]:
    """`buf curl` against the server; knows nothing of the .proto."""
    assert BUF.exists() or shutil.which("buf")

    def call(path: str = "", *args: str) -> str:
        command = [str(BUF), "curl", "--protocol", "grpc", "--http2-prior-knowledge", *args]
        url = f"http://{minilm_server.target}{path}"
        result = subprocess.run(
            [*command, url], capture_output=True, text=True, timeout=60, check=True
        )
        return result.stdout

    return call


@pytest.mark.parametrize("version", ["grpc-v1", "grpc-v1alpha"])
def test_list_describe_and_call(buf_curl: Callable[..., str], version: str) -> None:
    """Both versions of the reflection protocol."""
    protocol = ("--reflect-protocol", version)
    assert SERVICE in buf_curl("", *protocol, "--list-services").split()
    methods = buf_curl("", *protocol, "--list-methods").split()
    assert f"{SERVICE}/StreamSimilarity" in methods
    assert {"tei.v1.Embed/EmbedStream", "inference.GRPCInferenceService/ModelInfer"} <= {*methods}
    data = json.dumps({"texts": ["a cat on a mat"], "asList": True, "options": {"dimensions": 3}})
    reply = json.loads(buf_curl(f"/{SERVICE}/Embed", *protocol, "--data", data))
    assert len(reply["embeddings"]["values"]) == 3
    assert reply["model"] == "all-MiniLM-L6-v2"


def test_the_apis_of_others_are_described_with_comments(minilm_server: Server) -> None:
    """As tools show them to people."""
    request = reflection_pb2.ServerReflectionRequest
    stub = reflection_pb2_grpc.ServerReflectionStub(minilm_server.channel)
    for symbol in ("tei.v1.Embed", "inference.GRPCInferenceService"):
        [reply] = stub.ServerReflectionInfo(iter([request(file_containing_symbol=symbol)]))
        [data] = reply.file_descriptor_response.file_descriptor_proto
        file = descriptor_pb2.FileDescriptorProto.FromString(data)
        assert f"{file.package}.{file.service[-1].name}" in (symbol, "tei.v1.Tokenize")
        assert any(place.leading_comments for place in file.source_code_info.location)
