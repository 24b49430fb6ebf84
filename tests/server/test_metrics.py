"""Metrics as they are collected, and the small HTTP server that gives them away."""

from __future__ import annotations

import asyncio
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from wsgiref.simple_server import WSGIServer

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tests.e2e.certificates import not_after_s, write_certificate
from tests.server.encoders import Held, queued, submit, text, texts
from unitvec_server.config import FixedLimits, ServerConfig
from unitvec_server.doors.backend import Backend
from unitvec_server.doors.calls import CODES
from unitvec_server.doors.rules import HouseRules
from unitvec_server.engine.admission import TokenGate
from unitvec_server.engine.engine import Engine
from unitvec_server.engine.scheduler import Scheduler
from unitvec_server.observability.frontend import Frontend
from unitvec_server.observability.logs import LogWriter
from unitvec_server.observability.metrics import Metrics, code_label, make_registry
from unitvec_server.observability.metrics_server import start_metrics_server
from unitvec_server.rpc.interceptor import Edge
from unitvec_server.rpc.servicer import EmbeddingServicer
from unitvec_server.rpc.streams import Streams
from unitvec_server.security.secrets import Secrets

GO_CODES = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
]


def test_codes_are_labelled_as_in_go() -> None:
    """Dashboards and rules that exist look for these."""
    assert [code_label(code) for code in CODES] == GO_CODES


@pytest.fixture
def frontend() -> Frontend:
    """An edge and a servicer that nobody called."""
    rules = HouseRules(lambda _: None, max_calls=7, max_unary_bytes=100)
    config = ServerConfig()
    streams = Streams(config, FixedLimits())
    return Frontend(
        rules,
        Edge(rules),
        EmbeddingServicer(Backend(), streams, config, FixedLimits()),
        streams,
        lambda: False,
        Secrets(ServerConfig()),
    )


