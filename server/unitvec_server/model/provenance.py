"""Where an artifact comes from, as its manifest tells people."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where an artifact comes from.

    Attributes:
        created_at: When it was made, such as ``2026-11-30T20:15:00Z``.
        libraries: Versions of the libraries that made graphs and expected vectors.
        texts_sha256: Of the texts that the expected vectors belong to.
        license: Of the model, as its card says; empty if it does not.
        limits: What the card says of intended uses, limits and biases; empty if nothing.
    """

    created_at: str
    libraries: Mapping[str, str]
    texts_sha256: str
    license: str = ""
    limits: str = ""
