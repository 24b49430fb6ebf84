"""A server that computes wrong vectors never becomes ready; one that does so later is found out."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.artifacts import keep_pipeline_artifact, needs_kernels
from tests.models import edit_json
from tests.server.test_canary import edit_canary
from tests.serving import Server, ServerProcess, serving
from unitvec_client import AsyncClient, Client, RefusedError, VerificationError
from unitvec_client.cli.main import main
from unitvec_client.verification import Verification
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_server.model.artifact import MANIFEST_FILE


@pytest.fixture(scope="module")
def server(fused_artifact: Path, artifact: Path, tmp_path_factory: Any) -> Iterator[Server]:
    """A good model, one whose vectors are others than at its export, and one too old to tell."""
    wrong = shutil.copytree(fused_artifact, tmp_path_factory.mktemp("wrong") / "wrong")
    edit_canary(wrong, "fp32", lambda vectors: vectors[::-1])
    old = shutil.copytree(artifact, tmp_path_factory.mktemp("old") / "old")
    manifest = json.loads((old / MANIFEST_FILE).read_text())
    (old / MANIFEST_FILE).write_text(json.dumps({**manifest, "canary": None}))
    models = [f"good={fused_artifact}", f"wrong={wrong}", f"old={old}"]
    flags = [part for model in models for part in ("--model", model)]
    with serving(*flags, "--precision", "fp32", "--self-test", "false") as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.target) as client:
        yield client


def test_vectors_of_the_export(client: Client, server: Server) -> None:
    found = client.verify()
    model = client.models().models[0]
    assert found.cosine_min == pytest.approx(1.0, abs=1e-5)
    assert found == Verification(
        "good", 4, found.cosine_min, 0.99999, False, model.space, model.bits
    )

    async def verify() -> Verification:
        async with AsyncClient(server.target) as other:
            return await other.verify(model="good")

    assert asyncio.run(verify()).texts == found.texts


def test_other_vectors(client: Client) -> None:
    with pytest.raises(VerificationError, match=r"model wrong computes wrong vectors: .* 0\.99999"):
        client.verify(model="wrong")


def test_an_old_artifact_has_nothing_to_be_held_against(client: Client) -> None:
    with pytest.raises(RefusedError, match="model old has no vectors of its export"):
        client.verify(model="old")


@pytest.mark.parametrize(
    ("flags", "status", "said"),
    [
        (["--model", "good"], 0, ""),
        (["--model", "good", "--expect", "s1-00000000000000000000"], 4, "has space s1-"),
        (["--model", "wrong"], 1, "computes wrong vectors"),
        (["--model", "old"], 4, "export it again"),
        (["--model", "none"], 4, "no model 'none'"),
    ],
)
def test_the_command(
    server: Server, flags: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--target", server.target, *flags]) == status
    written = capsys.readouterr()
    assert said in written.err
    assert ("cosine 0.99999" in written.out) == (status == 0)


@pytest.mark.parametrize(
    "precision", [pytest.param(name, marks=needs_kernels) for name in ("int16", "bf16", "int8")]
)
def test_every_bit_of_the_fused_operator(
    fused_artifact: Path, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command asks all models that are served."""
    with serving("--model", f"tiny={fused_artifact}", "--precision", precision) as server:
        assert main(["verify", "--target", server.target, "--format", "json"]) == 0
        [found] = json.loads(capsys.readouterr().out)
        assert (found["model"], found["exact"], found["cosine_min"]) == ("tiny", True, 1.0)


def test_a_plain_int8_graph(artifact: Path) -> None:
    with (
        serving("--model", str(artifact), "--precision", "int8") as server,
        Client(server.target) as client,
    ):
        assert client.verify().min_cosine == 0.98


def test_wrong_vectors_never_become_ready(fused_artifact: Path, tmp_path: Path) -> None:
    wrong = shutil.copytree(fused_artifact, tmp_path / "wrong")
    edit_canary(wrong, "fp32", lambda vectors: vectors[::-1])
    process = ServerProcess("--model", str(wrong), "--precision", "fp32")
    assert process.wait() == 2
    assert "model wrong computes wrong vectors here" in process.output[-1]
    assert not any(" serving on " in line for line in process.output)


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Models with routes: one by default, none by default, and one route with other vectors."""
    folder = tmp_path_factory.mktemp("routes")
    dense = shutil.copytree(keep_pipeline_artifact("Router of Dense, prompts"), folder / "dense")
    prompts = {"query": "Find: ", "document": "Document: ", "passage": "Passage: "}
    edit_json(dense / MANIFEST_FILE, {"prompts": prompts})
    wrong = shutil.copytree(dense, folder / "wrong")
    edit_canary(wrong / "route-document", "fp32", lambda vectors: vectors[::-1])
    tasks = keep_pipeline_artifact("Router without a default")
    models = [f"--model={n}={path}" for n, path in (("dense", dense), ("tasks", tasks))]
    with serving(*models, f"--model=wrong={wrong}", "--self-test", "false") as server:
        yield server


@pytest.mark.parametrize(
    ("model", "routes"), [("dense", ("", "document")), ("tasks", ("document", "one"))]
)
def test_all_routes_of_a_model(routed: Server, model: str, routes: tuple[str, ...]) -> None:
    """Without the texts of their prompts, which vectors of the export do not have."""
    with Client(routed.target) as client:
        found = client.verify(model=model)
    assert found.routes == routes
    assert found.texts == 8
    assert found.cosine_min == pytest.approx(1.0, abs=1e-5)


def test_other_vectors_of_one_route(routed: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--target", routed.target, "--model", "wrong"]) == 1
    assert "a vector with the prompt 'document' has cosine" in capsys.readouterr().err


def test_the_name_of_a_prompt_may_choose_the_route_alone(routed: Server) -> None:
    stub = routed.stub
    how = pb.EncodeOptions(prompt_name="document", route_only=True)
    other = pb.EncodeOptions(prompt_name="passage", route_only=True)
    whole = pb.EncodeOptions(prompt_name="document")
    bare, same, prompted, default = (
        stub.Embed(pb.EmbedRequest(texts=["a cat"], options=options)).embeddings.data
        for options in (how, other, whole, pb.EncodeOptions(prompt_name=""))
    )
    assert bare == same
    assert bare not in (prompted, default)
    with pytest.raises(grpc.RpcError) as raised:
        stub.GetCanary(pb.GetCanaryRequest(prompt_name="none"))
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
