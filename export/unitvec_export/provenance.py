"""Where an artifact comes from, for its manifest."""

from __future__ import annotations

import importlib.metadata
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from unitvec_export.layout.card import find_license, find_limits, read_card
from unitvec_server.model.provenance import Provenance

TRACING = ("optimum", "optimum-onnx", "sentence-transformers", "torch", "transformers")
"""Libraries that load and trace a model."""
BUILDING = ("numpy", "onnx", "onnxruntime", "tokenizers", "unitvec-kernels")
"""Libraries that make and run the graphs, with torch or without."""


def installed_versions(names: Iterable[str]) -> Mapping[str, str]:
    """Versions of those libraries that are installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def describe_origin(folder: Path, proving: Mapping[str, str], *, texts_sha256: str) -> Provenance:
    """Provenance of an artifact that is being made.

    Args:
        folder: The model, whose card is read.
        proving: Versions of what loaded and traced it.
        texts_sha256: Of the texts that it is proved on.
    """
    card = read_card(folder)
    versions = {**proving, **installed_versions(BUILDING)}
    return Provenance(
        created_at=_now(),
        libraries=dict(sorted(versions.items())),
        texts_sha256=texts_sha256,
        license=find_license(card),
        limits=find_limits(card),
    )


def _now() -> str:
    """The time, or that of SOURCE_DATE_EPOCH, by which builds say that they are reproducible."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    moment_s = int(fixed) if fixed.isdecimal() else int(time.time())
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment_s))
