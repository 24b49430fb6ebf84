"""A client that expects a space gets vectors of that space or an error, from any server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import unitvec_client as uv
from tests.artifacts import REPOSITORY
from tests.serving import Server, serving
from unitvec_client.cli.main import main
from unitvec_server.model.artifact import MANIFEST_FILE


@pytest.fixture(scope="module")
def other_server(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same model with shorter texts: of another space."""
    folder = tmp_path_factory.mktemp("other") / "tiny"
    shutil.copytree(artifact, folder)
    path = folder / MANIFEST_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "max_seq_length": 16}))
    with serving("--model", str(folder)) as server:
        yield server


def space_of(server: Server) -> str:
    with uv.Client(server.target) as client:
        return client.models().models[0].space


def test_results_say_it(tiny_server: Server) -> None:
    with uv.Client(tiny_server.target) as client:
        model = client.models().models[0]
        result = client.embed_result(["a"] * 3)
        [item] = client.embed_stream(["a"])
    assert model.space.startswith("s1-")
    for found in (result, item):
        assert (found.space, found.bits) == (model.space, model.bits)


def test_every_method_keeps_to_it(tiny_server: Server, other_server: Server) -> None:
    space = space_of(tiny_server)
    with uv.Client(tiny_server.target, expect=space) as client:
        assert client.embed(["a", "b"]).shape == (2, 32)
        assert client.similarity(["a"], ["b"]).shape == (1, 1)
        assert len(client.search("a", ["b", "c"])[0]) == 2
    calls: list[Any] = [
        lambda client: client.embed("a"),
        lambda client: list(client.embed_stream(["a"])),
        lambda client: client.similarity(["a"], ["b"]),
        lambda client: client.search("a", ["b"]),
    ]
    with uv.Client(other_server.target, expect=space) as client:
        for call in calls:
            with pytest.raises(uv.IdentityMismatchError, match=space) as caught:
                call(client)
            metadata = caught.value.facts.metadata
            assert metadata["expected_space"] == space != metadata["space"]
        assert client.models().models[0].space == metadata["space"]


async def test_asyncio_and_bits(tiny_server: Server, other_server: Server) -> None:
    with uv.Client(tiny_server.target) as client:
        bits = client.models().models[0].bits
    async with uv.AsyncClient(tiny_server.target, expect=bits) as right:
        assert (await right.embed("a")).shape == (32,)
    async with uv.AsyncClient(other_server.target, expect=bits) as wrong:
        with pytest.raises(uv.IdentityMismatchError, match="has bits b1-"):
            await wrong.embed("a")


@pytest.mark.parametrize("expect", ["minilm", "", "x1-12"])
def test_what_is_no_fingerprint(expect: str) -> None:
    with pytest.raises(uv.InputError, match="no fingerprint"):
        uv.Client(expect=expect)
    with pytest.raises(uv.InputTypeError):
        uv.Client(expect=1)  # type: ignore[arg-type]


def test_embed_writes_it_beside_the_vectors(tiny_server: Server, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("a\nb\n")
    out = tmp_path / "vectors.npy"
    command = ["embed", "-i", str(texts), "-o", str(out), "--target", tiny_server.target]
    assert main([*command, "--expect", space_of(tiny_server)]) == 0
    about = json.loads((tmp_path / "vectors.npy.unitvec.json").read_text())
    assert about["space"] == space_of(tiny_server)
    assert about["bits"].startswith("b1-")
    assert np.load(out).shape == (2, 32)


def test_embed_writes_it_into_parquet(tiny_server: Server, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "vectors.parquet"
    assert main(["embed", "a", "-o", str(out), "--target", tiny_server.target]) == 0
    about = json.loads(pq.read_schema(out).metadata[b"unitvec"])
    assert about["space"] == space_of(tiny_server)
    assert about["bits"].startswith("b1-")
    assert not (tmp_path / "vectors.parquet.unitvec.json").exists()


def test_the_command_refuses(
    tiny_server: Server, other_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    space = space_of(tiny_server)
    command = ["embed", "a", "--target", other_server.target, "--expect", space]
    assert main(command) == 4
    assert space in capsys.readouterr().err


def test_a_client_of_the_released_contract(tiny_server: Server) -> None:
    """Its stubs know nothing of what the contract gained since."""
    image = descriptor_pb2.FileDescriptorSet.FromString(
        (REPOSITORY / "protos" / "released.binpb").read_bytes()
    )
    pool = descriptor_pool.DescriptorPool()
    for file in image.file:
        pool.Add(file)
    service = pool.FindServiceByName("unitvec.v1.EmbeddingService")

    def call(name: str, **fields: Any) -> Any:
        method = service.methods_by_name[name]
        request, reply = map(
            message_factory.GetMessageClass, (method.input_type, method.output_type)
        )
        stub = tiny_server.channel.unary_unary(
            f"/{service.full_name}/{name}",
            request_serializer=request.SerializeToString,
            response_deserializer=reply.FromString,
        )
        return stub(request(**fields))

    model = call("ListModels").models[0]
    assert "space" not in model.DESCRIPTOR.fields_by_name
    assert call("Embed", texts=["a", "b"]).embeddings.rows == 2
    assert call("Tokenize", texts=["a"]).max_seq_length == model.max_seq_length
    operand = {"texts": {"texts": ["a"]}}
    scores = call("Similarity", pairs={"a": operand, "b": operand}).scores
    assert np.frombuffer(scores.data, "<f4") == pytest.approx(1)
    with pytest.raises(grpc.RpcError):
        call("Embed", model="another", texts=["a"])
