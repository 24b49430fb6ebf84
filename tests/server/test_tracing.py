"""Spans of calls: whose children they are, what they tell, and which are not made."""

import sys
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.server.test_calls import begin, work
from unitvec_server.config import ServerConfig
from unitvec_server.doors.calls import CODES, Call, Method, name_method
from unitvec_server.errors import ConfigError, Overloaded
from unitvec_server.observability.logs import LogWriter
from unitvec_server.observability.telemetry import Telemetry
from unitvec_server.observability.tracing import Tracing, open_tracing

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}

Trace = Callable[[Call], list[ReadableSpan]]


@pytest.fixture
def trace() -> Iterator[Trace]:
    """Spans of a call, in the order they ended."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing(provider)

    def spans(call: Call) -> list[ReadableSpan]:
        exporter.clear()
        tracing(call)
        return list(exporter.get_finished_spans())

    yield spans
    tracing.stop()


def ended(*, parent: str = "", code: str = "OK", name: str = "Embed") -> Call:
    """A call of ours that took 50 ms and embedded two lists of texts."""
    call = begin(metadata={"traceparent": parent, "blob-bin": b"\xff"} if parent else {})
    path = f"/unitvec.v1.EmbeddingService/{name}"
    call.method = name_method(path, streams_in=False, streams_out=False)
    for start_ms, texts in ((1, 2), (20, 3)):
        ms = 1_000_000
        one = work(texts, tokenize_ns=2 * ms, queue_ns=3 * ms, infer_ns=5 * ms)
        call.add(one._replace(started_ns=call.started_ns + start_ms * ms))
    call.code, call.ended_ns = code, call.started_ns + 50_000_000
    return call


def test_a_call_is_a_child_of_its_caller(trace: Trace) -> None:
    """By the W3C's traceparent in its metadata."""
    *_, span = trace(ended(parent=f"00-{TRACE}-{PARENT}-01"))
    assert span.parent is not None
    assert f"{span.parent.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT
    assert span.kind is SpanKind.SERVER


def test_a_caller_who_is_not_traced_decides_so_for_us_too(trace: Trace) -> None:
    assert trace(ended(parent=f"00-{TRACE}-{PARENT}-00")) == []


@pytest.mark.parametrize("parent", ["", "nonsense", f"00-{'0' * 32}-{PARENT}-01", "\u0000" * 500])
def test_a_caller_without_a_usable_parent_starts_a_trace(trace: Trace, parent: str) -> None:
    assert trace(ended(parent=parent))[-1].parent is None


def test_children_tell_where_the_time_went(trace: Trace) -> None:
    """One after the other, inside the call, for each list of texts."""
    *children, call = trace(ended())
    assert [child.name for child in children] == ["tokenize", "queue", "infer"] * 2
    for first, second in zip(
        children[:2] + children[3:5], children[1:3] + children[4:], strict=True
    ):
        assert first.end_time == second.start_time
    assert [child.end_time - child.start_time for child in children[:3]] == [2e6, 3e6, 5e6]
    assert children[0].start_time - call.start_time == 1e6
    assert call.end_time - call.start_time == 50e6
    assert {child.parent.span_id for child in children} == {call.context.span_id}
    assert [child.attributes["unitvec.texts"] for child in children[::3]] == [2, 3]


def test_attributes(trace: Trace) -> None:
    """Those of OpenTelemetry's conventions for gRPC, and the sizes. No texts."""
    *_, span = trace(ended(code="RESOURCE_EXHAUSTED"))
    assert span.name == "unitvec.v1.EmbeddingService/Embed"
    assert dict(span.attributes or {}) == {
        "rpc.system": "grpc",
        "rpc.service": "unitvec.v1.EmbeddingService",
        "rpc.method": "Embed",
        "rpc.grpc.status_code": 8,
        "client.address": "ipv4:127.0.0.1:1",
        "unitvec.request_id": "id",
        "unitvec.texts": 5,
        "unitvec.tokens": 10,
        "unitvec.failed": 0,
    }


@pytest.mark.parametrize("code", CODES)
def test_only_faults_of_the_server_are_errors(trace: Trace, code: str) -> None:
    call = ended(code=code)
    call.note(Overloaded("full", retry_delay_s=1, bound="deadline"))
    status = trace(call)[-1].status
    assert status.status_code is (StatusCode.ERROR if code in FAULTS else StatusCode.UNSET)
    assert status.description == ("OVERLOADED" if code in FAULTS else None)


def test_probes_are_not_traced(trace: Trace) -> None:
    call = ended()
    call.method = name_method("/grpc.health.v1.Health/Check", streams_in=False, streams_out=False)
    assert trace(call) == []


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"OTEL_TRACES_EXPORTER": "pigeon"}, "pigeon"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "smoke/signals"}, "otlp_proto_smoke"),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "drums"}, "otlp_proto_drums"),
    ],
)
def test_an_unknown_exporter_is_refused_by_name(environ: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=f"--tracing: no exporter {named} "):
        open_tracing(environ)


@pytest.mark.parametrize("name", ["", "wordsmith"])
def test_the_service_has_a_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours, unless the operator gives one."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", name)
    tracing = open_tracing({"OTEL_TRACES_EXPORTER": "console"})
    assert tracing._provider.resource.attributes["service.name"] == (name or "unitvec")
    tracing.stop()


def test_without_the_extra_the_flag_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """In an installation that has no OpenTelemetry."""
    monkeypatch.delitem(sys.modules, "unitvec_server.observability.tracing")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(
        ConfigError,
        match=r"--tracing: opentelemetry\S* is not installed: pip install .*\[server-otel\]",
    ):
        Telemetry(ServerConfig(tracing=True), LogWriter(None))
    assert Telemetry(ServerConfig(), LogWriter(None)).observers


def test_requests_over_http_are_named_by_their_route(trace: Trace) -> None:
    """With the attributes of HTTP, and none of gRPC."""
    call = ended()
    call.method, call.http_status = Method("openai", "/v1/embeddings", "POST"), "200"
    *_, span = trace(call)
    assert span.name == "POST /v1/embeddings"
    assert span.attributes["http.response.status_code"] == 200
    assert not any(key.startswith("rpc.") for key in span.attributes)
