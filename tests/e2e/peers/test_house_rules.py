"""What holds at our own door holds at those of other systems: tokens, limits, metrics, the log."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.e2e.faulty_server import HOLD, text
from tests.e2e.peers.conftest import read_metric, refusal
from tests.serving import Server
from unitvec_protos.inference import inference_pb2, inference_pb2_grpc
from unitvec_protos.tei import tei_pb2, tei_pb2_grpc
from unitvec_protos.v1 import embedding_pb2 as pb

Code = grpc.StatusCode
Start = Callable[..., Server]


def tei(server: Server, words: str = "a cat", **how: Any) -> object:
    stub = tei_pb2_grpc.EmbedStub(server.channel)
    return stub.Embed(tei_pb2.EmbedRequest(inputs=words), **how)


def inference(server: Server, words: str = "a cat", **how: Any) -> object:
    request = inference_pb2.ModelInferRequest()
    tensor = request.inputs.add(name="text", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(words.encode())
    stub = inference_pb2_grpc.GRPCInferenceServiceStub(server.channel)
    return stub.ModelInfer(request, **how)


CALLS = pytest.mark.parametrize("call", [tei, inference])


@CALLS
def test_a_token_is_asked_for(start: Start, artifact: Path, call: Any) -> None:
    server = start("--model", str(artifact), variables={"UNITVEC_TOKENS": "secret"})
    found = refusal(lambda: call(server))
    assert (found.code, found.reason) == (Code.UNAUTHENTICATED, "INVALID_TOKEN")
    assert call(server, metadata=(("authorization", "Bearer secret"),))


@CALLS
def test_overload_is_shed_with_a_delay(start_faulty: Start, release: Path, call: Any) -> None:
    """From the same queue as that of our own callers."""
    server = start_faulty("--max-queued-tokens", "60", "--workers", "1")
    held = server.stub.Embed.future(pb.EmbedRequest(texts=[text(HOLD)]))
    server.process.wait_for_log("on hold")
    with pytest.raises(grpc.RpcError) as caught:
        call(server, text(60))
    trailers = dict(caught.value.trailing_metadata())
    assert caught.value.code() is Code.RESOURCE_EXHAUSTED
    assert int(trailers["grpc-retry-pushback-ms"]) > 0
    release.touch()
    assert held.result().embeddings.rows == 1


@CALLS
def test_a_deadline_that_passes_in_the_queue(start_faulty: Start, release: Path, call: Any) -> None:
    server = start_faulty("--workers", "1")
    held = server.stub.Embed.future(pb.EmbedRequest(texts=[text(HOLD)]))
    server.process.wait_for_log("on hold")
    with pytest.raises(grpc.RpcError) as caught:
        call(server, timeout=0.2)
    assert caught.value.code() is Code.DEADLINE_EXCEEDED
    release.touch()
    assert held.result().embeddings.rows == 1


def test_calls_are_counted_and_logged(start: Start, artifact: Path) -> None:
    flags = ("--metrics-port", "0", "--log-level", "debug", "--cache-bytes", "1000000")
    server = start("--model", str(artifact), *flags)
    names = {"grpc_service": "tei.v1.Embed", "grpc_method": "Embed"}
    assert read_metric(server, "grpc_server_handled_total", **names) == 0
    tei(server)
    assert read_metric(server, "grpc_server_handled_total", **names, grpc_code="OK") == 1
    inference(server, metadata=(("x-request-id", "mine"),))
    assert read_metric(server, "unitvec_texts_total") == 2
    assert read_metric(server, "unitvec_cache_hits_total") == 1  # over either door the same text
    assert server.process.stop() == 0
    calls = [json.loads(line) for line in server.process.output if '"message": "call"' in line]
    [first, second] = [each for each in calls if each.get("texts")]
    assert (first["method"], first["code"]) == ("tei.v1.Embed/Embed", "OK")
    assert second["method"] == "inference.GRPCInferenceService/ModelInfer"
    assert second["request_id"] == "mine"
    assert first["tokens"] == second["tokens"] > 0
