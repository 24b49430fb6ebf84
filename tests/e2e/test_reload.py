"""Models that change while a server serves: SIGHUP loads what their folders hold now."""

from __future__ import annotations

import json
import queue
import shutil
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

import unitvec_client as uv
from tests.e2e.faulty_server import LOADS
from tests.serving import Server
from unitvec_protos.inference import inference_pb2 as oip
from unitvec_protos.inference import inference_pb2_grpc as oip_grpc
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_server.model.artifact import MANIFEST_FILE

Start = Callable[..., Server]
TEXTS = ["a cat", "a dog on a mat", "rain"]


class Link:
    """A folder that is a link, as `current` of a deployment is."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def set(self, folder: Path) -> None:
        """Lets it name another folder, from one moment to the next."""
        new = self.path.with_suffix(".new")
        new.symlink_to(folder)
        new.replace(self.path)


@pytest.fixture
def link(tmp_path: Path, artifact: Path) -> Link:
    """A link to the tiny model."""
    link = Link(tmp_path / "current")
    link.set(artifact)
    return link


@pytest.fixture
def server(start: Start, link: Link) -> Server:
    """Serves what the link names, under an alias."""
    return start("--model", f"current={link.path}", "--metrics-port", "0", "--precision", "fp32")


def reload(server: Server, said: str) -> str:
    """Asks for a reload, and waits until the log says how it went."""
    server.process.send(signal.SIGHUP)
    return server.process.wait_for_log(said)


def embed(server: Server, **fields: object) -> pb.EmbedResponse:
    return server.stub.Embed(pb.EmbedRequest(texts=TEXTS, **fields))


def metrics(server: Server) -> list[str]:
    lines = (str(entry["message"]) for entry in server.process.logs)
    url = next(line for line in lines if line.startswith("metrics on ")).split()[2]
    with urllib.request.urlopen(url) as reply:
        return reply.read().decode().splitlines()


class Requests:
    """A stream of requests that are given one by one."""

    def __init__(self) -> None:
        self._queue: queue.Queue[object] = queue.Queue()

    def __iter__(self) -> Iterator[object]:
        while (request := self._queue.get()) is not None:
            yield request

    def put(self, request: object | None) -> None:
        """Sends a request; None ends the stream."""
        self._queue.put(request)


def test_a_model_is_replaced_and_freed(
    server: Server, start: Start, link: Link, prompted_artifact: Path
) -> None:
    """The name has the vectors, facts and metrics of the new model, and the old is gone."""
    other = start("--model", str(prompted_artifact), "--precision", "fp32")
    wanted, before = embed(other), embed(server)
    assert wanted.space != before.space
    link.set(prompted_artifact)
    memory = reload(server, "loading ")
    assert "beside the present one; memory: " in memory
    server.process.wait_for_log("switched from")
    after = embed(server)
    assert (after.model, after.space, after.bits) == ("current", wanted.space, wanted.bits)
    assert after.embeddings.data == wanted.embeddings.data
    [model] = server.stub.ListModels(pb.ListModelsRequest()).models
    assert (model.space, model.bits, model.is_default) == (wanted.space, wanted.bits, True)
    server.process.wait_for_log("the old one is drained and gone")
    shown = metrics(server)
    assert 'unitvec_model_reloads_total{model="current",outcome="switched"} 1.0' in shown
    assert "unitvec_models_draining 0.0" in shown
    assert f'unitvec_texts_total{{model="current"}} {2 * len(TEXTS)}.0' in shown
    assert any(line.startswith("unitvec_model_info") and after.bits in line for line in shown)
    assert server.process.stop() == 0


def test_nothing_new_changes_nothing(server: Server) -> None:
    before = embed(server)
    reload(server, "holds nothing new")
    assert embed(server).embeddings.data == before.embeddings.data
    assert 'unitvec_model_reloads_total{model="current",outcome="unchanged"} 1.0' in metrics(server)


def test_what_cannot_be_served_leaves_the_old_in_use(
    server: Server, link: Link, artifact: Path, prompted_artifact: Path, tmp_path: Path
) -> None:
    """A missing folder, a manifest or a graph that is damaged; then the mended one is taken."""
    before = embed(server)
    damaged = tmp_path / "damaged"
    shutil.copytree(prompted_artifact, damaged)
    [graph] = damaged.glob("*fp32*.onnx")
    content = graph.read_bytes()
    graph.write_bytes(content[:-1] + b"x")
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder, reason in ((damaged, "sha256"), (empty, "manifest"), (tmp_path / "no", "no")):
        link.set(folder)
        assert reason in reload(server, "model current not reloaded, the old stays in use")
        assert embed(server).bits == before.bits
    link.set(damaged)
    graph.write_bytes(content)
    reload(server, "switched from")
    assert embed(server).bits != before.bits
    assert 'unitvec_model_reloads_total{model="current",outcome="refused"} 3.0' in metrics(server)


def test_streams_keep_their_model_to_the_end(
    server: Server, link: Link, prompted_artifact: Path
) -> None:
    """Of embeddings, of a corpus and its queries, and through the door of another system."""
    vectors, corpus, inference = Requests(), Requests(), Requests()
    embedding = server.stub.StreamEmbed(iter(vectors))
    searching = server.stub.StreamSimilarity(iter(corpus))
    stub = oip_grpc.GRPCInferenceServiceStub(server.channel)
    inferring = stub.ModelStreamInfer(iter(inference))
    item = pb.StreamEmbedRequest(id="1", request=pb.EmbedRequest(texts=TEXTS))
    documents = pb.StreamSimilarityRequest(documents=pb.Operand(texts=pb.TextList(texts=TEXTS)))
    tensor = oip.ModelInferRequest.InferInputTensor(
        name="text",
        datatype="BYTES",
        shape=[len(TEXTS)],
        contents=oip.InferTensorContents(bytes_contents=[text.encode() for text in TEXTS]),
    )
    infer = oip.ModelInferRequest(model_name="current", inputs=[tensor])
    vectors.put(item), corpus.put(documents), inference.put(infer)
    before, _, inferred = next(embedding).response, next(searching), next(inferring).infer_response
    link.set(prompted_artifact)
    reload(server, "switched from")
    assert embed(server).bits != before.bits
    vectors.put(item), inference.put(infer)
    after = next(embedding).response
    assert (after.bits, after.embeddings.data) == (before.bits, before.embeddings.data)
    assert next(inferring).infer_response.outputs == inferred.outputs
    query = pb.SimilarityQuery(queries=pb.Operand(texts=pb.TextList(texts=TEXTS[:1])))
    corpus.put(pb.StreamSimilarityRequest(query=query))
    answer = next(searching)
    assert answer.bits == before.bits
    scores = np.frombuffer(answer.result.scores.data, "<f4")
    rows = np.frombuffer(before.embeddings.data, "<f4").reshape(len(TEXTS), -1)
    np.testing.assert_allclose(scores, rows @ rows[0], atol=1e-5)
    assert "unitvec_models_draining 1.0" in metrics(server)
    for requests in (vectors, corpus, inference):
        requests.put(None)
    server.process.wait_for_log("the old one is drained and gone")
    assert server.process.stop() == 0


def test_clients_notice(server: Server, link: Link, prompted_artifact: Path) -> None:
    """One that expects a space is told; another goes on with the new one, as its results say."""
    with uv.Client(server.target) as client:
        old = client.models().models[0]
        with uv.Client(server.target, expect=old.space) as strict:
            assert strict.embed_result(TEXTS).space == old.space
            link.set(prompted_artifact)
            reload(server, "switched from")
            with pytest.raises(uv.IdentityMismatchError) as caught:
                strict.embed(TEXTS)
        new = client.embed_result(TEXTS)
        assert caught.value.facts.metadata["space"] == new.space != old.space
        assert client.models().models[0].space == new.space
    with uv.Client(server.target, expect=new.space) as client:
        assert client.embed_result(TEXTS).bits == new.bits


def test_each_model_by_itself(
    start: Start, link: Link, artifact: Path, prompted_artifact: Path
) -> None:
    """A model that is not touched stays as it is, with its place as the default."""
    server = start("--model", f"fixed={artifact}", "--model", f"current={link.path}")
    before = embed(server)
    stream = Requests()
    replies = server.stub.StreamEmbed(iter(stream))
    fixed = pb.StreamEmbedRequest(request=pb.EmbedRequest(texts=TEXTS, model="fixed"))
    stream.put(fixed)
    assert next(replies).response.bits == before.bits
    link.set(prompted_artifact)
    reload(server, "switched from")
    assert embed(server).embeddings.data == before.embeddings.data
    assert embed(server, model="current").space != before.space
    stream.put(fixed)
    assert next(replies).response.embeddings.data == before.embeddings.data
    stream.put(None)
    server.process.wait_for_log("the old one is drained and gone")


def test_a_stop_amid_a_reload_is_clean(
    start: Start, link: Link, prompted_artifact: Path, tmp_path: Path
) -> None:
    """Nobody waits for a model that nobody will use, nor does the runtime abort that loads it."""
    endless = tmp_path / "endless"
    server = start(
        "--model",
        f"current={link.path}",
        module="tests.e2e.faulty_server",
        variables={LOADS: str(endless)},
    )
    endless.touch()
    link.set(prompted_artifact)
    reload(server, "loading ")
    assert server.process.stop() == 0


def test_a_manifest_edited_in_place(
    server: Server, link: Link, artifact: Path, tmp_path: Path
) -> None:
    """Shorter texts are another space, although the graph is the same file."""
    folder = tmp_path / "edited"
    shutil.copytree(artifact, folder)
    link.set(folder)
    reload(server, "holds nothing new")
    before = embed(server)
    path = folder / MANIFEST_FILE
    content = json.dumps({**json.loads(path.read_text()), "max_seq_length": 16})
    new = tmp_path / "new.json"
    new.write_text(content)
    new.replace(path)
    reload(server, "switched from")
    assert embed(server).space != before.space
    with pytest.raises(grpc.RpcError) as caught:
        embed(server, options=pb.EncodeOptions(expected_space=before.space))
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
