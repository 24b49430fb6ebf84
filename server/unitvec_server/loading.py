"""From a configuration to a running engine: artifacts, tokenizers, encoders, warm-up."""

from __future__ import annotations

import dataclasses
from concurrent.futures import Executor

from unitvec_server.admission import TokenGate
from unitvec_server.artifact import Manifest, load_artifact, verify_file
from unitvec_server.batching import BatchLimits
from unitvec_server.config import ModelSpec, ServerConfig
from unitvec_server.cpus import usable_cpus
from unitvec_server.encoder import Encoder, EncoderOptions, Provider
from unitvec_server.engine import Engine, Limits, Model
from unitvec_server.errors import ArtifactError
from unitvec_server.scheduler import Scheduler
from unitvec_server.tokenizer import Tokenizer
from unitvec_server.warmup import measure_batch_tokens, warm_up

_WIDTHS = {"cpu": (128, 256, 512), "cuda": (4096, 16_384, 65_536)}
"""Tokens in one run, to be tried at start. A CPU's caches want few, CUDA wants many."""


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A warm model with the encoder that runs it."""

    model: Model
    encoder: Encoder


def worker_count(config: ServerConfig) -> int:
    """Runs side by side: one for each usable CPU, or one in all on CUDA."""
    return config.workers or (1 if config.provider == "cuda" else usable_cpus())


def load_engine(
    config: ServerConfig, *, executor: Executor, comparing: Executor
) -> tuple[Engine, Scheduler]:
    """Loads, verifies and warms up all models and starts the workers. Takes seconds.

    Raises:
        ArtifactError: A model folder cannot be served.
        ProviderError: The execution provider is not available.
    """
    loaded = {spec.name: load_model(spec, config) for spec in config.model}
    scheduler = Scheduler(
        {name: entry.encoder for name, entry in loaded.items()},
        limits={name: BatchLimits(entry.model.max_batch_tokens) for name, entry in loaded.items()},
        workers=worker_count(config),
    )
    engine = Engine(
        {name: entry.model for name, entry in loaded.items()},
        scheduler=scheduler,
        gate=TokenGate(config.max_queued_tokens, scheduler.throughput),
        executor=executor,
        comparing=comparing,
        limits=Limits(
            config.max_texts_per_request, config.max_text_bytes, config.max_message_bytes
        ),
    )
    scheduler.start()
    return engine, scheduler


def load_model(spec: ModelSpec, config: ServerConfig) -> LoadedModel:
    """Loads, verifies and warms up one model.

    Raises:
        ArtifactError: The folder cannot be served.
        ProviderError: The execution provider is not available.
    """
    artifact = load_artifact(spec.folder)
    manifest = artifact.manifest
    precision = _choose_precision(manifest, config)
    graph_path = artifact.graph_path(precision)
    verify_file(artifact, manifest.tokenizer)
    verify_file(artifact, manifest.graphs[precision].file)
    tokenizer = Tokenizer(artifact.tokenizer_path, max_seq_length=manifest.max_seq_length)
    provider: Provider = "cuda" if config.provider == "cuda" else "cpu"
    options = EncoderOptions(provider, config.device_id, manifest.pad_token_id)
    encoder = Encoder(graph_path, options)
    if encoder.dim != manifest.dim:
        raise ArtifactError(
            f"{graph_path} makes vectors of {encoder.dim} dimensions, its manifest says "
            f"{manifest.dim}; export it again"
        )
    width = _warm_up(encoder, manifest.max_seq_length, config)
    return LoadedModel(Model(spec.name, manifest, tokenizer, precision, provider, width), encoder)


def _choose_precision(manifest: Manifest, config: ServerConfig) -> str:
    if config.precision != "auto":
        return config.precision
    return "fp16" if config.provider == "cuda" and "fp16" in manifest.graphs else "fp32"


def _warm_up(encoder: Encoder, max_seq_length: int, config: ServerConfig) -> int:
    """Tokens in one run: as configured, else as measured."""
    widths = _WIDTHS[config.provider]
    fixed = config.max_batch_tokens
    warm_up(encoder, max_seq_length=max_seq_length, max_batch_tokens=fixed or widths[-1])
    return fixed or measure_batch_tokens(
        encoder, max_seq_length=max_seq_length, workers=worker_count(config), candidates=widths
    )
