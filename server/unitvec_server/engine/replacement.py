"""Another model under a name that is served: loaded beside the old one, and switched to at once."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple, TypeVar

from unitvec_server.config import ModelSpec, ServerConfig
from unitvec_server.engine.choices import as_served, choose_graphs
from unitvec_server.engine.engine import Engine
from unitvec_server.engine.loading import LoadedModel, batch_limits, load_model
from unitvec_server.engine.model_queue import ModelQueue
from unitvec_server.engine.requests import Model
from unitvec_server.engine.scheduler import Scheduler
from unitvec_server.errors import ArtifactError
from unitvec_server.model.artifact import Artifact, load_artifact
from unitvec_server.model.memory import Footprint, room_bytes, status_bytes
from unitvec_server.model.providers import Choice

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_MIB = 2**20


class Reloaded(NamedTuple):
    """What came of the reload of a model.

    Attributes:
        name: Name of the model.
        outcome: One of `RELOAD_OUTCOMES`.
        reason: Why it was refused; else empty.
    """

    name: str
    outcome: str
    reason: str


def load_beside(
    present: Model, spec: ModelSpec, config: ServerConfig, *, workers: int
) -> LoadedModel | None:
    """Loads what a folder holds now, verifies it and warms it up, while the old model serves.

    Args:
        present: Model that is served under the name.
        spec: Name and folder of the artifact.
        config: Configuration of the server.
        workers: Runs side by side.

    Returns:
        The new model; None if the folder holds what is served already.

    Raises:
        ArtifactError: The folder cannot be served, or the memory does not suffice for both.
        ProviderError: The execution provider is not available.
    """
    # Where the folder is a link, all is read from what it names now.
    spec = dataclasses.replace(spec, folder=spec.folder.resolve())
    artifact = load_artifact(spec.folder)
    if _is_served(artifact, present, config):
        return None
    choices = choose_graphs(artifact, config)
    graph_bytes = _graph_bytes(artifact, choices)
    expected = present.footprint.scaled(graph_bytes)
    logger.info(
        "model %s: loading %s beside the present one; memory: %d MiB now, with the present one "
        "(graph of %d MiB); up to about %d MiB more for the new one (graph of %d MiB), and %d MiB "
        "for its runs",
        *(spec.name, spec.folder, status_bytes("VmRSS") // _MIB),
        *(present.footprint.graph_bytes // _MIB, expected.load_bytes // _MIB),
        *(graph_bytes // _MIB, workers * expected.run_bytes // _MIB),
    )
    _check_room(expected, workers=workers)
    choice = choices[""]
    if (choice.precision, choice.provider) == (present.precision, present.provider):
        # To measure the width of runs anew would take the machine from those who are served.
        config = dataclasses.replace(config, max_batch_tokens=present.max_batch_tokens)
    loaded = load_model(spec, config)
    # What was free inside of the process hides a part of what is taken.
    footprint = loaded.model.footprint.at_least(expected)
    _check_room(dataclasses.replace(footprint, load_bytes=0), workers=workers)
    model = dataclasses.replace(loaded.model, footprint=footprint)
    return dataclasses.replace(loaded, model=model)


def _is_served(artifact: Artifact, present: Model, config: ServerConfig) -> bool:
    """Whether the files of an artifact are those that are served."""
    choices = choose_graphs(artifact, config)
    found = {
        folder: as_served(part.manifest, choices[folder])
        for folder, part in {"": artifact, **artifact.routes}.items()
    }
    by_prompt = {name: found[folder] for name, folder in artifact.manifest.routes.items()}
    served = {name: route.manifest for name, route in present.routes.items()}
    return (found[""], by_prompt) == (present.manifest, served)


def _graph_bytes(artifact: Artifact, choices: Mapping[str, Choice]) -> int:
    """Bytes of the graphs that run: those of the artifact and of all its routes."""
    parts = {"": artifact, **artifact.routes}
    return sum(
        part.manifest.graphs[choices[folder].graph].size_bytes for folder, part in parts.items()
    )


def _check_room(footprint: Footprint, *, workers: int) -> None:
    """Makes sure that a model and its runs fit beside all that the process holds.

    Raises:
        ArtifactError: They do not.
    """
    needed_bytes, room = footprint.load_bytes + workers * footprint.run_bytes, room_bytes()
    if room is not None and needed_bytes > room:
        raise ArtifactError(
            f"it does not fit beside the present one: up to {needed_bytes // _MIB} MiB more are "
            f"needed and {room // _MIB} MiB are left here; give the process more memory, or start "
            "it anew"
        )


def put_in_place(
    loaded: LoadedModel, engine: Engine, scheduler: Scheduler
) -> tuple[Engine, Sequence[ModelQueue]]:
    """Lets another engine serve a model under its name. To be called on the event loop.

    Args:
        loaded: The new model.
        engine: The present engine, which keeps the old model for those who work with it.
        scheduler: The scheduler of both.

    Returns:
        The engine that takes over, and the queues of the old model and its routes.
    """
    names = {part.queue for part in parts_of(engine.models[loaded.model.name])}
    new = {part.model.queue: part for part in (loaded, *loaded.routes)}
    old = scheduler.replace(
        names,
        {name: part.encoder for name, part in new.items()},
        {name: batch_limits(part) for name, part in new.items()},
        {name: part.warm_run for name, part in new.items()},
    )
    return engine.with_model(loaded.model), old


def parts_of(model: Model) -> Sequence[Model]:
    """A model and those that embed texts in its place."""
    return [model, *model.routes.values()]


def start_thread(work: Callable[[], _T]) -> Future[_T]:
    """Runs work on a thread of its own that does not keep the process from ending."""
    future: Future[_T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = work()
        except BaseException as exc:  # noqa: BLE001 - whoever waits for the future gets it
            future.set_exception(exc)
        else:
            future.set_result(result)

    threading.Thread(target=run, name="reload", daemon=True).start()
    return future
