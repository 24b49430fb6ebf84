"""`unitvec-serve`: start, warm up, serve, drain, exit."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import os
import socket
import sys
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from unitvec_protos import __version__
from unitvec_protos.v1 import embedding_pb2_grpc as pb_grpc
from unitvec_server.config import FIXED_LIMITS, FixedLimits, ServerConfig, read_config
from unitvec_server.descriptors import make_room
from unitvec_server.engine.engine import Engine
from unitvec_server.engine.heartbeat import Heartbeat
from unitvec_server.engine.loading import load_engine, worker_count
from unitvec_server.engine.scheduler import Scheduler
from unitvec_server.engine.watchdog import Watchdog, WatchedPool
from unitvec_server.errors import ConfigError, StartupError
from unitvec_server.model.memory import MemoryPlan
from unitvec_server.observability.logs import LogWriter, configure_logging, open_stderr
from unitvec_server.observability.memory import HELD_MESSAGES, most_client_bytes
from unitvec_server.observability.telemetry import Telemetry
from unitvec_server.rpc.health import Health
from unitvec_server.rpc.interceptor import Edge, Patience
from unitvec_server.rpc.reflection import add_reflection
from unitvec_server.rpc.servicer import EmbeddingServicer
from unitvec_server.security.secrets import Secrets, check_exposure
from unitvec_server.signals import CUT_STATUS, FAULT_STATUS, Signals, leave

_T = TypeVar("_T")

logger = logging.getLogger(__name__)

_COUNT_S = 0.5
"""Between counting the calls that the grace leaves unfinished and cutting them."""

_MIB = 2**20

_FAULT_LINE = "%s; ending, so that the supervisor starts a new process"

_FAULT_GRACE_S = 5.0
"""After a fault: workers that still work finish what they can, and callers should go elsewhere."""


def main(argv: Sequence[str] | None = None, *, limits: FixedLimits = FIXED_LIMITS) -> int:
    """Runs the server until SIGTERM or SIGINT; `unitvec_server.signals` tells the exit statuses.

    Args:
        argv: Flags; without them, those of the command line.
        limits: The limits that have no flag.

    Returns:
        0 after a clean stop, 2 if the server could not start.
    """
    logs = open_stderr()
    try:
        config = read_config(sys.argv[1:] if argv is None else argv)
        configure_logging(logs, log_format=config.log_format, level=config.log_level)
        _run(serve(config, limits, logs))
    except StartupError as exc:
        reason = str(exc)
    except MemoryError:
        reason = "not enough memory to load and run the models"
    else:
        return 0
    logs.put(f"unitvec-serve: {reason}")
    logs.flush()
    return 2


async def serve(config: ServerConfig, limits: FixedLimits, logs: LogWriter) -> None:
    """Serves until a signal asks to stop, then drains.

    Raises:
        StartupError: The server cannot start.
    """
    # Parallelism comes from our own threads; the tokenizers' pool would fight them for cores.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signals = Signals()
    signals.listen()
    make_room(config.max_connections)
    with (
        Heartbeat(stuck_after_s=limits.stuck_after_s, on_stuck=_end_stuck) as heartbeat,
        Telemetry(config, logs) as telemetry,
        WatchedPool(worker_count(config), name="tokenize") as executor,
        WatchedPool(1, name="compare") as comparing,
    ):
        servicer, health_servicer = EmbeddingServicer(config, limits), Health()
        await health_servicer.set_serving(serving=False)
        secrets = Secrets(config)
        edge = Edge(
            secrets.check_token,
            max_calls=config.max_calls,
            max_unary_bytes=HELD_MESSAGES * config.max_message_bytes,
            observers=telemetry.observers,
            patience=Patience(idle_s=limits.max_stream_idle_s),
        )
        telemetry.show(
            edge,
            servicer,
            is_serving=lambda: health_servicer.is_serving() and heartbeat.is_beating(),
            secrets=secrets,
        )
        server, port = _build_server(config, edge, servicer, health_servicer, secrets)
        await server.start()
        try:
            loading = _load(config, executor, comparing)
            engine, scheduler, plan = await _unless_stopped(loading, signals.stop)
        except BaseException:
            await server.stop(None)
            raise
        gc.freeze()  # what is loaded stays: each full collection of it would stop all for 40 ms
        servicer.open(engine)
        telemetry.open(engine, scheduler)
        await health_servicer.set_serving(serving=True)
        _announce(config, engine, plan, port)
        freshness = asyncio.create_task(secrets.keep_fresh(signals.reload))
        watchdog = Watchdog(
            scheduler,
            pools=[executor, comparing],
            stuck_after_s=limits.stuck_after_s,
        )
        fault = await _until_stopped(signals.stop, watchdog)
        freshness.cancel()
        grace_s = min(config.grace_s, _FAULT_GRACE_S) if fault else config.grace_s
        logger.info("stopping: finishing what is in flight, at most %g s", grace_s)
        await health_servicer.drain()
        servicer.drain()
        edge.drain()
        await _stop(server, edge, grace_s=grace_s, cut_status=FAULT_STATUS if fault else CUT_STATUS)
        if fault:
            leave(FAULT_STATUS)
        scheduler.stop()
        executor.shutdown(wait=False, cancel_futures=True)
        comparing.shutdown(wait=False, cancel_futures=True)
        logger.info("stopped")


async def _load(
    config: ServerConfig, executor: WatchedPool, comparing: WatchedPool
) -> tuple[Engine, Scheduler, MemoryPlan]:
    """Loads off the loop, so that health checks are answered meanwhile."""
    logger.info("loading %s", ", ".join(str(spec.folder) for spec in config.model))
    load = functools.partial(load_engine, config, executor=executor, comparing=comparing)
    return await asyncio.get_running_loop().run_in_executor(None, load)


async def _unless_stopped(loading: Coroutine[Any, Any, _T], stop: asyncio.Event) -> _T:
    """Waits for the models; a stop meanwhile ends the process, since loading cannot be undone."""
    task = asyncio.ensure_future(loading)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not task.done():
        logger.info("stopped while loading")
        leave(0)
    return await task


async def _until_stopped(stop: asyncio.Event, watchdog: Watchdog) -> str:
    """Waits for a signal, or for a fault that only a new process can mend, which it returns."""
    stopping = asyncio.ensure_future(stop.wait())
    watching = asyncio.ensure_future(watchdog.wait_for_fault())
    await asyncio.wait({stopping, watching}, return_when=asyncio.FIRST_COMPLETED)
    for task in (stopping, watching):
        task.cancel()
    if stop.is_set():
        return ""
    fault = await watching
    logger.critical(_FAULT_LINE, fault)
    return fault


def _end_stuck(fault: str) -> None:
    """Ends the process from beside its event loop, which no longer can."""
    logger.critical(_FAULT_LINE, fault)
    leave(FAULT_STATUS)


async def _stop(server: grpc.aio.Server, edge: Edge, *, grace_s: float, cut_status: int) -> None:
    """Finishes what is in flight; if it takes longer than the grace, cuts it and exits."""
    stopping = asyncio.ensure_future(server.stop(grace_s + _COUNT_S))
    await asyncio.wait({stopping}, timeout=grace_s)
    if cut := edge.calls:
        await asyncio.wait({stopping}, timeout=2 * _COUNT_S)
        logger.warning("the grace of %g s is over: %d calls were cut", grace_s, cut)
        leave(cut_status)
    await stopping


def _build_server(
    config: ServerConfig,
    edge: Edge,
    servicer: EmbeddingServicer,
    health_servicer: health.aio.HealthServicer,
    secrets: Secrets,
) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server(interceptors=[edge], options=_channel_options(config))
    pb_grpc.add_EmbeddingServiceServicer_to_server(servicer, server)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if config.reflection:
        add_reflection(server)
    return server, _bind(server, config, secrets.credentials())


def _channel_options(config: ServerConfig) -> list[tuple[str, int]]:
    """Bounds on what a connection may cost; `docs/operations/security.md` lists them."""
    age_ms = min(int(config.max_connection_age_s * 1000), 2**31 - 1) or 2**31 - 1
    return [
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        ("grpc.max_allowed_incoming_connections", config.max_connections),
        # Two servers must not share a port without saying so.
        ("grpc.so_reuseport", 0),
        # Clients may ping every 10 s, as some do; gRPC's own limit is 5 minutes.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_ping_strikes", 2),
        # The soft bound is gRPC's own; between it and the hard one, calls fail more and more.
        ("grpc.max_metadata_size", 8 * 1024),
        ("grpc.absolute_max_metadata_size", 16 * 1024),
        # Beyond it clients wait without a word; as many again as max_calls lets them be told.
        ("grpc.max_concurrent_streams", 2 * config.max_calls),
        # Who connects must finish the handshakes of TLS and HTTP/2; gRPC would wait 2 minutes.
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.max_connection_idle_ms", 600_000),
        # Renewal spreads clients over new replicas and ends what old certificates let in.
        ("grpc.max_connection_age_ms", age_ms),
        ("grpc.max_connection_age_grace_ms", age_ms),
    ]


def _bind(
    server: grpc.aio.Server, config: ServerConfig, credentials: grpc.ServerCredentials | None
) -> int:
    host = f"[{config.host}]" if ":" in config.host else config.host
    address = f"{host}:{config.port}"
    try:
        check_exposure(config)
        _try_address(config)
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except (OSError, RuntimeError) as exc:
        raise ConfigError(f"--host, --port: cannot listen on {address}: {exc}") from exc


def _try_address(config: ServerConfig) -> None:
    """Asks the system first: gRPC does not tell why it cannot listen."""
    kind = socket.SOCK_STREAM
    family, *_, address = socket.getaddrinfo(config.host, config.port, type=kind)[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen()


def _announce(config: ServerConfig, engine: Engine, plan: MemoryPlan, port: int) -> None:
    for index, model in enumerate(engine.models.values()):
        manifest = model.manifest
        logger.info(
            "model %s%s: %s, %d dims, up to %d tokens, %s pooling, %s on %s, %d tokens a run",
            *(model.name, "" if index else " (default)", manifest.model_id, manifest.dim),
            *(manifest.max_seq_length, manifest.pooling, model.precision, model.provider),
            model.max_batch_tokens,
        )
    logger.info(
        "%d runs side by side; limits: %d texts a request, %d bytes a text, %d tokens queued",
        *(plan.workers, config.max_texts_per_request),
        *(config.max_text_bytes, config.max_queued_tokens),
    )
    _announce_memory(config, engine, plan)
    security = f"{'TLS' if config.tls_cert else 'no TLS'}, "
    security += "bearer token" if config.token_file or config.tokens else "no token"
    logger.info("unitvec %s serving on %s:%d (%s)", __version__, config.host, port, security)


def _announce_memory(config: ServerConfig, engine: Engine, plan: MemoryPlan) -> None:
    dim = max(model.manifest.dim for model in engine.models.values())
    clients = most_client_bytes(config, dim=dim, workers=worker_count(config))
    logger.info(
        "memory: %d MiB now; will hold at most %d MiB with %d runs of the longest texts, and "
        "%d MiB more if all clients are at their worst: docs/operations/memory.md",
        *(plan.now_bytes // _MIB, plan.most_bytes // _MIB, plan.workers, clients // _MIB),
    )


def _run(main_coroutine: Coroutine[Any, Any, None]) -> None:
    factory = None
    with contextlib.suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main_coroutine)
