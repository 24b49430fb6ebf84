"""From a configuration to a running engine: artifacts, tokenizers, encoders, warm-up."""

from __future__ import annotations

import dataclasses
from concurrent.futures import Executor

import numpy as np

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

_BATCH_TOKENS = {"cpu": 256, "cuda": 16_384}
"""Tokens in one run. On CPU a batch that stays in the cache beats a wide one; CUDA wants width."""


@dataclasses.dataclass(frozen=True)
class _Loaded:
    model: Model
    encoder: Encoder


def worker_count(config: ServerConfig) -> int:
    """Runs side by side: one for each usable CPU, or one in all on CUDA."""
    return config.workers or (1 if config.provider == "cuda" else usable_cpus())


def batch_tokens(config: ServerConfig) -> int:
    """Most tokens in one run."""
    return config.max_batch_tokens or _BATCH_TOKENS[config.provider]


def load_engine(
    config: ServerConfig, *, executor: Executor, comparing: Executor
) -> tuple[Engine, Scheduler]:
    """Loads, verifies and warms up all models and starts the workers. Takes seconds.

    Raises:
        ArtifactError: A model folder cannot be served.
        ProviderError: The execution provider is not available.
    """
    loaded = {spec.name: _load(spec, config) for spec in config.model}
    scheduler = Scheduler(
        {name: entry.encoder for name, entry in loaded.items()},
        limits={name: BatchLimits(batch_tokens(config)) for name in loaded},
        workers=worker_count(config),
    )
    engine = Engine(
        {name: entry.model for name, entry in loaded.items()},
        scheduler=scheduler,
        gate=TokenGate(config.max_queued_tokens, scheduler.throughput),
        executor=executor,
        comparing=comparing,
        limits=Limits(config.max_texts_per_request, config.max_text_bytes),
    )
    scheduler.start()
    return engine, scheduler


def _load(spec: ModelSpec, config: ServerConfig) -> _Loaded:
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
    _warm_up(encoder, manifest.max_seq_length, batch_tokens(config))
    return _Loaded(Model(spec.name, manifest, tokenizer, precision, provider), encoder)


def _choose_precision(manifest: Manifest, config: ServerConfig) -> str:
    if config.precision != "auto":
        return config.precision
    return "fp16" if config.provider == "cuda" and "fp16" in manifest.graphs else "fp32"


def _warm_up(encoder: Encoder, max_seq_length: int, max_batch_tokens: int) -> None:
    """Runs short, middling and longest batches, so that no caller pays for first allocations."""
    for length in {min(max_seq_length, tokens) for tokens in (2, 16, 64, max_seq_length)}:
        row = np.zeros(length, np.int64)
        count = max(1, min(max_batch_tokens, 4096) // length)
        embeddings = encoder.encode([row] * count)
        if embeddings.shape != (count, encoder.dim) or not np.isfinite(embeddings).all():
            raise ArtifactError(
                f"the graph returned shape {embeddings.shape} or values that are not finite for "
                f"{count} texts of {length} tokens; export the model again"
            )
