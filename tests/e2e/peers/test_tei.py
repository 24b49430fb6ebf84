"""`tei.v1`: TEI's own behaviour, the vectors of our own contract to the last bit, typed errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tokenizers import Tokenizer

from tests.e2e.peers.conftest import refusal
from tests.serving import Server, serving
from unitvec_protos import __version__
from unitvec_protos.tei import tei_pb2, tei_pb2_grpc
from unitvec_protos.v1 import embedding_pb2 as pb

Code = grpc.StatusCode
LONG = " ".join(f"{number} apples" for number in range(100))  # the model takes 64 tokens
RIGHT, LEFT = tei_pb2.TRUNCATION_DIRECTION_RIGHT, tei_pb2.TRUNCATION_DIRECTION_LEFT


@pytest.fixture
def embed(prompted_server: Server) -> Callable[..., tei_pb2.EmbedResponse]:
    stub = tei_pb2_grpc.EmbedStub(prompted_server.channel)
    return lambda inputs, **options: stub.Embed(tei_pb2.EmbedRequest(inputs=inputs, **options))


@pytest.fixture(scope="module")
def library(prompted_artifact: Path) -> Tokenizer:
    """The tokenizer, as it lies in the artifact."""
    tokenizer = Tokenizer.from_file(str(prompted_artifact / "tokenizer.json"))
    tokenizer.no_truncation()
    return tokenizer


class TestEmbed:
    @pytest.mark.parametrize(
        ("theirs", "ours"),
        [
            ({}, {}),
            ({"normalize": False}, {"normalize": False}),
            ({"dimensions": 8}, {"dimensions": 8}),
            ({"dimensions": 8, "normalize": False}, {"dimensions": 8, "normalize": False}),
            ({"prompt_name": "passage"}, {"prompt_name": "passage"}),
            ({"prompt_name": ""}, {"prompt_name": ""}),
        ],
        ids=str,
    )
    def test_vectors_are_ours_to_the_last_bit(
        self, prompted_server: Server, embed: Any, theirs: dict[str, Any], ours: dict[str, Any]
    ) -> None:
        request = pb.EmbedRequest(
            texts=["a cat on a mat"], options=pb.EncodeOptions(**ours), as_list=True
        )
        expected = prompted_server.stub.Embed(request).embeddings.values
        assert embed("a cat on a mat", **theirs).embeddings == expected

    @pytest.mark.parametrize(
        ("direction", "side"), [(RIGHT, pb.TRUNCATE_END), (LEFT, pb.TRUNCATE_START)]
    )
    def test_each_side_is_cut(
        self, prompted_server: Server, embed: Any, direction: Any, side: pb.Truncate
    ) -> None:
        options = pb.EncodeOptions(truncate=side)
        request = pb.EmbedRequest(texts=[LONG], options=options, as_list=True)
        expected = prompted_server.stub.Embed(request).embeddings.values
        reply = embed(LONG, truncate=True, truncation_direction=direction)
        assert reply.embeddings == expected
        assert reply.metadata.compute_tokens == 64

    def test_metadata_tell_the_cost(self, embed: Any) -> None:
        cost = embed("ein Kätzchen").metadata
        assert cost.compute_chars == len("ein Kätzchen")
        assert cost.compute_tokens > 2
        parts = cost.tokenization_time_ns + cost.queue_time_ns + cost.inference_time_ns
        assert 0 < parts <= cost.total_time_ns

    @pytest.mark.parametrize(
        ("request_", "reason", "field"),
        [
            ({"inputs": ""}, "NO_TEXTS", "inputs"),
            ({"inputs": LONG}, "TEXT_TOO_LONG", "inputs[0]"),
            ({"inputs": "x" * 300_000, "truncate": True}, "TEXT_TOO_LARGE", "inputs[0]"),
            ({"inputs": "a", "dimensions": 0}, "INVALID_REQUEST", "dimensions"),
            ({"inputs": "a", "dimensions": 33}, "DIMENSIONS_TOO_LARGE", "dimensions"),
            ({"inputs": "a", "prompt_name": "nope"}, "UNKNOWN_PROMPT", "prompt_name"),
            (
                {"inputs": "a", "truncation_direction": 9},
                "UNKNOWN_ENUM_VALUE",
                "truncation_direction",
            ),
        ],
        ids=lambda value: str(value)[:40],
    )
    def test_bad_requests(
        self, prompted_server: Server, request_: dict[str, Any], reason: str, field: str
    ) -> None:
        stub = tei_pb2_grpc.EmbedStub(prompted_server.channel)
        found = refusal(lambda: stub.Embed(tei_pb2.EmbedRequest(**request_)))
        assert found[:3] == (Code.INVALID_ARGUMENT, reason, field)

    def test_errors_carry_the_details_of_google_rpc(self, embed: Any) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            embed("")
        trailers = dict(caught.value.trailing_metadata())
        status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        assert info.reason == "NO_TEXTS"
        assert trailers["x-request-id"]


def test_info(prompted_server: Server) -> None:
    [model] = prompted_server.stub.ListModels(pb.ListModelsRequest()).models
    info = tei_pb2_grpc.InfoStub(prompted_server.channel).Info(tei_pb2.InfoRequest())
    assert info.model_id == model.model_id
    assert info.model_type == tei_pb2.MODEL_TYPE_EMBEDDING
    assert (info.version, info.model_dtype) == (__version__, "float32")
    assert (info.max_input_length, info.max_concurrent_requests) == (64, 1024)
    assert info.max_client_batch_size == 2048
    assert info.max_batch_tokens > 0
    assert info.tokenization_workers > 0
    unknown = ("sha", "docker_label", "max_batch_requests")
    assert not any(info.HasField(name) for name in unknown)


@pytest.mark.parametrize(
    "path",
    [
        "Embed/EmbedSparse",
        "Embed/EmbedAllStream",
        "Predict/PredictPair",
        "Rerank/Rerank",
        "Rerank/RerankStream",
    ],
)
def test_what_is_not_served_says_so(prompted_server: Server, path: str) -> None:
    calls = {
        "stream_stream": lambda: next(
            prompted_server.channel.stream_stream(f"/tei.v1.{path}")(iter([b""]))
        ),
        "stream_unary": lambda: prompted_server.channel.stream_unary(f"/tei.v1.{path}")(
            iter([b""])
        ),
        "unary_unary": lambda: prompted_server.channel.unary_unary(f"/tei.v1.{path}")(b"\xff"),
    }
    for call in calls.values():
        found = refusal(call)
        assert (found.code, found.reason) == (Code.UNIMPLEMENTED, "NOT_SERVED")
        assert found.details == (
            f"tei.v1.{path} is not served here: "
            "this server makes one vector of each text, and nothing else"
        )


def test_health_has_the_services(prompted_server: Server) -> None:
    health = health_pb2_grpc.HealthStub(prompted_server.channel)
    for name in ("Info", "Embed", "Tokenize"):
        request = health_pb2.HealthCheckRequest(service=f"tei.v1.{name}")
        assert health.Check(request).status == health_pb2.HealthCheckResponse.SERVING


def test_it_can_be_turned_off(artifact: Path) -> None:
    with serving("--model", str(artifact), "--grpc-tei", "false") as server:
        embed = tei_pb2_grpc.EmbedStub(server.channel).Embed
        with pytest.raises(grpc.RpcError) as caught:
            embed(tei_pb2.EmbedRequest(inputs="a cat"))
        assert caught.value.code() is Code.UNIMPLEMENTED
        assert server.stub.Embed(pb.EmbedRequest(texts=["a cat"])).embeddings.rows == 1


class TestTokenize:
    """Against the library that TEI calls, with its offsets in bytes."""

    @pytest.fixture
    def split(self, prompted_server: Server) -> Callable[..., list[tei_pb2.SimpleToken]]:
        stub = tei_pb2_grpc.TokenizeStub(prompted_server.channel)

        def call(inputs: str, **options: Any) -> list[tei_pb2.SimpleToken]:
            request = tei_pb2.EncodeRequest(inputs=inputs, **options)
            return list(stub.Tokenize(request).tokens)

        return call

    @pytest.mark.parametrize("special", [True, False])
    @pytest.mark.parametrize("prompt_name", ["passage", "", None])
    @pytest.mark.parametrize("text", ["a cat on a mat", "Käse für 🙂 [SEP] [CLS]", LONG])
    def test_tokens(
        self, split: Any, library: Tokenizer, text: str, prompt_name: str | None, special: bool
    ) -> None:
        prompt = {"passage": "passage: ", "": "", None: "query: "}[prompt_name]
        expected = library.encode(prompt + text, add_special_tokens=special)
        options = {} if prompt_name is None else {"prompt_name": prompt_name}
        found = split(text, add_special_tokens=special, **options)
        assert [token.id for token in found] == expected.ids
        assert [token.special for token in found] == [
            mask == 1 for mask in expected.special_tokens_mask
        ]
        data = (prompt + text).encode()
        for token, name in zip(found, expected.tokens, strict=True):
            if token.special:
                assert not token.HasField("start")
                assert not token.HasField("stop")
                assert token.text == name
            else:
                assert data[token.start : token.stop].decode() == token.text != ""

    def test_a_prompt_that_is_not_there(self, split: Any) -> None:
        found = refusal(lambda: split("a", prompt_name="nope"))
        assert found[:2] == (Code.INVALID_ARGUMENT, "UNKNOWN_PROMPT")
        assert "Available prompts: [query, " in found.details

    def test_an_empty_text(self, split: Any) -> None:
        assert refusal(lambda: split(""))[:3] == (Code.INVALID_ARGUMENT, "NO_TEXTS", "inputs")


class TestDecode:
    @pytest.fixture
    def decode(self, prompted_server: Server) -> Callable[..., str]:
        stub = tei_pb2_grpc.TokenizeStub(prompted_server.channel)
        return lambda ids, **options: stub.Decode(tei_pb2.DecodeRequest(ids=ids, **options)).text

    @pytest.mark.parametrize("skip", [True, False])
    def test_text(self, decode: Any, library: Tokenizer, skip: bool) -> None:
        ids = library.encode("a cat on a mat").ids
        expected = library.decode(ids, skip_special_tokens=skip)
        assert decode(ids, skip_special_tokens=skip) == expected
        assert ("[CLS]" in expected) is not skip

    @pytest.mark.parametrize(
        ("ids", "reason"), [([], "NO_TEXTS"), ([2, 2**32 - 1], "UNKNOWN_TOKEN_ID")]
    )
    def test_bad_ids(self, decode: Any, ids: list[int], reason: str) -> None:
        assert refusal(lambda: decode(ids))[:2] == (Code.INVALID_ARGUMENT, reason)
