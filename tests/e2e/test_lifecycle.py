"""Start, health, drain and refusal to start, as an operator sees them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.e2e.faulty_server import DIE, HOLD, request, text
from tests.models import TinyModel
from tests.serving import Server, ServerProcess
from unitvec_protos.v1 import embedding_pb2 as pb

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE = "unitvec.v1.EmbeddingService"

Start = Callable[..., Server]


def refused(
    *args: str,
    module: str = "unitvec_server",
    variables: Mapping[str, str] | None = None,
) -> str:
    """What a server prints that refuses to start: one line, exit status 2."""
    process = subprocess.run(
        [sys.executable, "-m", module, "--log-level", "error", *args],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **(variables or {})},
    )
    # gRPC's core has its own say on some errors, before ours.
    own = [line for line in process.stderr.splitlines() if not re.match(r"E\d{4} ", line)]
    lines = [line for line in own if line.strip()]
    assert process.returncode == 2, process.stderr
    assert len(lines) == 1, process.stderr
    return lines[0]


@pytest.fixture
def model_copy(artifact: Path, tmp_path: Path) -> Path:
    """A model folder that a test may damage."""
    return Path(shutil.copytree(artifact, tmp_path / "model"))


class TestRefusals:
    def test_no_model(self) -> None:
        assert "--model" in refused()

    @pytest.mark.parametrize("argv", [["--nope", "x"], ["--nope=x"], ["--port"]])
    def test_unknown_and_malformed_flags(self, argv: list[str]) -> None:
        line = refused("--model", "x", *argv)
        assert re.match(rf"unitvec-serve: {argv[0].partition('=')[0]}: .* --help$", line)

    def test_not_a_model(self, tmp_path: Path) -> None:
        assert "unitvec-export" in refused("--port", "0", "--model", str(tmp_path))

    def test_taken_port(self, artifact: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            assert "--port" in refused("--model", str(artifact), "--port", port)

    def test_damaged_graph(self, model_copy: Path) -> None:
        graph = model_copy / "model.fp32.onnx"
        content = bytearray(graph.read_bytes())
        content[len(content) // 2] ^= 1
        graph.write_bytes(content)
        assert "sha256" in refused("--port", "0", "--model", str(model_copy))

    def test_truncated_graph(self, model_copy: Path) -> None:
        graph = model_copy / "model.fp32.onnx"
        graph.write_bytes(graph.read_bytes()[:-1])
        assert "bytes" in refused("--port", "0", "--model", str(model_copy))

    def test_future_format(self, model_copy: Path) -> None:
        path = model_copy / "manifest.json"
        content = json.loads(path.read_text())
        content["format_version"] += 1
        path.write_text(json.dumps(content))
        assert "format_version" in refused("--port", "0", "--model", str(model_copy))

    def test_missing_precision(self, artifact: Path) -> None:
        args = ("--port", "0", "--model", str(artifact), "--precision", "fp16")
        assert "--precision fp16" in refused(*args)

    def test_missing_provider(self, artifact: Path) -> None:
        args = ("--port", "0", "--model", str(artifact), "--provider", "cuda")
        assert "server-cuda" in refused(*args)

    def test_unusable_certificate(self, artifact: Path, tmp_path: Path) -> None:
        (tmp_path / "no.pem").write_text("no certificate")
        files = ("--tls-cert", str(tmp_path / "no.pem"), "--tls-key", str(tmp_path / "no.pem"))
        assert "--tls-cert" in refused("--port", "0", "--model", str(artifact), *files)

    def test_a_port_variable_of_kubernetes(
        self, artifact: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("UNITVEC_PORT", "tcp://10.0.0.1:50051")
        assert "enableServiceLinks" in refused("--model", str(artifact))


def test_an_open_watch_does_not_hold_up_the_stop(start: Start, artifact: Path) -> None:
    """The watcher hears NOT_SERVING and is let go, however long the grace."""
    server = start("--model", str(artifact), "--grace-s", "3600")
    watch = health_pb2_grpc.HealthStub(server.channel).Watch(health_pb2.HealthCheckRequest())
    assert next(watch).status == SERVING
    assert server.process.stop() == 0
    assert [reply.status for reply in watch] == [NOT_SERVING]


def test_several_models_in_one_process(
    start: Start, artifact: Path, tiny_artifact: Callable[[TinyModel], Path]
) -> None:
    """The first is the default; each answers with its own vectors."""
    large = tiny_artifact(TinyModel(architecture="mpnet", dim=48))
    server = start("--model", f"small={artifact}", "--model", f"big={large}")
    dims = {
        name: server.stub.Embed(pb.EmbedRequest(model=name, texts=["a cat"])).embeddings.dim
        for name in ("", "small", "big")
    }
    models = server.stub.ListModels(pb.ListModelsRequest()).models
    assert [(m.name, m.is_default) for m in models] == [("small", True), ("big", False)]
    assert dims == {"": 32, "small": 32, "big": 48}


def test_health_follows_the_server(start: Start, artifact: Path) -> None:
    """SERVING once open, NOT_SERVING from SIGTERM on, NOT_FOUND for strangers."""
    server = start("--model", str(artifact))
    health = health_pb2_grpc.HealthStub(server.channel)
    for service in ("", SERVICE):
        assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == SERVING
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_pb2.HealthCheckRequest(service="nope"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
    assert next(watch).status == SERVING
    server.process.send(signal.SIGTERM)
    assert next(watch).status == NOT_SERVING
    watch.cancel()
    assert server.process.wait() == 0


def test_sigterm_finishes_what_was_accepted(start_faulty: Start, release: Path) -> None:
    """Calls in flight at SIGTERM get their vectors; later ones are refused."""
    server = start_faulty("--workers", "4")
    expected = np.frombuffer(server.stub.Embed(request(20)).embeddings.data, "<f4")
    calls = []
    for letter in "bcde":  # equal texts would be encoded once
        texts = [f"{letter} {text(HOLD - 1)}", text(20)]
        calls.append(server.stub.Embed.future(pb.EmbedRequest(texts=texts)))
        server.process.wait_for_log("on hold")
    server.process.send(signal.SIGTERM)
    server.process.wait_for_log("stopping")
    release.touch()
    for call in calls:
        rows = np.frombuffer(call.result().embeddings.data, "<f4").reshape(2, -1)
        assert np.abs(rows[1] - expected).max() < 1e-5
    assert server.process.wait() == 0
    assert refusal(server).code() == grpc.StatusCode.UNAVAILABLE


def test_sigterm_ends_a_stream_after_what_it_has_read(start: Start, artifact: Path) -> None:
    """Replies to all that was read, then UNAVAILABLE; the server does not wait for the client."""
    server = start("--model", str(artifact))
    hold = threading.Event()

    def requests():  # type: ignore[no-untyped-def]
        for index in range(5):
            yield pb.StreamEmbedRequest(
                id=str(index), request=pb.EmbedRequest(texts=[f"text {index}"])
            )
        hold.wait()

    replies = server.stub.StreamEmbed(requests())
    answered = {next(replies).id for _ in range(5)}
    server.process.send(signal.SIGTERM)
    with pytest.raises(grpc.RpcError) as caught:
        next(replies)
    hold.set()
    assert answered == set("01234")
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert server.process.wait() == 0


def test_sigint_stops_it_too(start: Start, artifact: Path) -> None:
    server = start("--model", str(artifact))
    assert server.process.stop(signal.SIGINT) == 0


def test_an_expired_deadline_is_never_run(start_faulty: Start, release: Path) -> None:
    """A call whose deadline passes in the queue ends as DEADLINE_EXCEEDED; the next one works."""
    server = start_faulty("--workers", "1")
    blocker = server.stub.Embed.future(request(HOLD))
    server.process.wait_for_log("on hold")
    expired = refusal(server, DIE, timeout_s=0.2)  # would end the worker
    assert expired.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    release.touch()
    assert blocker.result().embeddings.rows == 1
    assert server.stub.Embed(request(20)).embeddings.rows == 1
    assert server.process.stop() == 0


def test_overload_is_shed_with_a_delay(start_faulty: Start, release: Path) -> None:
    """Beyond max_queued_tokens: RESOURCE_EXHAUSTED at once, with RetryInfo; the rest succeeds."""
    server = start_faulty("--max-queued-tokens", "200", "--workers", "2")
    held = server.stub.Embed.future(request(HOLD, 60))
    server.process.wait_for_log("on hold")
    for _ in range(5):
        error = refusal(server, 60, 60, 60)
        trailers = dict(error.trailing_metadata())
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        delay_ms = pb.Error.FromString(trailers["unitvec-error-bin"]).retry_delay_ms
        assert delay_ms == int(trailers["grpc-retry-pushback-ms"]) > 0
    assert server.stub.Embed(request(10)).embeddings.rows == 1
    release.touch()
    assert held.result().embeddings.rows == 2


def refusal(server: Server, *tokens: int, timeout_s: float | None = None) -> grpc.RpcError:
    """What a call with texts of these lengths is refused with."""
    with pytest.raises(grpc.RpcError) as caught:
        server.stub.Embed(request(*(tokens or (20,))), timeout=timeout_s)
    return caught.value


def test_starting_while_loading_is_not_serving(artifact: Path) -> None:
    """The port is taken before the models are loaded, so that a clash shows at once."""
    process = ServerProcess("--model", str(artifact))
    try:
        process.wait_for_log("loading ")
        process.wait_for_log(" serving on ")
        assert process.stop() == 0
    finally:
        process.stop(signal.SIGKILL)
