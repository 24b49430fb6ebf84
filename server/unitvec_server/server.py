"""`unitvec-serve`: start, warm up, serve, drain, exit."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import gc
import logging
import os
import sys
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from unitvec_protos.installation import install_command
from unitvec_server.announcement import Ports, announce
from unitvec_server.config import FIXED_LIMITS, FixedLimits, ServerConfig
from unitvec_server.descriptors import make_room
from unitvec_server.doors.backend import Backend
from unitvec_server.doors.insights import Insights
from unitvec_server.doors.rules import HouseRules
from unitvec_server.engine.acquisition import acquire
from unitvec_server.engine.choices import worker_count
from unitvec_server.engine.engine import Engine
from unitvec_server.engine.heartbeat import Heartbeat
from unitvec_server.engine.loading import load_engine
from unitvec_server.engine.scheduler import Scheduler
from unitvec_server.engine.watchdog import Watchdog, WatchedPool
from unitvec_server.errors import ConfigError, StartupError
from unitvec_server.flags import read_config
from unitvec_server.model.memory import MemoryPlan
from unitvec_server.observability.frontend import Frontend
from unitvec_server.observability.logs import LogWriter, configure_logging, open_stderr
from unitvec_server.observability.memory import HELD_MESSAGES
from unitvec_server.observability.telemetry import Telemetry
from unitvec_server.peers import open_peers
from unitvec_server.reloads import Reloads
from unitvec_server.rpc.admin import AdminServicer
from unitvec_server.rpc.health import Health
from unitvec_server.rpc.interceptor import Edge, Patience
from unitvec_server.rpc.listener import (
    Services,
    build_server,
)
from unitvec_server.rpc.servicer import EmbeddingServicer
from unitvec_server.rpc.streams import Streams
from unitvec_server.security.secrets import Secrets
from unitvec_server.signals import CUT_STATUS, FAULT_STATUS, Signals, leave

if TYPE_CHECKING:
    from unitvec_server.http.door import HttpDoor

_T = TypeVar("_T")

logger = logging.getLogger(__name__)

_COUNT_S = 0.5
"""Time between counting the calls that are unfinished after the grace and cutting them."""

_END_EXPORT_S = 10.0
"""Time for an export to end and to remove what it has begun."""

_MIB = 2**20

_FAULT_LINE = "%s; ending, so that the supervisor starts a new process"

_FAULT_GRACE_S = 5.0
"""Grace after a fault: the other workers finish what they can, and callers should go elsewhere."""


def main(argv: Sequence[str] | None = None, *, limits: FixedLimits = FIXED_LIMITS) -> int:
    """Runs the server until SIGTERM or SIGINT; `unitvec_server.signals` tells the exit statuses.

    A thread may still load a model then, which nobody will use: end the process by `leave`.

    Args:
        argv: The flags; None takes those of the command line.
        limits: The limits that have no flag.

    Returns:
        The exit status: 0 after a clean stop, 2 if the server could not start.
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
    # Our own threads run side by side; the pool of the tokenizers would take cores from them.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signals = Signals()
    signals.listen()
    doors = 1 if config.http_port is None else 2
    fit = make_room(config.max_connections, doors=doors)
    config = dataclasses.replace(config, max_connections=fit)
    with (
        Heartbeat(stuck_after_s=limits.stuck_after_s, on_stuck=_end_stuck) as heartbeat,
        Telemetry(config, logs) as telemetry,
        WatchedPool(worker_count(config), name="tokenize") as executor,
        WatchedPool(1, name="compare") as comparing,
    ):
        door = await _open_door(config, limits, telemetry, heartbeat)
        try:
            loading = _load(config, limits, executor, comparing)
            engine, scheduler, plan = await _unless_stopped(loading, signals.stop)
        except BaseException:
            await _end(door, 0.0)
            raise
        # What is loaded stays, and each full collection of it would stop all threads for 40 ms.
        gc.freeze()
        door.backend.open(engine)
        telemetry.open(engine, scheduler)
        await door.services.health.set_serving(serving=True)
        announce(config, engine, plan, Ports(door.port, door.http.port if door.http else None))
        del engine  # The backend alone holds it, so that models that are replaced can be freed.
        reloads = Reloads(config, door.backend, scheduler, telemetry.open)
        door.services.admin.open(reloads.reload)
        renewals = [
            asyncio.create_task(door.secrets.keep_fresh(signals.reload_secrets)),
            asyncio.create_task(reloads.keep_ready(signals.reload_models)),
        ]
        pools = [executor, comparing]
        watchdog = Watchdog(scheduler, pools=pools, stuck_after_s=limits.stuck_after_s)
        fault = await _until_stopped(signals.stop, watchdog)
        for renewal in renewals:
            renewal.cancel()
        await _drain(door, config, fault=fault)
        scheduler.stop()
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        logger.info("stopped")


@dataclasses.dataclass(frozen=True)
class _Door:
    """The gRPC server and the parts that answer its calls, and the HTTP door if there is one."""

    server: grpc.aio.Server
    port: int
    rules: HouseRules
    edge: Edge
    backend: Backend
    streams: Streams
    services: Services
    secrets: Secrets
    http: HttpDoor | None


