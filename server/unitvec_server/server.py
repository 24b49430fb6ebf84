"""`unitvec-serve`: start, warm up, serve, drain, exit."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import socket
import sys
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha import reflection_pb2 as reflection_messages

from unitvec_protos import __version__
from unitvec_protos.v1 import embedding_pb2_grpc as pb_grpc
from unitvec_server.config import ServerConfig, read_config
from unitvec_server.edge import SERVICE, Edge
from unitvec_server.engine import Engine
from unitvec_server.errors import ConfigError, StartupError
from unitvec_server.loading import load_engine, worker_count
from unitvec_server.scheduler import Scheduler
from unitvec_server.security import make_token_check, server_credentials
from unitvec_server.servicer import EmbeddingServicer
from unitvec_server.telemetry import configure_logging

logger = logging.getLogger(__name__)

_LAST_WORD_S = 0.1
"""For a watch to pass on NOT_SERVING before it ends."""

_HEALTH_SERVICES = ("", SERVICE)
_REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the server until SIGTERM or SIGINT.

    Returns:
        Exit status: 0 after a clean stop, 2 if the server could not start.
    """
    try:
        config = read_config(sys.argv[1:] if argv is None else argv)
        configure_logging(log_format=config.log_format, level=config.log_level)
        _run(serve(config))
    except StartupError as exc:
        print(f"unitvec-serve: {exc}", file=sys.stderr)
        return 2
    return 0


class _Health(health.aio.HealthServicer):
    """Ends its watches when the server drains: one left open would use up all of the grace."""

    def __init__(self) -> None:
        super().__init__()
        self._draining = asyncio.Event()

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802 - gRPC's name
        """Reports changes until the server drains."""
        watch = asyncio.ensure_future(super().Watch(request, context))
        draining = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait({watch, draining}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({watch}, timeout=_LAST_WORD_S)
        finally:
            watch.cancel()
            draining.cancel()
            await asyncio.gather(watch, draining, return_exceptions=True)

    async def drain(self) -> None:
        """NOT_SERVING for good."""
        await self.enter_graceful_shutdown()
        self._draining.set()


async def serve(config: ServerConfig) -> None:
    """Serves until a signal asks to stop, then drains.

    Raises:
        StartupError: The server cannot start.
    """
    # Parallelism comes from our own threads; the tokenizers' pool would fight them for cores.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    stop = _stop_on_signals()
    with (
        ThreadPoolExecutor(worker_count(config), thread_name_prefix="tokenize") as executor,
        ThreadPoolExecutor(1, thread_name_prefix="compare") as comparing,
    ):
        servicer, health_servicer = EmbeddingServicer(config), _Health()
        await _set_health(health_servicer, serving=False)
        server, port = _build_server(config, servicer, health_servicer)
        await server.start()
        try:
            engine, scheduler = await _load(config, executor, comparing)
        except BaseException:
            await server.stop(None)
            raise
        servicer.open(engine)
        await _set_health(health_servicer, serving=True)
        _announce(config, engine, port)
        await stop.wait()
        logger.info("stopping: finishing what is in flight, at most %g s", config.grace_s)
        await health_servicer.drain()
        servicer.drain()
        await server.stop(config.grace_s)
        scheduler.stop()
        executor.shutdown(wait=False, cancel_futures=True)
        comparing.shutdown(wait=False, cancel_futures=True)
        logger.info("stopped")


async def _load(
    config: ServerConfig, executor: ThreadPoolExecutor, comparing: ThreadPoolExecutor
) -> tuple[Engine, Scheduler]:
    """Loads off the loop, so that health checks are answered meanwhile."""
    logger.info("loading %s", ", ".join(str(spec.folder) for spec in config.model))
    load = functools.partial(load_engine, config, executor=executor, comparing=comparing)
    return await asyncio.get_running_loop().run_in_executor(None, load)


def _build_server(
    config: ServerConfig, servicer: EmbeddingServicer, health_servicer: health.aio.HealthServicer
) -> tuple[grpc.aio.Server, int]:
    check_token = make_token_check(config.token_file)
    server = grpc.aio.server(
        interceptors=[Edge(check_token, max_calls=config.max_calls)],
        options=_channel_options(config),
    )
    pb_grpc.add_EmbeddingServiceServicer_to_server(servicer, server)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if config.reflection:
        _add_reflection(server)
    return server, _bind(server, config)


def _channel_options(config: ServerConfig) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        # Two servers must not share a port without saying so.
        ("grpc.so_reuseport", 0),
        # Clients may ping every 10 s, as some do; gRPC's own limit is 5 minutes.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def _bind(server: grpc.aio.Server, config: ServerConfig) -> int:
    host = f"[{config.host}]" if ":" in config.host else config.host
    address = f"{host}:{config.port}"
    credentials = server_credentials(config)
    try:
        _try_address(config)
        if credentials is None:
            return server.add_insecure_port(address)
    except (OSError, RuntimeError) as exc:
        raise ConfigError(f"--host, --port: cannot listen on {address}: {exc}") from exc
    try:
        return server.add_secure_port(address, credentials)
    except RuntimeError as exc:
        raise ConfigError(
            "--tls-cert, --tls-key, --tls-client-ca: not a usable PEM certificate and key"
        ) from exc


def _try_address(config: ServerConfig) -> None:
    """Asks the system first: gRPC does not tell why it cannot listen."""
    kind = socket.SOCK_STREAM
    family, *_, address = socket.getaddrinfo(config.host, config.port, type=kind)[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen()


def _add_reflection(server: grpc.aio.Server) -> None:
    """Reflection v1alpha, and v1, whose messages are the same on the wire."""
    # v1 is answered but not listed: Python has no descriptors of it to show.
    names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    servicer = reflection.aio.ReflectionServicer(names)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_messages.ServerReflectionRequest.FromString,
        response_serializer=reflection_messages.ServerReflectionResponse.SerializeToString,
    )
    for service in (reflection.SERVICE_NAME, _REFLECTION_V1):
        methods = grpc.method_handlers_generic_handler(service, {"ServerReflectionInfo": handler})
        server.add_generic_rpc_handlers((methods,))


async def _set_health(servicer: health.aio.HealthServicer, *, serving: bool) -> None:
    states = health_pb2.HealthCheckResponse
    for service in _HEALTH_SERVICES:
        await servicer.set(service, states.SERVING if serving else states.NOT_SERVING)


def _announce(config: ServerConfig, engine: Engine, port: int) -> None:
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
        *(worker_count(config), config.max_texts_per_request),
        *(config.max_text_bytes, config.max_queued_tokens),
    )
    security = f"{'TLS' if config.tls_cert else 'no TLS'}, "
    security += "bearer token" if config.token_file else "no token"
    logger.info("unitvec %s serving on %s:%d (%s)", __version__, config.host, port, security)


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _run(main_coroutine: Coroutine[Any, Any, None]) -> None:
    factory = None
    with contextlib.suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main_coroutine)


if __name__ == "__main__":
    sys.exit(main())
