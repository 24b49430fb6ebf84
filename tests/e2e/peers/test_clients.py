"""Clients that nobody here wrote, as they come from the package index, each in its own process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from tests import environments
from tests.artifacts import REPOSITORY
from tests.environments import keep_environment, run_in
from tests.serving import Server
from unitvec_protos import __version__
from unitvec_protos.inference import inference_pb2
from unitvec_protos.tei import tei_pb2
from unitvec_protos.v1 import embedding_pb2 as pb

CLIENTS = Path(__file__).with_name("clients")
TEXTS = ["a cat on a mat", "ein Kätzchen", "bank loan"]
LONG = " ".join(f"{number} apples" for number in range(100))  # the model takes 64 tokens

pytestmark = pytest.mark.deep


@pytest.fixture(scope="session")
def python() -> Path:
    """A Python with the clients."""
    return keep_environment(environments.CLIENTS)


@pytest.fixture
def ours(prompted_server: Server) -> Callable[..., list[list[float]]]:
    """Vectors over our own contract."""

    def embed(*texts: str, **options: Any) -> list[list[float]]:
        request = pb.EmbedRequest(texts=texts, options=pb.EncodeOptions(**options))
        matrix = prompted_server.stub.Embed(request).embeddings
        vectors = np.frombuffer(matrix.data, "<f4").reshape(matrix.rows, matrix.dim)
        return vectors.astype(float).tolist()

    return embed


@pytest.fixture
def ids(prompted_server: Server) -> Callable[[str], list[list[int]]]:
    """Token ids over our own contract."""

    def split(prompt_name: str) -> list[list[int]]:
        request = pb.TokenizeRequest(texts=TEXTS, prompt_name=prompt_name)
        return [list(each.ids) for each in prompted_server.stub.Tokenize(request).texts]

    return split


def test_tei_client(python: Path, prompted_server: Server, ours: Any, ids: Any) -> None:
    args = (prompted_server.target, json.dumps(TEXTS), LONG)
    found = json.loads(run_in(python, CLIENTS / "tei_program.py", *args))
    assert found["embed"] == found["asyncio"]["embed"] == ours(*TEXTS)
    assert found["left"] == ours(LONG, truncate=pb.TRUNCATE_START)
    assert found["prompted"] == ours(*TEXTS, prompt_name="passage")
    assert found["tokens"] == found["asyncio"]["tokens"] == ids("query")
    assert found["pieces"][0][0] == "[CLS]"
    assert found["decoded"][0].replace(" ##", "").startswith("query : a cat on a mat")
    assert {"query", "passage"} <= set(found["prompts"])
    assert found["info"] == found["asyncio"]["info"]
    assert found["info"]["version"] == __version__
    assert found["info"]["max_input_length"] == 64
    assert found["health"] is True
    assert found["refused"] == "INVALID_ARGUMENT"


def test_tritonclient(
    python: Path, prompted_server: Server, prompted_artifact: Path, ours: Any, ids: Any
) -> None:
    model, expected = prompted_artifact.name, ours(*TEXTS)
    args = (prompted_server.target, model, json.dumps(TEXTS), json.dumps(ids("")))
    found = json.loads(run_in(python, CLIENTS / "triton_program.py", *args))
    assert found["infer"] == found["flat"] == found["called"] == expected
    assert found["asyncio"] == {"live": True, "infer": expected, "stream": expected}
    assert found["short"] == ours(*TEXTS, dimensions=8, normalize=False, prompt_name="passage")
    assert found["ids"] == ours(*TEXTS, prompt_name="")
    assert found["streamed"]["ids"] == ["0", "1", "2"]
    assert found["streamed"]["rows"] == expected
    assert "no model 'nope'" in found["streamed"]["error"]
    assert (found["live"], found["ready"], found["model_ready"]) == (True, True, [True, False])
    assert found["server"]["name"] == "unitvec"
    assert found["metadata"]["inputs"][0]["datatype"] == "BYTES"
    assert found["config"]["config"]["output"][0]["dims"] == ["32"]
    assert found["index"]["models"] == [{"name": model, "version": "1", "state": "READY"}]
    assert int(found["statistics"]["model_stats"][0]["inference_count"]) >= len(TEXTS)
    status, message = found["refused"]
    assert (status, found["not_served"]) == ("StatusCode.NOT_FOUND", "StatusCode.UNIMPLEMENTED")
    assert "no model 'nope'" in message


def test_haystack(python: Path, prompted_server: Server, ours: Any) -> None:
    """Its components find the service by reflection."""
    args = (prompted_server.target, json.dumps(TEXTS))
    found = json.loads(run_in(python, CLIENTS / "haystack_program.py", *args))
    expected = ours(*TEXTS)
    assert np.array_equal(np.float32(found["documents"]), np.float32(expected))
    assert np.array_equal(np.float32(found["text"]), np.float32(expected[0]))
    assert found["asyncio"] == found["text"]


def test_protos_have_the_names_and_numbers_of_the_clients(python: Path) -> None:
    """All that is in ours, but for what is newer than the client."""
    printed = run_in(python, CLIENTS / "descriptors_program.py").split()
    files = [FileDescriptorProto.FromString(bytes.fromhex(each)) for each in printed]
    theirs = {name: what for file in files for name, what in elements(file)}
    ours = {name: what for file in (tei_pb2, inference_pb2) for name, what in elements(copy(file))}
    newer = {"tei.v1.EmbedRequest.normalize", "tei.v1.EmbedRequest.dimensions"}
    assert {name for name, what in ours.items() if theirs.get(name) != what} == newer
    assert len(ours) > 150


def copy(module: Any) -> FileDescriptorProto:
    """The file of a generated module."""
    file = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)
    return file


def elements(file: FileDescriptorProto) -> Iterator[tuple[str, Any]]:
    """The elements of a file by name, with all that matters on the wire."""
    for service in file.service:
        for rpc in service.method:
            streams = (rpc.client_streaming, rpc.server_streaming)
            name = f"{file.package}.{service.name}.{rpc.name}"
            yield name, (rpc.input_type, rpc.output_type, streams)
    yield from nested_elements(file.package, file.message_type, file.enum_type)


def nested_elements(path: str, messages: Any, enums: Any) -> Iterator[tuple[str, Any]]:
    """Those of messages and enums, and of what is inside them."""
    for kind in enums:
        for value in kind.value:
            yield f"{path}.{kind.name}.{value.name}", value.number
    for message in messages:
        inner = f"{path}.{message.name}"
        for field in message.field:
            yield (
                f"{inner}.{field.name}",
                (field.number, field.type, field.type_name, field.label, field.proto3_optional),
            )
        yield from nested_elements(inner, message.nested_type, message.enum_type)


def test_one_process_may_have_our_client_and_theirs(
    python: Path, prompted_server: Server, prompted_artifact: Path
) -> None:
    """Ours loads no messages of other systems, so that theirs can be loaded beside it."""
    ours = [str(REPOSITORY / room) for room in ("client", "protos")]
    args = (prompted_server.target, prompted_artifact.name, *ours)
    run_in(python, CLIENTS / "both_program.py", *args)
