"""Every reply says which space its vectors are of, and a request may expect one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from tests.artifacts import needs_kernels
from tests.serving import Server, ServerProcess, serving
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_server.model.artifact import MANIFEST_FILE, load_artifact

MATRIX = pb.Matrix(rows=1, dim=128, data=b"\0\0\x80\x3f" * 128, dtype=pb.DTYPE_FLOAT32)


@pytest.fixture(scope="module")
def server(fused_artifact: Path) -> Iterator[Server]:
    with serving("--model", f"tiny={fused_artifact}", "--precision", "fp32") as server:
        yield server


def model_of(server: Server) -> pb.ModelInfo:
    return server.stub.ListModels(pb.ListModelsRequest()).models[0]


def operand(**options: Any) -> pb.Operand:
    return pb.Operand(texts=pb.TextList(texts=["a"]), options=pb.EncodeOptions(**options))


def cross(a: pb.Operand, b: pb.Operand) -> pb.SimilarityRequest:
    return pb.SimilarityRequest(cross=pb.CrossComparison(queries=a, documents=b))


def stream(server: Server, *messages: pb.StreamSimilarityRequest) -> Any:
    return list(server.stub.StreamSimilarity(iter(messages)))


def test_every_reply_says_it(server: Server, fused_artifact: Path) -> None:
    model = model_of(server)
    manifest = load_artifact(fused_artifact).manifest
    assert manifest.identity is not None
    assert model.space == manifest.identity.space
    assert model.space.startswith("s1-")
    assert model.bits.startswith("b1-")
    assert not model.reproducible
    request = pb.EmbedRequest(texts=["a"])
    [streamed] = server.stub.StreamEmbed(iter([pb.StreamEmbedRequest(id="1", request=request)]))
    replies = [
        server.stub.Embed(request),
        streamed.response,
        server.stub.Similarity(cross(operand(), operand())),
        server.stub.Tokenize(pb.TokenizeRequest(texts=["a"])),
        *stream(
            server,
            pb.StreamSimilarityRequest(setup=pb.SimilaritySetup()),
            pb.StreamSimilarityRequest(documents=operand()),
            pb.StreamSimilarityRequest(query=pb.SimilarityQuery(queries=operand())),
        ),
    ]
    assert {(reply.space, reply.bits) for reply in replies} == {(model.space, model.bits)}


def test_what_is_expected_and_there_is_no_obstacle(server: Server) -> None:
    model = model_of(server)
    options = {"expected_space": model.space, "expected_bits": model.bits}
    request = pb.EmbedRequest(texts=["a"], options=pb.EncodeOptions(**options))
    assert server.stub.Embed(request).embeddings.rows == 1
    assert server.stub.Similarity(cross(operand(**options), operand())).scores.rows == 1


@pytest.mark.parametrize("name", ["space", "bits"])
def test_a_mismatch_tells_both_values(server: Server, name: str) -> None:
    found = getattr(model_of(server), name)
    options = pb.EncodeOptions(**{f"expected_{name}": "s1-other"})
    with pytest.raises(grpc.RpcError) as caught:
        server.stub.Embed(pb.EmbedRequest(texts=["a"], options=options))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert found in caught.value.details()
    trailers = dict(caught.value.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    info, unmet = error_details_pb2.ErrorInfo(), error_details_pb2.PreconditionFailure()
    assert status.details[0].Unpack(info)
    assert status.details[2].Unpack(unmet)
    assert info.reason == unmet.violations[0].type == f"{name.upper()}_MISMATCH"
    assert dict(info.metadata) == {f"expected_{name}": "s1-other", name: found, "model": "tiny"}
    ours = pb.Error.FromString(trailers["unitvec-error-bin"])
    assert ours.metadata == info.metadata
    assert ours.field == f"options.expected_{name}"


def test_one_of_a_stream_is_refused_alone(server: Server) -> None:
    options = pb.EncodeOptions(expected_space="s1-other")
    requests = [
        pb.StreamEmbedRequest(id="bad", request=pb.EmbedRequest(texts=["a"], options=options)),
        pb.StreamEmbedRequest(id="good", request=pb.EmbedRequest(texts=["a"])),
    ]
    replies = {reply.id: reply for reply in server.stub.StreamEmbed(iter(requests))}
    assert replies["bad"].error.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert replies["bad"].error.metadata["expected_space"] == "s1-other"
    assert replies["good"].response.embeddings.rows == 1


@pytest.mark.parametrize(
    ("sides", "field"),
    [
        ((operand(expected_space="s1-other"), operand()), "cross.queries"),
        ((operand(), operand(expected_space="s1-other")), "cross.documents"),
        # Vectors that were stored are of a space, too.
        (
            (
                operand(),
                pb.Operand(vectors=MATRIX, options=pb.EncodeOptions(expected_space="s1-other")),
            ),
            "cross.documents",
        ),
    ],
)
def test_each_side_of_a_comparison(
    server: Server, sides: tuple[pb.Operand, pb.Operand], field: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        server.stub.Similarity(cross(*sides))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert f"{field}.options.expected_space" in caught.value.details()


def test_documents_of_a_stream(server: Server) -> None:
    bad, good = stream(
        server,
        pb.StreamSimilarityRequest(id="1", documents=operand(expected_space="s1-other")),
        pb.StreamSimilarityRequest(id="2", documents=operand()),
    )
    assert bad.error.reason == "SPACE_MISMATCH"
    assert (good.documents.first_index, good.documents.count) == (0, 1)


@needs_kernels
def test_precisions_share_the_space_and_not_the_bits(server: Server, fused_artifact: Path) -> None:
    plain = model_of(server)
    with serving("--model", str(fused_artifact), "--precision", "int16") as other:
        fused = model_of(other)
    identity = load_artifact(fused_artifact).manifest.identity
    assert identity is not None
    assert fused.space == plain.space
    assert fused.bits == identity.bits["int16"] != plain.bits
    assert fused.reproducible


@pytest.fixture
def changed(tmp_path: Path, artifact: Path) -> Callable[[dict[str, Any]], Path]:
    """A copy of the artifact whose manifest was edited."""

    def copy(changes: dict[str, Any]) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(artifact, folder)
        path = folder / MANIFEST_FILE
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        return folder

    return copy


def test_an_artifact_too_old_to_tell(changed: Callable[[dict[str, Any]], Path]) -> None:
    with serving("--model", str(changed({"identity": None}))) as server:
        model = model_of(server)
        assert model.space == ""
        assert model.bits.startswith("b1-")
        expected = pb.EncodeOptions(expected_space="s1-any")
        with pytest.raises(grpc.RpcError, match="tells no space; export it again"):
            server.stub.Embed(pb.EmbedRequest(texts=["a"], options=expected))


def test_an_edited_manifest_is_another_space(
    artifact: Path, changed: Callable[[dict[str, Any]], Path]
) -> None:
    identity = load_artifact(artifact).manifest.identity
    assert identity is not None
    with serving("--model", str(changed({"max_seq_length": 16}))) as server:
        assert model_of(server).space != identity.space
        assert any(
            "was changed after its export" in str(entry["message"]) for entry in server.process.logs
        )


def test_a_damaged_identity_is_refused(changed: Callable[[dict[str, Any]], Path]) -> None:
    process = ServerProcess("--model", str(changed({"identity": {"space": 1}})))
    assert process.wait() == 2
    assert "is damaged" in process.output[-1]
