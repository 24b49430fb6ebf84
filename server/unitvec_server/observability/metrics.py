"""Prometheus metrics, made from the counters of the server at each scrape.

`docs/operations/monitoring.md` has the table of them, and tests hold it against what is exported.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from unitvec_protos import __version__
from unitvec_server.doors.calls import MethodTally
from unitvec_server.engine.counters import EmbedTally, Histogram
from unitvec_server.engine.engine import Engine
from unitvec_server.engine.model_queue import ModelQueue
from unitvec_server.engine.requests import Model
from unitvec_server.engine.scheduler import Scheduler
from unitvec_server.observability.frontend import Frontend
from unitvec_server.observability.logs import LogWriter

_CODE_NAMES = {"OK": "OK", "CANCELLED": "Canceled"}

_Rows = Iterable[tuple[Sequence[str], float]]
"""Values, each with the values of its labels."""


@dataclasses.dataclass(frozen=True)
class _Backend:
    """The parts of the server that metrics read once the models are loaded."""

    engine: Engine
    scheduler: Scheduler


class Metrics(Collector):
    """Reads the counters as they stand, in the thread that answers a scrape.

    Args:
        frontend: The parts that are there from the start.
        logs: The writer of logs, which counts the lines that were lost.
    """

    def __init__(self, frontend: Frontend, logs: LogWriter) -> None:
        self._frontend, self._logs = frontend, logs
        self._backend: _Backend | None = None

    def open(self, engine: Engine, scheduler: Scheduler) -> None:
        """Adds the models when they are loaded, and anew when one was replaced."""
        self._backend = _Backend(engine, scheduler)

    def collect(self) -> Iterator[Metric]:
        """Yields all metrics of ours."""
        yield from _collect_calls(self._frontend.edge.tallies)
        yield from _collect_http(self._frontend.http)
        yield from _collect_frontend(self._frontend, self._logs)
        if (backend := self._backend) is not None:
            yield from _collect_texts(backend.engine.tallies)
            yield from _collect_queue(backend)
            yield from _collect_batches(backend.scheduler.queues)
            yield from _collect_workers(backend.scheduler)
            yield from _collect_reuse(backend.scheduler)
            yield _model_info(backend.engine.models)
            yield from _collect_reloads(backend)


def make_registry(metrics: Metrics) -> CollectorRegistry:
    """Makes a registry of our metrics and those of the process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


def _counter(name: str, text: str, labels: Sequence[str], rows: _Rows) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def _gauge(name: str, text: str, labels: Sequence[str], rows: _Rows) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def _number(name: str, text: str, value: float) -> Metric:
    return _gauge(name, text, (), [((), value)])


def _histogram(
    name: str,
    text: str,
    labels: Sequence[str],
    rows: Iterable[tuple[Sequence[str], Histogram]],
) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, histogram in rows:
        counts, total = histogram.read()
        bounds = (*(f"{bound:g}" for bound in histogram.bounds), "+Inf")
        buckets = list(zip(bounds, itertools.accumulate(counts), strict=True))
        family.add_metric(values, buckets, sum_value=total)
    return family


def _collect_calls(tallies: Mapping[str, MethodTally]) -> Iterator[Metric]:
    labels = ("grpc_type", "grpc_service", "grpc_method")
    rows = [
        ((tally.method.kind, tally.method.service, tally.method.name), tally)
        for tally in list(tallies.values())  # The first call of a method may add one meanwhile.
    ]
    for name, text, field in (
        ("grpc_server_started", "Calls begun.", "started"),
        ("grpc_server_msg_received", "Messages of clients.", "received"),
        ("grpc_server_msg_sent", "Messages to clients.", "sent"),
    ):
        yield _counter(name, text, labels, [(row, getattr(tally, field)) for row, tally in rows])
    handled = [
        ((*row, code_label(code)), count)
        for row, tally in rows
        for code, count in list(tally.handled.items())
    ]
    yield _counter("grpc_server_handled", "Calls ended.", (*labels, "grpc_code"), handled)
    seconds = [(row, tally.seconds) for row, tally in rows]
    yield _histogram("grpc_server_handling_seconds", "Time of calls.", labels, seconds)


