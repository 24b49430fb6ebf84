"""From a configuration to a running engine: artifacts, tokenizers, encoders, warm-up."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

import numpy as np

from unitvec_server.config import FIXED_LIMITS, FixedLimits, ModelSpec, ServerConfig
from unitvec_server.engine.admission import TokenGate
from unitvec_server.engine.choices import (
    as_served,
    choose_graphs,
    encoder_options,
    inspect_machine,
    worker_count,
)
from unitvec_server.engine.engine import Engine
from unitvec_server.engine.requests import Limits, Model
from unitvec_server.engine.scheduler import Scheduler
from unitvec_server.engine.self_test import find_canary, run_self_test
from unitvec_server.errors import ArtifactError
from unitvec_server.model.artifact import Artifact, load_artifact, verify_file, verify_graph
from unitvec_server.model.cpus import cpu_features, lacks_int8
from unitvec_server.model.encoder import Encoder, describe_runtime
from unitvec_server.model.fingerprints import (
    Fingerprints,
    bits_of,
    checked_space,
    is_reproducible,
    join_bits,
)
from unitvec_server.model.manifest import FUSED
from unitvec_server.model.memory import (
    Footprint,
    MemoryPlan,
    measure_growth,
    plan_runs,
    room_bytes,
    run_bytes,
)
from unitvec_server.model.providers import Choice
from unitvec_server.model.tokenizer import open_tokenizer
from unitvec_server.model.warmup import measure_batch_tokens, warm_up
from unitvec_server.policy.batching import BatchLimits
from unitvec_server.policy.deadlines import NO_WARM_RUN, WarmRun

logger = logging.getLogger(__name__)

_WIDTHS = {
    "cpu": (128, 256, 512),
    "cuda": (4096, 16_384, 65_536),
}
"""Tokens in one run, to be tried at start. A CPU's caches want few, CUDA wants many."""

_FUSED_WIDTHS = (128,)
"""The speed of the fused operator hardly depends on the width, so there is nothing to try. A lone
text beside bulk waits for a run to end: with 256 tokens, which are at most 3 % faster (int16), it
waits more than twice as long. docs/performance.md has the figures."""

