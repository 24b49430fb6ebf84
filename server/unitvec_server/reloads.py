"""Models that change while the server serves: SIGHUP loads what their folders hold now.

A switch is the exchange of one engine for another that shares the scheduler, the limits and the
counts. Whoever began with the old engine, a call or a stream, keeps it and its models to the end;
when the last of them is gone, Python frees the old model, and its queue is retired.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import gc
import logging
import weakref
from collections.abc import Callable, Iterable, Sequence

from unitvec_server.announcement import announce_model
from unitvec_server.config import ModelSpec, ServerConfig
from unitvec_server.doors.backend import Backend
from unitvec_server.engine.acquisition import acquire
from unitvec_server.engine.engine import Engine
from unitvec_server.engine.loading import LoadedModel
from unitvec_server.engine.model_queue import ModelQueue
from unitvec_server.engine.replacement import (
    Reloaded,
    load_beside,
    parts_of,
    put_in_place,
    start_thread,
)
from unitvec_server.engine.scheduler import Scheduler
from unitvec_server.errors import StartupError
from unitvec_server.model.memory import status_bytes, trim_heap

logger = logging.getLogger(__name__)

_MIB = 2**20
_FIRST_LOOK_S, _LAST_LOOK_S = 1.0, 60.0
"""Times between two collections of garbage while an old model has callers: an error that refers to
itself may hold the model, and on a quiet server nothing else would free it."""


class Reloads:
    """Replaces models that have changed, one after the other.

    Args:
        config: Configuration of the server.
        backend: Holds the engine for all doors.
        scheduler: Scheduler of all models.
        show: Function that is told of each engine that takes over.
    """

    def __init__(
        self,
        config: ServerConfig,
        backend: Backend,
        scheduler: Scheduler,
        show: Callable[[Engine, Scheduler], None],
    ) -> None:
        self._config = config
        self._backend = backend
        self._scheduler = scheduler
        self._show = show
        self._drains: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    async def keep_ready(self, asked: asyncio.Event) -> None:
        """Reloads whenever it is asked to, until it is cancelled.

        Args:
            asked: The event that asks for it. Further requests amid a reload make one more.
        """
        while True:
            await asked.wait()
            asked.clear()
            await self.reload()

    async def reload(self, names: Sequence[str] = ()) -> list[Reloaded]:
        """Loads all models whose folders hold something else, and switches to each at once.

        A model that cannot be loaded stays as it is, and one line at level error says why.

        Args:
            names: The models to look at; none for all.
        """
        async with self._turn:
            specs = [spec for spec in self._config.model if not names or spec.name in names]
            return [await self._try(spec) for spec in specs]

    async def _try(self, spec: ModelSpec) -> Reloaded:
        outcome, reason = "refused", ""
        try:
            outcome = await self._reload(spec)
        except Exception as exc:
            trace = None if isinstance(exc, StartupError | MemoryError) else exc
            reason = str(exc) or type(exc).__name__
            message = "model %s not reloaded, the old stays in use: %s"
            logger.log(logging.ERROR, message, spec.name, reason, exc_info=trace)
        self._backend.engine.reloads[spec.name, outcome] += 1
        return Reloaded(spec.name, outcome, reason)

    async def _reload(self, spec: ModelSpec) -> str:
        """Reloads one model: whether it was `switched` or is `unchanged`."""
        [spec] = (await acquire(dataclasses.replace(self._config, model=(spec,)))).model
        load = functools.partial(
            load_beside,
            self._backend.engine.models[spec.name],
            *(spec, self._config),
            workers=len(self._scheduler.workers),
        )
        loaded = await asyncio.wrap_future(start_thread(load))
        if loaded is None:
            logger.info("model %s: %s holds nothing new", spec.name, spec.folder)
            return "unchanged"
        self._switch(loaded)
        return "switched"

    def _switch(self, loaded: LoadedModel) -> None:
        """Lets calls and streams that begin from now on have the new model."""
        old = self._backend.engine.models[loaded.model.name]
        gone = Gone(parts_of(old))
        logger.info(
            "model %s: switched from space %s, bits %s; what began with them ends with them",
            *(old.name, old.identity.space or "unknown", old.identity.bits),
        )
        engine, queues = put_in_place(loaded, self._backend.engine, self._scheduler)
        self._backend.open(engine)
        self._show(engine, self._scheduler)
        announce_model(loaded.model, is_default=engine.model("") is loaded.model)
        drain = asyncio.create_task(self._drain(old.name, queues, gone))
        del old, queues  # from here on whoever works with them alone holds them
        self._drains.add(drain)
        drain.add_done_callback(self._drains.discard)

    async def _drain(self, name: str, queues: Sequence[ModelQueue], gone: Gone) -> None:
        """Retires the queues of an old model once nobody works with the model any more."""
        await gone.wait()
        freed = Gone(queues)
        self._scheduler.retire(queues)
        del queues
        await freed.wait()
        await asyncio.to_thread(trim_heap)
        now_mib = status_bytes("VmRSS") // _MIB
        logger.info("model %s: the old one is drained and gone; memory: %d MiB now", name, now_mib)


class Gone:
    """Waits until nothing refers to some objects any more.

    Args:
        objects: The objects, which are not kept.
    """

    def __init__(self, objects: Iterable[object]) -> None:
        self._loop, self._all_gone = asyncio.get_running_loop(), asyncio.Event()
        watched = {id(each): each for each in objects}
        self._left = len(watched)
        for each in watched.values():
            weakref.finalize(each, self._tell).atexit = False

    def _tell(self) -> None:
        """Passes it on to the event loop, from whichever thread let go of an object."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._count)

    def _count(self) -> None:
        self._left -= 1
        if not self._left:
            self._all_gone.set()

    async def wait(self) -> None:
        """Waits, and collects garbage now and then."""
        look_s = _FIRST_LOOK_S
        while not self._all_gone.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone.wait(), look_s)
            if not self._all_gone.is_set():
                gc.collect()
                look_s = min(2 * look_s, _LAST_LOOK_S)