def _collect_http(tallies: Collection[MethodTally]) -> Iterator[Metric]:
    """Yields nothing without an HTTP port."""
    if not tallies:
        return
    rows = [
        ((tally.method.service, tally.method.kind, tally.method.name), tally) for tally in tallies
    ]
    handled = [
        ((*row, status), count)
        for row, tally in rows
        for status, count in list(tally.handled.items())
    ]
    labels = ("api", "method", "route")
    name, text = "unitvec_http_requests", "Requests answered over HTTP."
    yield _counter(name, text, (*labels, "status"), handled)
    seconds = [(row, tally.seconds) for row, tally in rows]
    yield _histogram("unitvec_http_request_seconds", "Time of them.", labels, seconds)


def code_label(code: str) -> str:
    """Names a status code as the metrics of Go do, such as ``InvalidArgument``.

    Dashboards expect these names.
    """
    return _CODE_NAMES.get(code) or code.title().replace("_", "")


def _collect_frontend(frontend: Frontend, logs: LogWriter) -> Iterator[Metric]:
    rules, servicer = frontend.rules, frontend.servicer
    yield _number("unitvec_calls", "Calls in work, without health.", rules.calls.count)
    yield _number("unitvec_calls_limit", "Most calls in work.", rules.calls.most)
    for name, text, label, counts in (
        ("unitvec_errors", "Requests that failed.", "reason", rules.errors.by_reason),
        ("unitvec_refusals", "Requests refused: what was full.", "bound", rules.errors.by_bound),
    ):
        yield _counter(name, text, (label,), [((key,), n) for key, n in list(counts.items())])
    held = [(("unary",), rules.messages.count), (("stream",), frontend.streams.held_bytes)]
    yield _gauge("unitvec_messages_bytes", "Bytes of messages in work.", ("kind",), held)
    yield _number("unitvec_corpora_bytes", "Bytes of documents held.", servicer.corpora_bytes)
    yield _number("unitvec_serving", "1 while it serves.", frontend.is_serving())
    missing = [((), logs.dropped)]
    yield _counter("unitvec_log_lines_dropped", "Log lines not written.", (), missing)
    if (not_after_s := frontend.secrets.certificate_not_after_s) is not None:
        name = "unitvec_tls_certificate_not_after_timestamp_seconds"
        yield _number(name, "When the certificate in use expires.", not_after_s)
    yield _gauge("unitvec_build_info", "What runs.", ("version",), [((__version__,), 1)])


def _collect_texts(tallies: Mapping[str, EmbedTally]) -> Iterator[Metric]:
    for name, text, field in (
        ("unitvec_texts", "Texts answered with vectors.", "texts"),
        ("unitvec_tokens", "Tokens of texts answered.", "tokens"),
        ("unitvec_truncated_texts", "Texts answered that were cut.", "truncated"),
    ):
        rows = [((model,), getattr(tally, field)) for model, tally in tallies.items()]
        yield _counter(name, text, ("model",), rows)
    for name, text, field in (
        ("unitvec_tokenize_seconds", "Text to tokens.", "tokenize_seconds"),
        ("unitvec_queue_seconds", "Tokenized to first run.", "queue_seconds"),
        ("unitvec_infer_seconds", "First run started to last run done.", "infer_seconds"),
    ):
        histograms = [((model,), getattr(tally, field)) for model, tally in tallies.items()]
        yield _histogram(name, text, ("model",), histograms)