_NO_VNNI = (
    "model %s: the plain int8 graph on a CPU without VNNI, whose sums saturate: its vectors are "
    "less exact, and others than on a CPU with VNNI; with unitvec-kernels they would be equal"
)


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A warm model.

    Attributes:
        model: Model that is served.
        encoder: Encoder that runs it.
        footprint: Memory that it takes, without its routes.
        routes: Models that embed texts with some of its prompts in its place.
        mapped: Files with weights of its graph that lie outside of it.
        warm_run: Its longest run so far.
    """

    model: Model
    encoder: Encoder
    footprint: Footprint
    routes: tuple[LoadedModel, ...] = ()
    mapped: tuple[Path, ...] = ()
    warm_run: WarmRun = NO_WARM_RUN


def load_engine(
    config: ServerConfig,
    *,
    executor: Executor,
    comparing: Executor,
    limits: FixedLimits = FIXED_LIMITS,
) -> tuple[Engine, Scheduler, MemoryPlan]:
    """Loads, verifies and warms up all models and starts the workers. Takes seconds.

    Raises:
        ArtifactError: A model folder cannot be served.
        ProviderError: The execution provider is not available.
        SelfTestError: A model computes other vectors than at its export.
        ConfigError: The memory does not suffice for one run.
    """
    models = {spec.name: load_model(spec, config) for spec in config.model}
    loaded = [each for entry in models.values() for each in (entry, *entry.routes)]
    plan = _plan_runs(config, loaded)
    scheduler = Scheduler(
        {entry.model.queue: entry.encoder for entry in loaded},
        limits={entry.model.queue: batch_limits(entry) for entry in loaded},
        workers=plan.workers,
        warm_runs={entry.model.queue: entry.warm_run for entry in loaded},
        cache_bytes=config.cache_bytes,
    )
    engine = Engine(
        {name: entry.model for name, entry in models.items()},
        scheduler=scheduler,
        gate=TokenGate(config.max_queued_tokens, scheduler.seconds_for),
        executor=executor,
        comparing=comparing,
        limits=Limits(
            config.max_texts_per_request,
            config.max_text_bytes,
            config.max_message_bytes,
            limits.max_windows_per_request,
        ),
    )
    scheduler.start()
    return engine, scheduler, plan


def batch_limits(loaded: LoadedModel) -> BatchLimits:
    """Bounds of the batches of a model, which need like lengths only where they are padded."""
    limits = BatchLimits(loaded.model.max_batch_tokens)
    return limits if loaded.encoder.pads else dataclasses.replace(limits, max_padding=None)


def load_model(spec: ModelSpec, config: ServerConfig) -> LoadedModel:
    """Loads, verifies and warms up one model with its routes.

    Raises:
        ArtifactError: The folder cannot be served.
        ProviderError: The execution provider is not available.
        SelfTestError: The model computes other vectors than at its export.
    """
    artifact = load_artifact(spec.folder)
    choices = choose_graphs(artifact, config)
    loaded = _load_folder(artifact, choices[""], spec.name, config)
    routes = {
        folder: _load_folder(
            route, choices[folder], spec.name, config, queue=f"{spec.name}/{folder}"
        )
        for folder, route in artifact.routes.items()
    }
    model = _with_routes(loaded.model, {folder: route.model for folder, route in routes.items()})
    footprint = sum((route.footprint for route in routes.values()), loaded.footprint)
    model = dataclasses.replace(model, footprint=footprint)
    return dataclasses.replace(loaded, model=model, routes=tuple(routes.values()))


def _with_routes(model: Model, routes: Mapping[str, Model]) -> Model:
    """A model that knows its routes, with the bits of all together.

    Args:
        model: The model.
        routes: Its routes, by the names of their folders.
    """
    models = {"": model, **routes}
    by_prompt = {name: models[folder] for name, folder in model.manifest.routes.items()}
    others = {name: route.identity.bits for name, route in by_prompt.items() if route is not model}
    return dataclasses.replace(
        model,
        routes=by_prompt,
        identity=model.identity._replace(bits=join_bits(model.identity.bits, others)),
        is_reproducible=all(part.is_reproducible for part in models.values()),
    )


def _load_folder(
    artifact: Artifact, choice: Choice, name: str, config: ServerConfig, *, queue: str = ""
) -> LoadedModel:
    """Loads, verifies and warms up what one folder holds."""
    manifest = artifact.manifest
    if choice.graph == "int8" and choice.provider == "cpu" and lacks_int8(cpu_features()):
        logger.warning(_NO_VNNI, queue or name)
    logger.info(
        "model %s: provider %s, precision %s: %s",
        *(queue or name, choice.provider, choice.precision, choice.reason),
    )
    graph_path = artifact.graph_path(choice.graph)
    verify_file(artifact, manifest.tokenizer)
    verify_graph(artifact, choice.graph)
    tokenizer = open_tokenizer(artifact)
    options = encoder_options(choice, manifest)
    encoder, load_bytes = measure_growth(functools.partial(Encoder, graph_path, options))
    if encoder.dim != manifest.dim:
        raise ArtifactError(
            f"{graph_path} makes vectors of {encoder.dim} dimensions, its manifest says "
            f"{manifest.dim}; export it again"
        )
    widths = _widths(choice, config)
    graph = manifest.graphs[choice.graph]
    mapped = tuple(artifact.folder / file.name for file in graph.weights)
    run = functools.partial(_run, encoder, max_batch_tokens=widths[-1])
    grown_bytes = 0  # on CUDA, where the device's memory is another
    if choice.provider != "cuda":
        grown_bytes = run_bytes(run, max_seq_length=manifest.max_seq_length, mapped=mapped)
    width, warm_run = _warm_up(encoder, manifest.max_seq_length, config, widths=widths)
    served, identity = as_served(manifest, choice), _identify(artifact, choice)
    canary = find_canary(artifact, choice.graph, tokenizer, identity.bits)
    if config.self_test:
        run_self_test(queue or name, canary, tokenizer, encoder)
    model = Model(
        *(name, served, tokenizer, choice.precision, choice.provider, width),
        identity=identity,
        is_reproducible=is_reproducible(manifest, choice.graph),
        queue=queue,
        canary=canary,
    )
    footprint = Footprint(graph.size_bytes, load_bytes, grown_bytes)
    return LoadedModel(model, encoder, footprint, mapped=mapped, warm_run=warm_run)


def _identify(artifact: Artifact, choice: Choice) -> Fingerprints:
    """Fingerprints of what is served, by the files and settings as they are now."""
    manifest = artifact.manifest
    kernels = inspect_machine(choice.provider).kernels
    runtime = kernels.runtime(choice.graph) if choice.graph in FUSED else {}
    if not is_reproducible(manifest, choice.graph):
        runtime = {**describe_runtime(choice.provider), **runtime}
    space = checked_space(artifact)
    if manifest.identity is not None and space != manifest.identity.space:
        logger.warning(
            "%s was changed after its export: its vectors are of space %s, where they were of %s",
            *(artifact.folder, space, manifest.identity.space),
        )
    return Fingerprints(space, bits_of(manifest, choice.graph, runtime))


def _widths(choice: Choice, config: ServerConfig) -> Sequence[int]:
    """Tokens in one run that come into question, ascending: one where it is configured."""
    if config.max_batch_tokens:
        return (config.max_batch_tokens,)
    return _FUSED_WIDTHS if choice.graph in FUSED else _WIDTHS[choice.provider]


def _run(encoder: Encoder, length: int, *, max_batch_tokens: int) -> None:
    """Runs texts of a length, as many as go into one batch."""
    encoder.encode([np.ones(length, np.int64)] * max(1, max_batch_tokens // length))


def _plan_runs(config: ServerConfig, loaded: Collection[LoadedModel]) -> MemoryPlan:
    """How many runs of the longest texts fit. Each session has memory of its own."""
    wanted = worker_count(config)
    per_run_bytes = sum(entry.footprint.run_bytes for entry in loaded)
    mapped = [path for entry in loaded for path in entry.mapped]
    plan = plan_runs(per_run_bytes, workers=wanted, room=room_bytes(), mapped=mapped)
    if plan.workers < wanted:
        logger.warning(
            "memory has room for %d of %d runs side by side: give the process more",
            *(plan.workers, wanted),
        )
    return plan


def _warm_up(
    encoder: Encoder, max_seq_length: int, config: ServerConfig, *, widths: Sequence[int]
) -> tuple[int, WarmRun]:
    """Tokens in one run, the one of `widths` or the best of them as measured; the longest run."""
    workers = worker_count(config)
    longest = warm_up(encoder, max_seq_length=max_seq_length, max_batch_tokens=widths[-1])
    width = widths[0]
    if len(widths) > 1:
        width = measure_batch_tokens(
            encoder, max_seq_length=max_seq_length, workers=workers, candidates=widths
        )
    return width, WarmRun(*longest)