async def _open_door(
    config: ServerConfig, limits: FixedLimits, telemetry: Telemetry, heartbeat: Heartbeat
) -> _Door:
    """Starts to take calls. Until the models are loaded they get UNAVAILABLE."""
    backend, streams, secrets = Backend(), Streams(config, limits), Secrets(config)
    servicer = EmbeddingServicer(backend, streams, config, limits)
    peers = open_peers(config, backend, streams)
    health = Health(name for peer in peers for name in peer.services)
    await health.set_serving(serving=False)
    rules = HouseRules(
        secrets.check_token,
        max_calls=config.max_calls,
        max_unary_bytes=HELD_MESSAGES * config.max_message_bytes,
        observers=telemetry.observers,
    )
    patience = Patience(idle_s=limits.max_stream_idle_s)
    edge = Edge(rules, patience=patience, check_admin=secrets.check_admin)

    def is_serving() -> bool:
        return health.is_serving() and heartbeat.is_beating()

    def grpc_port() -> int:
        return port  # which is bound below, before anybody can ask

    insights = Insights(is_serving, telemetry.scrape, grpc_port)
    http = _make_http(config, rules, backend, insights)
    tallies = http.tallies if http else ()
    telemetry.show(Frontend(rules, edge, servicer, streams, is_serving, secrets, tallies))
    services = Services(servicer, AdminServicer(backend), health, peers)
    server, port = build_server(config, edge, services, secrets)
    await server.start()
    if http is not None:
        try:
            await http.start(secrets.context())
        except BaseException:
            await server.stop(None)
            raise
    return _Door(server, port, rules, edge, backend, streams, services, secrets, http)


def _make_http(
    config: ServerConfig, rules: HouseRules, backend: Backend, insights: Insights
) -> HttpDoor | None:
    """The HTTP door, if it is asked for: most servers need not load its packages."""
    if config.http_port is None:
        return None
    try:
        from unitvec_server.http.door import HttpDoor
    except ImportError as exc:
        raise ConfigError(
            f"--http-port: {exc.name} is not installed: {install_command('server-http')}"
        ) from exc
    return HttpDoor(config, rules, backend, insights)


async def _drain(door: _Door, config: ServerConfig, *, fault: str) -> None:
    """Finishes what is in flight. After a fault it ends the process."""
    grace_s = min(config.grace_s, _FAULT_GRACE_S) if fault else config.grace_s
    logger.info("stopping: finishing what is in flight, at most %g s", grace_s)
    await door.services.health.drain()
    door.streams.drain()
    door.edge.drain()
    cut_status = FAULT_STATUS if fault else CUT_STATUS
    await _stop(door, grace_s=grace_s, cut_status=cut_status)
    if fault:
        leave(FAULT_STATUS)


async def _load(
    config: ServerConfig, limits: FixedLimits, executor: WatchedPool, comparing: WatchedPool
) -> tuple[Engine, Scheduler, MemoryPlan]:
    """Loads the models in a thread, so that health checks are answered meanwhile."""
    config = await acquire(config)
    logger.info("loading %s", ", ".join(str(spec.folder) for spec in config.model))
    load = functools.partial(
        load_engine, config, executor=executor, comparing=comparing, limits=limits
    )
    return await asyncio.get_running_loop().run_in_executor(None, load)


async def _unless_stopped(loading: Coroutine[Any, Any, _T], stop: asyncio.Event) -> _T:
    """Waits for the models. A stop ends the process, since loading cannot be interrupted."""
    task = asyncio.ensure_future(loading)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not task.done():
        task.cancel()  # which ends an export, but no thread
        await asyncio.wait({task}, timeout=_END_EXPORT_S)
        logger.info("stopped while loading")
        leave(0)
    return await task


async def _until_stopped(stop: asyncio.Event, watchdog: Watchdog) -> str:
    """Waits for a signal, or for a fault that only a new process can mend.

    Returns:
        The fault; empty after a signal.
    """
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
    """Ends the process from another thread, since its event loop no longer can."""
    logger.critical(_FAULT_LINE, fault)
    leave(FAULT_STATUS)


async def _stop(door: _Door, *, grace_s: float, cut_status: int) -> None:
    """Finishes the calls in work. If they take longer than the grace, cuts them and exits."""
    stopping = asyncio.ensure_future(_end(door, grace_s + _COUNT_S))
    ended, _ = await asyncio.wait({stopping}, timeout=grace_s)
    # A call that has just ended is counted until its handler has seen it.
    if not ended and (cut := door.rules.calls.count):
        await asyncio.wait({stopping}, timeout=2 * _COUNT_S)
        logger.warning("the grace of %g s is over: %d calls were cut", grace_s, cut)
        leave(cut_status)
    await stopping


async def _end(door: _Door, grace_s: float) -> None:
    """Ends both servers, and cuts what takes longer."""
    http = [door.http.drain(grace_s)] if door.http else []
    await asyncio.gather(door.server.stop(grace_s), *http)


def _run(main_coroutine: Coroutine[Any, Any, None]) -> None:
    factory = None
    with contextlib.suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main_coroutine)
