"""Fingerprints: which vectors may be compared (`space`), and which are computed alike (`bits`).

A fingerprint names a record: 20 hex digits of the SHA-256 of its canonical JSON. It tells models
apart that were mixed up, not those that were made to look alike. `docs/identity.md` defines both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from unitvec_server.model.artifact import Artifact
from unitvec_server.model.identity import digest, tokenizer_digest
from unitvec_server.model.manifest import FUSED, Manifest

_DIGITS = 20


class Fingerprints(NamedTuple):
    """The two fingerprints of a model's vectors; an empty one is unknown.

    Attributes:
        space: Vectors of one space may be compared.
        bits: Equal where vectors are computed alike.
    """

    space: str = ""
    bits: str = ""


NO_FINGERPRINTS = Fingerprints()


def space_of(manifest: Manifest, routes: Mapping[str, str] | None = None) -> str:
    """Fingerprint of the space of an artifact; empty where the artifact does not tell its origin.

    The manifest's settings count as they stand now: who edits a prompt has another space.

    Args:
        manifest: Of the artifact.
        routes: Spaces of its routes, by the names of their folders.
    """
    identity = manifest.identity
    routes = routes or {}
    if identity is None or not all(routes.values()):
        return ""
    elsewhere = {name: routes[folder] for name, folder in manifest.routes.items() if folder}
    return _fingerprint(
        "s1",
        {
            "weights": identity.weights,
            "architecture": identity.architecture,
            "tokenizer": identity.tokenizer,
            "pipeline": identity.pipeline,
            **_reading(manifest),
            **({"routes": elsewhere} if elsewhere else {}),
        },
    )


def checked_space(artifact: Artifact) -> str:
    """As `space_of`; the digest of a tokenizer that was exchanged after export is made anew."""
    manifest, identity = artifact.manifest, artifact.manifest.identity
    routes = {folder: checked_space(route) for folder, route in artifact.routes.items()}
    if identity is None or identity.tokenizer_sha256 == manifest.tokenizer.sha256:
        return space_of(manifest, routes)
    current = tokenizer_digest(artifact.tokenizer_path.read_text(encoding="utf-8"))
    renewed = dataclasses.replace(identity, tokenizer=current)
    return space_of(dataclasses.replace(manifest, identity=renewed), routes)


def is_reproducible(manifest: Manifest, graph: str) -> bool:
    """Whether a graph gives the same bits on all machines, whatever a text is batched with.

    The fused operator does. What follows it is run by onnxruntime, whose sums may differ in their
    last bits; but to cut a vector adds nothing up. The operator pools, and normalizes if that is
    what comes next. Artifacts that do not tell their pipeline are older than any other.
    """
    if graph not in FUSED:
        return False
    pipeline = manifest.identity.pipeline if manifest.identity else ()
    kinds = [step["type"] for step in pipeline][1:]
    rest = kinds[1:] if kinds[:1] == ["Normalize"] else kinds
    return all(kind == "Cut" for kind in rest)


def bits_of(manifest: Manifest, graph: str, runtime: Mapping[str, Any]) -> str:
    """Fingerprint of how vectors are computed.

    Args:
        manifest: What is served.
        graph: Name of the graph that runs.
        runtime: What runs it: `Kernels.runtime` where the graph `is_reproducible`, else
            `encoder.describe_runtime`; both together where one follows the other.
    """
    digests = [file.sha256 for file in manifest.graphs[graph].files]
    return _fingerprint(
        "b1",
        {
            "graph": digests[0] if len(digests) == 1 else digests,
            "precision": graph,
            "runtime": runtime,
            "tokenizer": manifest.tokenizer.sha256,
            "pad_token_id": manifest.pad_token_id,
            "normalized": manifest.normalized,
            **_reading(manifest),
        },
    )


def join_bits(own: str, routes: Mapping[str, str]) -> str:
    """Fingerprint of how vectors are computed where some prompts take another route.

    Args:
        own: `bits_of` the artifact itself.
        routes: That of the route, by the name of each prompt that takes one.
    """
    return _fingerprint("b1", {"bits": own, "routes": routes}) if routes else own


def _fingerprint(kind: str, record: Mapping[str, Any]) -> str:
    return f"{kind}-{digest(record)[:_DIGITS]}"


def _reading(manifest: Manifest) -> dict[str, Any]:
    """How texts are read. An empty prompt is none: libraries add and drop them as they like."""
    return {
        "max_seq_length": manifest.max_seq_length,
        "truncation_side": manifest.truncation_side,
        "prompts": {name: text for name, text in manifest.prompts.items() if text},
        "default_prompt_name": manifest.default_prompt_name,
        "split_special_tokens": manifest.split_special_tokens,
    }
