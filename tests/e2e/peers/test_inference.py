"""The Open Inference Protocol: what Triton's clients expect, our own vectors, typed errors."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.e2e.faulty_server import HOLD, text
from tests.e2e.peers.conftest import read_metric, refusal
from tests.serving import Server, serving
from unitvec_protos import __version__
from unitvec_protos.inference import inference_pb2, inference_pb2_grpc
from unitvec_protos.v1 import embedding_pb2 as pb

Code = grpc.StatusCode
Start = Callable[..., Server]
LONG = " ".join(f"{number} apples" for number in range(100))  # the model takes 64 tokens
TEXTS = ["a cat on a mat", "", "ein Kätzchen 🙂"]


def stub_of(server: Server) -> inference_pb2_grpc.GRPCInferenceServiceStub:
    return inference_pb2_grpc.GRPCInferenceServiceStub(server.channel)


def ask(*texts: str, **fields: Any) -> inference_pb2.ModelInferRequest:
    """A request as tritonclient makes it."""
    parts = [text.encode() for text in texts]
    raw = b"".join(struct.pack("<I", len(part)) + part for part in parts)
    parameters = fields.pop("parameters", {})
    request = inference_pb2.ModelInferRequest(raw_input_contents=[raw], **fields)
    request.inputs.add(name="text", datatype="BYTES", shape=[len(texts), 1])
    for name, value in parameters.items():
        kind = {bool: "bool", int: "int64", str: "string"}[type(value)]
        setattr(request.parameters[name], f"{kind}_param", value)
    return request


@pytest.fixture
def infer(prompted_server: Server) -> Callable[..., inference_pb2.ModelInferResponse]:
    stub = stub_of(prompted_server)
    return lambda *texts, **fields: stub.ModelInfer(ask(*texts, **fields))


class TestInfer:
    @pytest.mark.parametrize(
        ("parameters", "options"),
        [
            ({}, {}),
            ({"normalize": False, "dimensions": 8}, {"normalize": False, "dimensions": 8}),
            ({"prompt_name": "passage"}, {"prompt_name": "passage"}),
            ({"truncate": "start"}, {"truncate": pb.TRUNCATE_START}),
        ],
        ids=str,
    )
    def test_vectors_are_ours_to_the_last_bit(
        self,
        prompted_server: Server,
        infer: Any,
        parameters: dict[str, Any],
        options: dict[str, Any],
    ) -> None:
        texts = [*TEXTS, LONG]
        request = pb.EmbedRequest(texts=texts, options=pb.EncodeOptions(**options))
        expected = prompted_server.stub.Embed(request)
        reply = infer(*texts, parameters=parameters, id="seven")
        [output], [data] = reply.outputs, reply.raw_output_contents
        assert data == expected.embeddings.data
        assert (output.name, output.datatype) == ("embedding", "FP32")
        assert list(output.shape) == [len(texts), expected.embeddings.dim]
        assert (reply.id, reply.model_name, reply.model_version) == ("seven", expected.model, "1")
        assert reply.parameters["total_tokens"].int64_param == expected.usage.total_tokens
        assert reply.parameters["truncated_texts"].int64_param == 1
        [left_out] = expected.usage.left_out_tokens
        assert reply.parameters["left_out_tokens"].int64_param == left_out
        assert reply.parameters["space"].string_param == expected.space
        assert reply.parameters["bits"].string_param == expected.bits

    def test_token_ids_in_place_of_texts(self, prompted_server: Server) -> None:
        """Padded, with a mask; the prompt is before them as before texts."""
        split = prompted_server.stub.Tokenize(pb.TokenizeRequest(texts=TEXTS, prompt_name=""))
        rows = [list(each.ids) for each in split.texts]
        width = max(map(len, rows))
        ids = np.array([row + [0] * (width - len(row)) for row in rows], "<i8")
        mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows], "<i8")
        request = inference_pb2.ModelInferRequest(
            raw_input_contents=[ids.tobytes(), mask.tobytes()]
        )
        for name in ("input_ids", "attention_mask"):
            request.inputs.add(name=name, datatype="INT64", shape=ids.shape)
        request.parameters["prompt_name"].string_param = ""
        options = pb.EncodeOptions(prompt_name="")
        expected = prompted_server.stub.Embed(pb.EmbedRequest(texts=TEXTS, options=options))
        [data] = stub_of(prompted_server).ModelInfer(request).raw_output_contents
        assert data == expected.embeddings.data

    def test_the_output_has_the_name_that_was_asked_for(self, infer: Any) -> None:
        wanted = inference_pb2.ModelInferRequest.InferRequestedOutputTensor(name="mine")
        assert infer("a", outputs=[wanted]).outputs[0].name == "mine"

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"model_name": "nope"}, (Code.NOT_FOUND, "MODEL_NOT_FOUND", "model")),
            ({"model_version": "2"}, (Code.NOT_FOUND, "MODEL_NOT_FOUND", "version")),
            (
                {"parameters": {"truncate": "error"}},
                (Code.INVALID_ARGUMENT, "TEXT_TOO_LONG", "inputs[0][0]"),
            ),
            (
                {"parameters": {"prompt_name": "nope"}},
                (Code.INVALID_ARGUMENT, "UNKNOWN_PROMPT", "parameters[prompt_name]"),
            ),
            (
                {"parameters": {"dimensions": 33}},
                (Code.INVALID_ARGUMENT, "DIMENSIONS_TOO_LARGE", "parameters[dimensions]"),
            ),
        ],
        ids=str,
    )
    def test_bad_requests(
        self, infer: Any, fields: dict[str, Any], expected: tuple[Any, ...]
    ) -> None:
        assert refusal(lambda: infer(LONG, **fields))[:3] == expected

    def test_more_texts_than_the_limit(self, infer: Any) -> None:
        assert refusal(lambda: infer(*["a"] * 2049)).reason == "TOO_MANY_TEXTS"

    def test_no_texts(self, infer: Any) -> None:
        assert refusal(infer).reason == "NO_TEXTS"

    def test_a_negative_token_id(self, prompted_server: Server) -> None:
        request = inference_pb2.ModelInferRequest()
        tensor = request.inputs.add(name="input_ids", datatype="INT64", shape=[1, 2])
        tensor.contents.int64_contents.extend([5, -1])
        found = refusal(lambda: stub_of(prompted_server).ModelInfer(request))
        assert found[:3] == (Code.INVALID_ARGUMENT, "UNKNOWN_TOKEN_ID", "inputs[0][0][1]")

    def test_the_timeout_is_a_deadline(self, start_faulty: Start, release: Path) -> None:
        server = start_faulty("--workers", "1")
        blocker = server.stub.Embed.future(pb.EmbedRequest(texts=[text(HOLD)]))
        server.process.wait_for_log("on hold")
        call = stub_of(server).ModelInfer.future(ask("a", parameters={"timeout": 100_000}))
        with pytest.raises(grpc.FutureTimeoutError):
            call.result(timeout=0.5)
        release.touch()
        assert refusal(call.result).code is Code.DEADLINE_EXCEEDED
        assert blocker.result().embeddings.rows == 1


class TestStream:
    def test_replies_come_in_order_and_errors_by_request(self, prompted_server: Server) -> None:
        requests = [ask(f"text {number}", id=str(number)) for number in range(100)]
        requests[7] = ask("a", id="bad", model_name="nope")
        replies = list(stub_of(prompted_server).ModelStreamInfer(iter(requests)))
        bad = replies.pop(7)
        assert "no model 'nope'" in bad.error_message
        assert bad.infer_response.id == "bad"
        assert bad.infer_response.parameters["code"].string_param == "NOT_FOUND"
        assert bad.infer_response.parameters["reason"].string_param == "MODEL_NOT_FOUND"
        assert not any(reply.error_message for reply in replies)
        assert [reply.infer_response.id for reply in replies] == [
            str(number) for number in range(100) if number != 7
        ]
        texts = [f"text {number}" for number in range(100) if number != 7]
        expected = prompted_server.stub.Embed(pb.EmbedRequest(texts=texts)).embeddings.data
        assert (
            b"".join(reply.infer_response.raw_output_contents[0] for reply in replies) == expected
        )
        assert all(
            reply.infer_response.parameters["triton_final_response"].bool_param for reply in replies
        )

    def test_what_is_read_is_bounded(self, start_faulty: Start, release: Path) -> None:
        server = start_faulty("--workers", "1", "--metrics-port", "0")
        requests = iter([ask(text(HOLD)), *(ask(f"text {number}") for number in range(500))])
        replies = stub_of(server).ModelStreamInfer(requests)
        server.process.wait_for_log("on hold")

        def received() -> float:
            name = "grpc_server_msg_received_total"
            return read_metric(server, name, grpc_method="ModelStreamInfer")

        while received() < 64:
            pass
        assert {stub_of(server).ServerLive(inference_pb2.ServerLiveRequest()).live} == {True}
        assert received() == 64
        release.touch()
        assert len(list(replies)) == 501


class TestModels:
    @pytest.fixture
    def name(self, prompted_artifact: Path) -> str:
        return prompted_artifact.name

    def test_server(self, prompted_server: Server) -> None:
        stub = stub_of(prompted_server)
        assert stub.ServerLive(inference_pb2.ServerLiveRequest()).live
        assert stub.ServerReady(inference_pb2.ServerReadyRequest()).ready
        found = stub.ServerMetadata(inference_pb2.ServerMetadataRequest())
        assert (found.name, found.version) == ("unitvec", __version__)

    def test_ready(self, prompted_server: Server, name: str) -> None:
        ready = stub_of(prompted_server).ModelReady
        request = inference_pb2.ModelReadyRequest
        assert ready(request(name=name, version="1")).ready
        assert not ready(request(name=name, version="2")).ready
        assert not ready(request(name="nope")).ready

    def test_config_and_metadata_agree(self, prompted_server: Server, name: str) -> None:
        """As tools put shapes together: the texts of a batch, then what the configuration says."""
        stub = stub_of(prompted_server)
        metadata = stub.ModelMetadata(inference_pb2.ModelMetadataRequest(name=name))
        config = stub.ModelConfig(inference_pb2.ModelConfigRequest(name=name)).config
        [given], [made] = metadata.inputs, metadata.outputs
        assert (metadata.name, list(metadata.versions)) == (name, ["1"])
        assert (given.name, given.datatype, list(given.shape)) == ("text", "BYTES", [-1, 1])
        assert (made.name, made.datatype, list(made.shape)) == ("embedding", "FP32", [-1, 32])
        assert config.max_batch_size == 2048
        assert [-1, *config.input[0].dims] == list(given.shape)
        assert [-1, *config.output[0].dims] == list(made.shape)
        assert (config.input[0].name, config.output[0].name) == (given.name, made.name)
        assert config.input[0].data_type == inference_pb2.TYPE_STRING
        assert config.output[0].data_type == inference_pb2.TYPE_FP32
        assert not config.model_transaction_policy.decoupled
        assert config.WhichOneof("scheduling_choice") == "dynamic_batching"

    def test_index(self, prompted_server: Server, name: str) -> None:
        index = stub_of(prompted_server).RepositoryIndex
        [model] = index(inference_pb2.RepositoryIndexRequest(ready=True)).models
        assert (model.name, model.version, model.state) == (name, "1", "READY")

    def test_statistics_count_every_door(self, artifact: Path) -> None:
        with serving("--model", f"a={artifact}", "--model", f"b={artifact}") as server:
            stub = stub_of(server)
            server.stub.Embed(pb.EmbedRequest(model="b", texts=["one", "two"]))
            stub.ModelInfer(ask("three", "one", model_name="b"))
            reply = stub.ModelStatistics(inference_pb2.ModelStatisticsRequest())
            idle, busy = reply.model_stats
            assert (idle.name, idle.inference_count, idle.last_inference) == ("a", 0, 0)
            assert (busy.name, busy.inference_count) == ("b", 4)
            assert 0 < busy.execution_count <= 4
            assert busy.last_inference > 1_700_000_000_000
            stats = busy.inference_stats
            assert stats.success.count == stats.queue.count == stats.compute_infer.count == 2
            parts = stats.queue.ns + stats.compute_input.ns + stats.compute_infer.ns
            assert abs(stats.success.ns - parts) <= 3
            request = inference_pb2.ModelStatisticsRequest(name="b")
            assert [each.name for each in stub.ModelStatistics(request).model_stats] == ["b"]


@pytest.mark.parametrize("name", ["RepositoryModelLoad", "SystemSharedMemoryStatus", "LogSettings"])
def test_what_is_not_served_says_so(prompted_server: Server, name: str) -> None:
    path = f"/inference.GRPCInferenceService/{name}"
    found = refusal(lambda: prompted_server.channel.unary_unary(path)(b""))
    assert (found.code, found.reason) == (Code.UNIMPLEMENTED, "NOT_SERVED")


def test_health_has_the_service(prompted_server: Server) -> None:
    request = health_pb2.HealthCheckRequest(service="inference.GRPCInferenceService")
    health = health_pb2_grpc.HealthStub(prompted_server.channel)
    assert health.Check(request).status == health_pb2.HealthCheckResponse.SERVING


def test_it_can_be_turned_off(artifact: Path) -> None:
    with serving("--model", str(artifact), "--grpc-oip", "false") as server:
        with pytest.raises(grpc.RpcError) as caught:
            stub_of(server).ServerLive(inference_pb2.ServerLiveRequest())
        assert caught.value.code() is Code.UNIMPLEMENTED
