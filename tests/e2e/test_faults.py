"""Injected faults in real processes: who is harmed, who is not, and how the process ends."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import unitvec_client as uv
from tests.e2e.faulty_server import (
    BREAK,
    DIE,
    FAIL,
    HANG,
    HANG_TOKENIZER,
    NO_MEMORY,
    request,
    text,
)
from tests.e2e.limited_server import with_limits
from tests.e2e.test_lifecycle import refused
from tests.serving import Server
from unitvec_protos.v1 import embedding_pb2 as pb

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
FAULT_STATUS = 3
Code = grpc.StatusCode


def failure(call: Callable[[], object]) -> Code:
    """The status that a call ends with."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    code: Code = caught.value.code()
    return code


def rows_of(reply: pb.EmbedResponse) -> np.ndarray:
    """Its vectors (rows, dim)."""
    matrix = reply.embeddings
    return np.frombuffer(matrix.data, "<f4").reshape(matrix.rows, matrix.dim)


class Patient:
    """A server with the faulty encoder, and a watch of its health."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.embed = server.stub.Embed
        health = health_pb2_grpc.HealthStub(server.channel)
        self._watch: Iterator[health_pb2.HealthCheckResponse] = health.Watch(
            health_pb2.HealthCheckRequest(service="unitvec.v1.EmbeddingService")
        )
        assert next(self._watch).status == SERVING

    def ends(self) -> int:
        """Its exit status, after its health turned and stayed NOT_SERVING."""
        assert [reply.status for reply in self._watch] == [NOT_SERVING]
        return self.server.process.wait()


@pytest.fixture
def patient(start: Callable[..., Server], artifact: Path) -> Callable[..., Patient]:
    """Starts a faulty server."""

    def begin(*args: str, **limits: float) -> Patient:
        options = ("--model", str(artifact), "--provider", "cpu", *args)
        return Patient(start(*options, **with_limits("tests.e2e.faulty_server", **limits)))

    return begin


class TestPoison:
    """A text that the model fails on."""

    def test_harms_no_other(self, patient: Callable[..., Patient]) -> None:
        """Not those in its batch, nor those after it, however many come."""
        sick = patient("--workers", "1")
        expected = sick.embed(request(20)).embeddings.data
        for _ in range(3):
            mates = [sick.embed.future(request(20)) for _ in range(20)]
            poisoned = [sick.embed.future(request(20, FAIL)) for _ in range(5)]
            for call in poisoned:
                assert failure(call.result) is Code.INTERNAL
            for mate in mates:
                vectors = np.frombuffer(mate.result().embeddings.data, "<f4")
                np.testing.assert_allclose(vectors, np.frombuffer(expected, "<f4"), atol=1e-5)
        assert sick.embed(request(20)).embeddings.rows == 1
        assert sick.server.process.stop() == 0

    def test_a_partial_call_names_it(self, patient: Callable[..., Patient]) -> None:
        """Beside a text that is too long and one that is too large; the others have vectors."""
        sick = patient("--workers", "1", "--max-text-bytes", "2000")
        lengths = (20, FAIL, 10, 600)
        options = pb.EncodeOptions(truncate=pb.TRUNCATE_ERROR)
        texts = [*map(text, lengths), "x" * 2001]
        call = pb.EmbedRequest(texts=texts, options=options, partial=True)
        reply = sick.embed(call)
        assert [(error.index, error.error.reason) for error in reply.errors] == [
            (1, "INFERENCE_FAILED"),
            (3, "TEXT_TOO_LONG"),
            (4, "TEXT_TOO_LARGE"),
        ]
        for error in reply.errors:
            assert error.error.field == f"texts[{error.index}]"
            assert error.error.field in error.error.message
            assert error.error.request_id
        assert list(reply.usage.tokens) == [20, 0, 10, 0, 0]
        vectors = rows_of(reply)
        assert np.isnan(vectors[[1, 3, 4]]).all()
        for row, count in ((0, 20), (2, 10)):
            alone = rows_of(sick.embed(request(count)))
            np.testing.assert_allclose(vectors[row], alone[0], atol=1e-5)
        call.dtype = pb.DTYPE_INT8
        scales = sick.embed(call).embeddings.scales
        assert np.isnan(scales).tolist() == [False, True, False, True, True]
        assert sick.server.process.stop() == 0

    def test_harms_no_other_text_of_a_client(self, patient: Callable[..., Patient]) -> None:
        """Neither in a list nor in a stream."""
        sick = patient("--workers", "1")
        texts = [text(FAIL if i in (3, 40) else 10 + i % 5) for i in range(80)]
        with uv.Client(sick.server.target) as client:
            vectors, errors = client.embed(texts, errors="return")
            items = list(client.embed_stream(texts))
            with pytest.raises(uv.InternalError):
                client.embed(texts)
        assert [failed.index for failed in errors] == [3, 40]
        assert [item.index for item in items if item.error] == [3, 40]
        assert {str(failed.error.reason) for failed in errors} == {"INFERENCE_FAILED"}
        assert np.flatnonzero(np.isnan(vectors).any(axis=1)).tolist() == [3, 40]
        streamed = [item.vector for item in items if item.vector is not None]
        np.testing.assert_allclose(streamed, np.delete(vectors, [3, 40], axis=0), atol=1e-5)

    def test_a_model_that_always_fails_ends_the_process(
        self, patient: Callable[..., Patient]
    ) -> None:
        """Three texts fail one after the other, and then one that worked at the start."""
        sick = patient("--workers", "2")
        codes = [failure(functools.partial(sick.embed, request(BREAK))) for _ in range(3)]
        assert codes == [Code.INTERNAL] * 3
        assert sick.ends() == FAULT_STATUS


class TestWorkers:
    """Threads that die or hang."""

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_death_ends_the_process(self, patient: Callable[..., Patient], workers: str) -> None:
        """Its own callers are told that it is no use to try again; the supervisor starts anew."""
        sick = patient("--workers", workers)
        calls = [sick.embed.future(request(DIE)) for _ in range(2)]  # one joins the other
        assert {failure(call.result) for call in calls} <= {Code.INTERNAL, Code.UNAVAILABLE}
        assert failure(calls[0].result) is Code.INTERNAL
        assert sick.ends() == FAULT_STATUS
        assert any("died" in line for line in sick.server.process.output)

    def test_hanging_ends_the_process(self, patient: Callable[..., Patient]) -> None:
        """Meanwhile the other worker works; who waits for the hanging one goes elsewhere."""
        sick = patient("--workers", "2", "--grace-s", "1", stuck_after_s=2)
        hanging = sick.embed.future(request(HANG, 20))
        assert sick.embed(request(10)).embeddings.rows == 1
        assert failure(hanging.result) is Code.INTERNAL
        assert sick.ends() == FAULT_STATUS
        assert any("hangs" in line for line in sick.server.process.output)

    def test_callers_behind_a_hanging_worker_are_sent_elsewhere(
        self, patient: Callable[..., Patient]
    ) -> None:
        sick = patient("--workers", "1", "--grace-s", "1", stuck_after_s=1)
        hanging = sick.embed.future(request(HANG))
        behind = sick.embed.future(request(10))
        assert failure(hanging.result) is Code.INTERNAL
        assert failure(behind.result) is Code.UNAVAILABLE
        assert sick.ends() == FAULT_STATUS


class TestTokenizer:
    """Threads that split texts."""

    def test_hanging_ends_the_process(self, patient: Callable[..., Patient]) -> None:
        """One of two: the other splits what comes meanwhile."""
        sick = patient("--workers", "2", "--grace-s", "1", stuck_after_s=2)
        five = [text(8)] * 5  # more are not split on the event loop
        hanging = sick.embed.future(pb.EmbedRequest(texts=[*five, HANG_TOKENIZER]))
        assert sick.embed(pb.EmbedRequest(texts=five)).embeddings.rows == 5
        assert failure(hanging.result) is Code.INTERNAL
        assert sick.ends() == FAULT_STATUS
        assert any("thread tokenize_" in line for line in sick.server.process.output)


class TestArtifacts:
    """Folders that must not be served: one line, exit status 2."""

    @pytest.fixture
    def copy(self, artifact: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(artifact, tmp_path / "model"))

    @pytest.mark.parametrize("name", ["tokenizer.json", "model.fp32.onnx", "manifest.json"])
    def test_truncated(self, copy: Path, name: str) -> None:
        path = copy / name
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        assert name in self.refusal(copy)

    def test_missing_or_not_a_file(self, copy: Path) -> None:
        (copy / "tokenizer.json").unlink()
        assert "tokenizer.json" in self.refusal(copy)
        (copy / "tokenizer.json").mkdir()
        assert "tokenizer.json" in self.refusal(copy)

    def test_swapped_graphs(self, copy: Path) -> None:
        """A graph of the right kind that is not the one that was measured."""
        shutil.copy(copy / "model.int8.onnx", copy / "model.fp32.onnx")
        assert "model.fp32.onnx" in self.refusal(copy)

    def test_another_models_folder_mixed_in(self, copy: Path, prompted_artifact: Path) -> None:
        shutil.copy(prompted_artifact / "tokenizer.json", copy)
        shutil.copy(prompted_artifact / "model.fp32.onnx", copy)
        assert "is damaged" in self.refusal(copy)

    @pytest.mark.parametrize("version", [0, 99, None])
    def test_format_of_another_time(self, copy: Path, version: object) -> None:
        manifest = json.loads((copy / "manifest.json").read_text())
        (copy / "manifest.json").write_text(json.dumps({**manifest, "format_version": version}))
        assert "format_version" in self.refusal(copy)

    @staticmethod
    def refusal(folder: Path) -> str:
        return refused("--port", "0", "--provider", "cpu", "--model", str(folder))


def test_no_memory_for_the_model(artifact: Path) -> None:
    args = ("--port", "0", "--provider", "cpu", "--model", str(artifact))
    line = refused(*args, module="tests.e2e.faulty_server", variables={NO_MEMORY: "1"})
    assert "memory" in line
