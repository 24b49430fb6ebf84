"""OpenTelemetry traces: a span for each call, with a child for each part of its time.

The span of a call is a child of the client's span, if the client sent one. Spans are made at the
end of a call from its record, so a call that is not traced costs nothing more. All settings are the
standard variables ``OTEL_*``.
"""

from __future__ import annotations

import importlib.metadata
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from opentelemetry import propagate
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context

from unitvec_protos import __version__
from unitvec_server.doors.calls import CODES, Call
from unitvec_server.engine.counters import Work
from unitvec_server.errors import ConfigError

_EXPORTERS = "opentelemetry_traces_exporter"

_FLUSH_S = 3.0

_FAULTS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
"""Statuses that are errors of a server span, by OpenTelemetry's conventions for gRPC."""


class Tracing:
    """Makes spans of calls that are over.

    Args:
        provider: The provider that exports the spans.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer: Tracer = provider.get_tracer("unitvec_server", __version__)

    def __call__(self, call: Call) -> None:
        """Traces a call, unless it is of health or reflection. Probes over HTTP do not get here."""
        if not call.method.is_ours:
            return
        wall_ns = time.time_ns() - time.monotonic_ns()
        carrier = {key: val for key, val in call.metadata.items() if isinstance(val, str)}
        span = self._tracer.start_span(
            _name(call),
            propagate.extract(carrier),
            SpanKind.SERVER,
            start_time=call.started_ns + wall_ns,
        )
        if span.is_recording():
            span.set_attributes(_attributes(call))
            if call.code in _FAULTS:
                span.set_status(StatusCode.ERROR, call.reason)
            for work in call.works:
                self._trace_work(span, work, wall_ns)
        span.end(call.ended_ns + wall_ns)

    def _trace_work(self, parent: Span, work: Work, wall_ns: int) -> None:
        """Makes the spans of a list of texts: its tokenizing, its waiting and its runs."""
        context = set_span_in_context(parent)
        attributes: dict[str, str | int] = {
            "unitvec.model": work.model,
            "unitvec.texts": work.texts,
            "unitvec.tokens": work.tokens,
        }
        start_ns = work.started_ns + wall_ns
        for name, took_ns in (
            ("tokenize", work.tokenize_ns),
            ("queue", work.queue_ns),
            ("infer", work.infer_ns),
        ):
            child = self._tracer.start_span(
                name, context, attributes=attributes, start_time=start_ns
            )
            start_ns += took_ns
            child.end(start_ns)

    def stop(self) -> None:
        """Exports the spans that are left, as far as the collector takes them in time."""
        flush = threading.Thread(target=self._provider.shutdown, name="flush-traces", daemon=True)
        flush.start()
        flush.join(_FLUSH_S)


def _name(call: Call) -> str:
    service, name, kind = call.method
    return f"{kind} {name}" if call.http_status else f"{service}/{name}"


def _attributes(call: Call) -> dict[str, str | int]:
    service, name, kind = call.method
    kinds: dict[str, str | int] = {
        "rpc.system": "grpc",
        "rpc.service": service,
        "rpc.method": name,
        "rpc.grpc.status_code": CODES.index(call.code),
    }
    if call.http_status:
        kinds = {
            "http.request.method": kind,
            "http.route": name,
            "http.response.status_code": int(call.http_status),
        }
    return kinds | {
        "client.address": call.peer,
        "unitvec.request_id": call.request_id,
        "unitvec.texts": call.texts,
        "unitvec.tokens": call.tokens,
        "unitvec.failed": call.failed,
    }


def open_tracing(environ: Mapping[str, str] = os.environ) -> Tracing:
    """Tracing as the variables ``OTEL_*`` say.

    `docs/operations/monitoring.md` lists the most useful of them.

    Raises:
        ConfigError: They name an exporter that is not installed.
    """
    resource = Resource.create({SERVICE_VERSION: __version__})
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "unitvec"}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_open_exporter(environ)))
    return Tracing(provider)


def _open_exporter(environ: Mapping[str, str]) -> SpanExporter:
    name = environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    if name == "otlp":
        protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get(
            "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"
        )
        name = f"otlp_proto_{protocol.partition('/')[0]}"
    found: Any = next(iter(importlib.metadata.entry_points(group=_EXPORTERS, name=name)), None)
    if found is None:
        raise ConfigError(f"--tracing: no exporter {name} is installed")
    exporter: SpanExporter = found.load()()
    return exporter