def read(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """One sample."""
    return registry.get_sample_value(name, labels)


def engine_over(scheduler: Scheduler) -> Engine:
    """An engine without models: what its gate holds is what is asked of it here."""
    gate = TokenGate(100, scheduler.seconds_for)
    nobody = SimpleNamespace()
    return Engine(
        {}, scheduler=scheduler, gate=gate, executor=nobody, comparing=nobody, limits=nobody
    )


def test_the_end_of_the_certificate_follows_its_renewal(frontend: Frontend, tmp_path: Path) -> None:
    """There is no such series without TLS: alerts would take any number for a date."""
    name = "unitvec_tls_certificate_not_after_timestamp_seconds"
    assert read(make_registry(Metrics(frontend, LogWriter(None))), name) is None
    pair = write_certificate(tmp_path, "own", valid_days=(-1, 3))
    config = ServerConfig(tls_cert=pair.certificate, tls_key=pair.key)
    secrets = Secrets(config)
    registry = make_registry(Metrics(replace(frontend, secrets=secrets), LogWriter(None)))
    first = read(registry, name)
    assert first == not_after_s(pair)
    write_certificate(tmp_path, "own", valid_days=(-1, 9))
    assert read(registry, name) == first
    secrets.reload(asked=True)
    assert read(registry, name) == not_after_s(pair) > first + 5 * 86_400


async def test_before_models_are_loaded_calls_are_counted_already(frontend: Frontend) -> None:
    registry = make_registry(Metrics(frontend, LogWriter(None)))
    method = {
        "grpc_type": "unary",
        "grpc_service": "unitvec.v1.EmbeddingService",
        "grpc_method": "Embed",
    }
    assert read(registry, "grpc_server_started_total", **method) == 0
    for code in GO_CODES:
        assert read(registry, "grpc_server_handled_total", **method, grpc_code=code) == 0
    assert read(registry, "unitvec_serving") == 0
    assert read(registry, "unitvec_calls_limit") == 7
    assert read(registry, "unitvec_workers") is None


async def test_the_queue_is_seen_as_it_fills_and_empties(
    frontend: Frontend, make: Callable[..., Scheduler]
) -> None:
    """One worker, held: one text runs, the others wait."""
    encoder = Held()
    scheduler = make(encoder, max_batch_tokens=4)
    metrics = Metrics(frontend, LogWriter(None))
    metrics.open(engine_over(scheduler), scheduler)
    registry = make_registry(metrics)
    first = submit(scheduler, [text(1, length=4)])
    await encoder.has_started()
    assert read(registry, "unitvec_workers_busy") == 1
    assert read(registry, "unitvec_queue_oldest_seconds", model="m0") == 0
    others = submit(scheduler, [text(2, length=3), text(3, length=4)])
    await queued()
    assert read(registry, "unitvec_queue_texts", model="m0") == 2
    assert read(registry, "unitvec_queue_tokens", model="m0") == 7
    age_s = read(registry, "unitvec_queue_oldest_seconds", model="m0")
    assert 0 < age_s < read(registry, "unitvec_queue_oldest_seconds", model="m0")
    encoder.released.release(3)
    await asyncio.gather(first, others)
    await asyncio.to_thread(scheduler.stop)
    assert read(registry, "unitvec_queue_texts", model="m0") == 0
    assert read(registry, "unitvec_queue_oldest_seconds", model="m0") == 0
    assert read(registry, "unitvec_workers_busy") == 0
    assert read(registry, "unitvec_batch_texts_count", model="m0") == 3
    assert read(registry, "unitvec_batch_tokens_sum", model="m0") == 11
    assert read(registry, "unitvec_batch_seconds_count", model="m0") == 3
    assert read(registry, "unitvec_encoded_texts_total") == 3
    assert read(registry, "unitvec_throughput_tokens_per_second") > 0


async def test_reuse_and_cache(frontend: Frontend, make: Callable[..., Scheduler]) -> None:
    """What the scheduler counts is what is told."""
    encoder = Held()
    scheduler = make(encoder, cache_bytes=10_000)
    metrics = Metrics(frontend, LogWriter(None))
    metrics.open(engine_over(scheduler), scheduler)
    registry = make_registry(metrics)
    encoder.released.release(100)
    for _ in range(2):
        await submit(scheduler, [*texts(1, 2), text(1)])
    assert read(registry, "unitvec_encoded_texts_total") == 2
    assert read(registry, "unitvec_joined_texts_total") == 1
    assert read(registry, "unitvec_cache_hits_total") == 3
    assert read(registry, "unitvec_cache_misses_total") == 3
    assert 0 < read(registry, "unitvec_cache_bytes") <= 10_000
    assert read(registry, "unitvec_cache_limit_bytes") == 10_000


class One(Collector):
    """A metric."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily("one", "One.", value=1)


@pytest.fixture(params=["127.0.0.1", "::1"])
def server(request: pytest.FixtureRequest) -> Iterator[WSGIServer]:
    """Serves one metric."""
    registry = CollectorRegistry()
    registry.register(One())
    try:
        server = start_metrics_server(request.param, 0, registry=registry)
    except OSError as exc:
        pytest.skip(f"{request.param} is not here: {exc}")
    yield server
    server.shutdown()
    server.server_close()


def scrape(server: WSGIServer, path: str = "/metrics") -> str:
    """What is served now."""
    host, port = server.server_address[:2]
    where = f"[{host}]" if ":" in str(host) else host
    with urllib.request.urlopen(f"http://{where}:{port}{path}") as response:
        return str(response.read().decode())


def test_metrics_are_served(server: WSGIServer) -> None:
    assert "\none 1.0\n" in scrape(server)


@pytest.mark.parametrize("path", ["/", "/metric", "/metrics/", "/favicon.ico"])
def test_another_path_is_not_found(server: WSGIServer, path: str) -> None:
    """The answer says which one there is."""
    with pytest.raises(urllib.error.HTTPError, match="404") as caught:
        scrape(server, path)
    with caught.value:
        assert b"/metrics" in caught.value.read()


def test_clients_that_say_nothing_hold_up_nobody_and_are_hung_up_on(
    server: WSGIServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without a word on stderr, where the log is."""
    monkeypatch.setattr(server.RequestHandlerClass, "timeout", 1.0)
    silent = [socket.create_connection(server.server_address[:2]) for _ in range(20)]
    assert "\none 1.0\n" in scrape(server)
    for client in silent:
        assert client.recv(1) == b""
        client.close()
    assert capfd.readouterr() == ("", "")


def test_a_taken_port_is_refused(server: WSGIServer) -> None:
    host, port = server.server_address[:2]
    with pytest.raises(OSError, match="in use"):
        start_metrics_server(str(host), port, registry=CollectorRegistry())
