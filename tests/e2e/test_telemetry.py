"""A real server as its operators see it: metrics over HTTP, traces at a collector, its log."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from queue import Queue
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as otlp_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.certificates import write_certificate
from tests.serving import Server, ServerProcess
from unitvec_protos.v1 import embedding_pb2 as pb

Start = Callable[..., Server]

SECRET = "a text that nobody may log"
SERVICE = "unitvec.v1.EmbeddingService"
DOCS = Path(__file__).parents[2] / "docs" / "operations" / "monitoring.md"
ROW = re.compile(r"^\| `((?:grpc|unitvec|process|python)_\w+)` \| (\w+) \| (.*?) \|", re.MULTILINE)
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Observed:
    """A server and its metrics."""

    def __init__(self, *args: str) -> None:
        process = ServerProcess("--metrics-port", "0", "--log-level", "debug", *args)
        self.process = process
        self.url = process.wait_for_log("metrics on ").split()[-1]
        self.server = Server(process)

    def scrape(self) -> dict[str, Metric]:
        """Families by name, as Prometheus would read them."""
        with urllib.request.urlopen(self.url) as response:
            text = response.read().decode()
        return {family.name: family for family in text_string_to_metric_families(text)}

    def read(self, name: str, **labels: str) -> float:
        """One sample."""
        [value] = [
            sample.value
            for family in self.scrape().values()
            for sample in family.samples
            if sample.name == name and sample.labels == labels
        ]
        return value


@pytest.fixture(scope="module")
def observed(artifact: Path) -> Iterator[Observed]:
    """With a cache, and small bounds."""
    flags = ["--cache-bytes", "100000", "--max-texts-per-request", "8", "--http-port", "0"]
    observed = Observed("--model", f"tiny={artifact}", *flags)
    yield observed
    observed.server.channel.close()
    assert observed.process.stop() == 0
    assert SECRET not in "".join(observed.process.output)


def rpc(name: str, kind: str = "unary", service: str = SERVICE) -> dict[str, str]:
    """Labels of a method."""
    return {"grpc_type": kind, "grpc_service": service, "grpc_method": name}


def documented() -> dict[str, tuple[str, set[str]]]:
    """Type and labels of each metric of the table in the docs."""
    rows = {name: (kind, labels) for name, kind, labels in ROW.findall(DOCS.read_text())}
    started = rows["grpc_server_started_total"][1]
    return {
        name: (kind, set(re.findall(r"`(\w+)`", re.sub("the same|as `started`", started, labels))))
        for name, (kind, labels) in rows.items()
    }


def test_metrics_are_those_of_the_docs(observed: Observed) -> None:
    """Names, types and labels, both ways; each series once, each family described."""
    exported = {}
    for name, family in observed.scrape().items():
        full = f"{name}_total" if family.type == "counter" else name
        labels = {key for sample in family.samples for key in sample.labels} - {"le"}
        exported[full] = (family.type, labels)
        assert family.documentation
        series = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples]
        assert series
        assert len(set(series)) == len(series)
    with_tls = {"unitvec_tls_certificate_not_after_timestamp_seconds"}
    assert exported == {k: v for k, v in documented().items() if k not in with_tls}


def test_histograms_are_sound(observed: Observed) -> None:
    """Buckets never fall, the last is the count, and bounds are numbers."""
    observed.server.stub.Embed(pb.EmbedRequest(texts=["one", "two"]))
    for family in observed.scrape().values():
        if family.type != "histogram":
            continue
        series: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
        counts = {}
        for sample in family.samples:
            key = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
            if sample.name.endswith("_bucket"):
                series.setdefault(key, []).append((float(sample.labels["le"]), sample.value))
            elif sample.name.endswith("_count"):
                counts[key] = sample.value
        for key, buckets in series.items():
            assert buckets == sorted(buckets)
            assert [value for _, value in buckets] == sorted(value for _, value in buckets)
            assert buckets[-1] == (float("inf"), counts[key])


def test_calls_are_counted_where_they_belong(observed: Observed) -> None:
    """Method, kind, code and messages."""
    stub, embed, stream = observed.server.stub, rpc("Embed"), rpc("StreamEmbed", "bidi_stream")

    def counts(labels: dict[str, str], code: str) -> tuple[float, ...]:
        names = ("started_total", "msg_received_total", "msg_sent_total", "handling_seconds_count")
        plain = [observed.read(f"grpc_server_{name}", **labels) for name in names]
        return *plain, observed.read("grpc_server_handled_total", **labels, grpc_code=code)

    before, before_wrong = counts(embed, "OK"), counts(embed, "InvalidArgument")
    stub.Embed(pb.EmbedRequest(texts=["one"]))
    assert [b - a for a, b in zip(before, counts(embed, "OK"), strict=True)] == [1] * 5
    with pytest.raises(grpc.RpcError):
        stub.Embed(pb.EmbedRequest())
    after_wrong = counts(embed, "InvalidArgument")
    assert [b - a for a, b in zip(before_wrong, after_wrong, strict=True)] == [2, 2, 1, 2, 1]
    before = counts(stream, "OK")
    requests = [pb.StreamEmbedRequest(request=pb.EmbedRequest(texts=["x"])) for _ in range(3)]
    assert len(list(stub.StreamEmbed(iter(requests)))) == 3
    assert [b - a for a, b in zip(before, counts(stream, "OK"), strict=True)] == [1, 3, 3, 1, 1]


def test_texts_are_counted(observed: Observed) -> None:
    """Answered ones, with tokens and truncation, and what the cache spared."""
    names = ("texts_total", "tokens_total", "truncated_texts_total", "infer_seconds_count")

    def counts() -> list[float]:
        cached = [observed.read(f"unitvec_{name}_total") for name in ("cache_hits", "cache_misses")]
        return [observed.read(f"unitvec_{name}", model="tiny") for name in names] + cached

    request = pb.EmbedRequest(texts=["a new text", "word " * 500])
    before = counts()
    tokens = observed.server.stub.Embed(request).usage.total_tokens
    observed.server.stub.Embed(request)
    after = counts()
    assert [b - a for a, b in zip(before, after, strict=True)] == [4, 2 * tokens, 2, 2, 2, 2]


def test_errors_and_refusals_are_counted_by_cause(observed: Observed) -> None:
    """Of unary calls and of each request of a stream, whose call is no failure."""
    before = observed.read("unitvec_errors_total", reason="MODEL_NOT_FOUND")
    wrong = pb.EmbedRequest(texts=["x"], model="none")
    with pytest.raises(grpc.RpcError):
        observed.server.stub.Embed(wrong)
    requests = [pb.StreamEmbedRequest(request=wrong) for _ in range(2)]
    assert all(r.HasField("error") for r in observed.server.stub.StreamEmbed(iter(requests)))
    assert observed.read("unitvec_errors_total", reason="MODEL_NOT_FOUND") == before + 3


def test_a_refusal_names_what_was_full(start: Start, artifact: Path) -> None:
    """One call in work is all there may be."""
    observed = Observed("--model", str(artifact), "--max-calls", "1")
    queue: Queue[pb.StreamEmbedRequest | None] = Queue()
    try:
        stream = observed.server.stub.StreamEmbed(iter(queue.get, None))
        queue.put(pb.StreamEmbedRequest(request=pb.EmbedRequest(texts=["x"])))
        assert next(stream).HasField("response")
        assert observed.read("unitvec_calls") == 1
        with pytest.raises(grpc.RpcError):
            observed.server.stub.Embed(pb.EmbedRequest(texts=["x"]))
        assert observed.read("unitvec_refusals_total", bound="max_calls") == 1
        assert observed.read("unitvec_errors_total", reason="OVERLOADED") == 1
        queue.put(None)
        assert list(stream) == []
        assert observed.read("unitvec_calls") == 0
    finally:
        observed.server.channel.close()
        observed.process.stop(signal.SIGKILL)


def test_a_call_that_its_client_leaves_is_counted_as_such(observed: Observed) -> None:
    """Once the server knows."""
    labels = rpc("Watch", "server_stream", "grpc.health.v1.Health")
    stub = health_pb2_grpc.HealthStub(observed.server.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest())
    next(watch)
    before = observed.read("grpc_server_handled_total", **labels, grpc_code="Canceled")
    assert observed.read("grpc_server_msg_sent_total", **labels) == 1
    watch.cancel()
    while observed.read("grpc_server_handled_total", **labels, grpc_code="Canceled") == before:
        pass  # the test's own time limit ends it
    while not observed.read("grpc_server_handled_total", **labels, grpc_code="DeadlineExceeded"):
        with pytest.raises(grpc.RpcError):
            list(stub.Watch(health_pb2.HealthCheckRequest(), timeout=0.2))


def test_the_access_log_tells_of_every_call_once(observed: Observed) -> None:
    """Success and failure, with ids and costs, and no text."""
    stub = observed.server.stub
    stub.Embed(pb.EmbedRequest(texts=[SECRET, "two"]), metadata=[("x-request-id", "good")])
    with pytest.raises(grpc.RpcError):
        stub.Embed(pb.EmbedRequest(texts=[SECRET] * 9), metadata=[("x-request-id", "bad")])
    while not [entry for entry in observed.process.logs if entry.get("request_id") == "bad"]:
        observed.process.wait_for_log("call")
    lines = [e for e in observed.process.logs if e.get("request_id") in {"good", "bad"}]
    assert [line["code"] for line in lines] == ["OK", "INVALID_ARGUMENT"]
    good, bad = lines
    assert (good["method"], good["texts"], good["lists"]) == (f"{SERVICE}/Embed", 2, 1)
    assert str(good["peer"]).startswith("ipv4:127.0.0.1:")
    assert good["total_ms"] >= good["infer_ms"]
    assert (bad["reason"], bad["failed"], bad["level"]) == ("TOO_MANY_TEXTS", 1, "info")


def test_a_taken_metrics_port_is_refused_in_one_line(observed: Observed, artifact: Path) -> None:
    """As any wrong flag is."""
    port = observed.url.rsplit(":", 1)[1].split("/")[0]
    process = ServerProcess("--model", str(artifact), "--metrics-port", port)
    assert process.wait() == 2
    assert "--metrics-port: cannot listen on 127.0.0.1:" in process.output[-1]


def test_no_port_is_opened_unasked(start: Start, artifact: Path) -> None:
    server = start("--model", str(artifact))
    server.stub.Embed(pb.EmbedRequest(texts=["x"]))
    assert server.process.stop() == 0
    assert "metrics on" not in "".join(server.process.output)


class Collector(otlp_grpc.TraceServiceServicer):
    """Takes spans by OTLP, as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        self.resources: list[dict[str, str]] = []
        self.spans: list[Span] = []

    def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            attributes = resource.resource.attributes
            self.resources.append({item.key: item.value.string_value for item in attributes})
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return otlp.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    """A collector and its address."""
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    otlp_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, f"http://127.0.0.1:{port}"
    server.stop(None)