def _collect_queue(backend: _Backend) -> Iterator[Metric]:
    queues, gate = backend.scheduler.queues, backend.engine.gate
    for name, text, read in (
        ("unitvec_queue_texts", "Texts that wait.", lambda queue: queue.batcher.waiting_items),
        ("unitvec_queue_tokens", "Tokens that wait.", lambda queue: queue.batcher.waiting_tokens),
        ("unitvec_queue_oldest_seconds", "How long the oldest text has waited.", _oldest_s),
    ):
        rows = [((model,), read(queue)) for model, queue in queues.items()]
        yield _gauge(name, text, ("model",), rows)
    admitted = [(("unary",), gate.unary_tokens), (("stream",), gate.stream_tokens)]
    yield _gauge("unitvec_admitted_tokens", "Tokens waiting or running.", ("kind",), admitted)
    yield _number("unitvec_admitted_tokens_limit", "Most of them.", gate.max_queued_tokens)
    yield _number("unitvec_streams_waiting", "Streams that wait for room.", gate.waiting_streams)


def _oldest_s(queue: ModelQueue) -> float:
    since_ns = queue.oldest_ns()
    return 0.0 if since_ns is None else (time.monotonic_ns() - since_ns) * 1e-9


def _collect_batches(queues: Mapping[str, ModelQueue]) -> Iterator[Metric]:
    batches = [((model,), queue.batches) for model, queue in queues.items()]
    for name, text, field in (
        ("unitvec_batch_texts", "Texts of batches.", "texts"),
        ("unitvec_batch_tokens", "Tokens of batches, without padding.", "tokens"),
        ("unitvec_batch_seconds", "Time of a worker for batches.", "seconds"),
    ):
        rows = [(key, getattr(tally, field)) for key, tally in batches]
        yield _histogram(name, text, ("model",), rows)
    padding = [(key, tally.padding_tokens) for key, tally in batches]
    yield _counter("unitvec_batch_padding_tokens", "Padding of batches.", ("model",), padding)


def _collect_workers(scheduler: Scheduler) -> Iterator[Metric]:
    busy = sum(worker.run is not None for worker in scheduler.workers)
    yield _number("unitvec_workers", "Workers.", len(scheduler.workers))
    yield _number("unitvec_workers_busy", "Workers that run a batch.", busy)
    rate = scheduler.tokens_per_s
    yield _number("unitvec_throughput_tokens_per_second", "Tokens a second, measured.", rate)


def _collect_reuse(scheduler: Scheduler) -> Iterator[Metric]:
    counts = scheduler.reuse
    for name, text, value in (
        ("unitvec_encoded_texts", "Texts that a model ran on.", counts.encoded),
        ("unitvec_joined_texts", "Texts answered by the run of an equal one.", counts.joined),
        ("unitvec_cache_hits", "Texts answered by the cache.", counts.hits),
        ("unitvec_cache_misses", "Texts that the cache did not know.", counts.misses),
        ("unitvec_cache_evictions", "Vectors dropped for want of room.", counts.evictions),
    ):
        yield _counter(name, text, (), [((), value)])
    yield _number("unitvec_cache_bytes", "Bytes that the cache holds.", counts.held_bytes)
    yield _number("unitvec_cache_limit_bytes", "Most bytes of them.", scheduler.cache_bytes)


def _model_info(models: Mapping[str, Model]) -> Metric:
    labels = ("model", "model_id", "revision", "precision", "provider", "space", "bits")
    rows = [
        (
            (
                *(name, manifest.model_id, manifest.revision, model.precision, model.provider),
                *model.identity,
            ),
            1,
        )
        for name, model in models.items()
        for manifest in [model.manifest]
    ]
    return _gauge("unitvec_model_info", "What is served.", labels, rows)


def _collect_reloads(backend: _Backend) -> Iterator[Metric]:
    name, text = "unitvec_model_reloads", "Attempts to replace a model."
    yield _counter(name, text, ("model", "outcome"), list(backend.engine.reloads.items()))
    draining = backend.scheduler.draining_models
    yield _number("unitvec_models_draining", "Replaced models with callers.", draining)
