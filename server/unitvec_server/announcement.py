"""What the log says when the server is ready."""

from __future__ import annotations

import logging
from typing import NamedTuple

from unitvec_protos import __version__
from unitvec_server.config import ServerConfig
from unitvec_server.engine.choices import worker_count
from unitvec_server.engine.engine import Engine
from unitvec_server.engine.requests import Model
from unitvec_server.model.memory import MemoryPlan
from unitvec_server.observability.memory import most_client_bytes
from unitvec_server.rpc.listener import SETTINGS_S, UNSETTLED_METADATA_BYTES
from unitvec_server.security.secrets import is_loopback

logger = logging.getLogger(__name__)

_MIB = 2**20


class Ports(NamedTuple):
    """The ports that are listened on; None without HTTP."""

    grpc: int
    http: int | None


def announce(config: ServerConfig, engine: Engine, plan: MemoryPlan, ports: Ports) -> None:
    """Logs what is served, where, and within which limits."""
    for index, model in enumerate(engine.models.values()):
        announce_model(model, is_default=not index)
    logger.info(
        "%d runs side by side; limits: %d texts a request, %d bytes a text, %d tokens queued",
        *(plan.workers, config.max_texts_per_request),
        *(config.max_text_bytes, config.max_queued_tokens),
    )
    _announce_memory(config, engine, plan)
    security = f"{'TLS' if config.tls_cert else 'no TLS'}, "
    security += "bearer token" if config.wants_token else "no token"
    if ports.http is not None:
        scheme, host = "https" if config.tls_cert else "http", config.host
        host = f"[{host}]" if ":" in host else host
        apis = ", ".join(config.http_apis) or "probes only"
        logger.info("HTTP on %s://%s:%d (%s)", scheme, host, ports.http, apis)
    logger.info("unitvec %s serving on %s:%d (%s)", __version__, config.host, ports.grpc, security)


def announce_model(model: Model, *, is_default: bool) -> None:
    """Logs what one model is."""
    manifest = model.manifest
    logger.info(
        "model %s%s: %s, %d dims, up to %d tokens, %s pooling, %s on %s, %d tokens a run; "
        "space %s, bits %s",
        *(model.name, " (default)" if is_default else "", manifest.model_id, manifest.dim),
        *(manifest.max_seq_length, manifest.pooling, model.precision, model.provider),
        *(model.max_batch_tokens, model.identity.space or "unknown", model.identity.bits),
    )


def _announce_memory(config: ServerConfig, engine: Engine, plan: MemoryPlan) -> None:
    dim = max(model.manifest.dim for model in engine.models.values())
    clients = most_client_bytes(config, dim=dim, workers=worker_count(config))
    logger.info(
        "memory: %d MiB now; will hold at most %d MiB with %d runs of the longest texts, and "
        "%d MiB more if all clients are at their worst: docs/operations/memory.md",
        *(plan.now_bytes // _MIB, plan.most_bytes // _MIB, plan.workers, clients // _MIB),
    )
    if is_loopback(config.host):
        return  # no stranger gets here
    unsettled_mib = UNSETTLED_METADATA_BYTES // _MIB
    logger.info(
        "memory: clients that break HTTP/2 can add %d MiB of metadata for each connection, up to "
        "%d MiB for %d s, and for each health watch, up to %d MiB; a proxy keeps them out: "
        "docs/operations/security.md",
        *(unsettled_mib, unsettled_mib * config.max_connections, SETTINGS_S),
        unsettled_mib * config.max_calls,
    )