def test_traces_reach_a_collector(
    start: Start, artifact: Path, collector: tuple[Collector, str]
) -> None:
    """All that was traced is there once the server has stopped."""
    taken, url = collector
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_SERVICE_NAME": "words"}
    server = start("--model", str(artifact), "--tracing", variables=variables)
    metadata = [("traceparent", f"00-{TRACE}-{PARENT}-01")]
    server.stub.Embed(pb.EmbedRequest(texts=["one", "two"]), metadata=metadata)
    health_pb2_grpc.HealthStub(server.channel).Check(health_pb2.HealthCheckRequest())
    assert server.process.stop() == 0
    assert [span.name for span in taken.spans] == ["tokenize", "queue", "infer", f"{SERVICE}/Embed"]
    assert {span.trace_id.hex() for span in taken.spans} == {TRACE}
    assert taken.spans[-1].parent_span_id.hex() == PARENT
    assert {span.parent_span_id for span in taken.spans[:3]} == {taken.spans[-1].span_id}
    assert taken.resources[0]["service.name"] == "words"


def test_a_collector_that_is_gone_harms_no_call(start: Start, artifact: Path) -> None:
    """Nor does it keep the server from stopping."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    server = start("--model", str(artifact), "--tracing", variables=variables)
    for _ in range(3):
        assert server.stub.Embed(pb.EmbedRequest(texts=["one"])).embeddings.rows == 1
    assert server.process.stop() == 0


def test_the_command_asks_a_server_with_tls_and_tokens(
    start: Start, artifact: Path, tmp_path: Path
) -> None:
    """`unitvec health` needs no token, `unitvec models` does; each needs to trust the server."""
    pair = write_certificate(tmp_path, "server")
    tokens = tmp_path / "tokens"
    tokens.write_text("let-me-in-0123456789\n")
    tls = ["--tls-cert", str(pair.certificate), "--tls-key", str(pair.key)]
    server = start("--model", f"tiny={artifact}", *tls, "--token-file", str(tokens))

    def run(command: str, *args: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "unitvec_client.cli.main", command, "-f", "jsonl"]
        line += ["--target", server.target, "--max-attempts", "1", *args]
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)

    trust = ["--tls", "--root-certificates", str(pair.certificate), "--server-name", "localhost"]
    health = run("health", *trust)
    assert (health.returncode, json.loads(health.stdout)["status"]) == (0, "SERVING")
    models = run("models", *trust, "--token-file", str(tokens))
    assert (models.returncode, json.loads(models.stdout)["name"]) == (0, "tiny")
    assert run("models", *trust).returncode == 4
    assert run("health", "--tls").returncode == 3
    assert run("health").returncode == 3
