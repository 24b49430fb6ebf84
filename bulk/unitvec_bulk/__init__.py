"""Data sets of any size as vectors, on Ray Data: the command `unitvec-bulk`, and `embed`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unitvec_bulk.dataset import embed as embed
    from unitvec_bulk.embedding.local import LocalEmbedder as LocalEmbedder
    from unitvec_bulk.embedding.local import shared_embedder as shared_embedder
    from unitvec_bulk.embedding.outcome import Outcome as Outcome
    from unitvec_bulk.embedding.remote import Fleet as Fleet
    from unitvec_bulk.errors import BulkError as BulkError
    from unitvec_bulk.errors import JobConflict as JobConflict
    from unitvec_bulk.errors import JobFailed as JobFailed
    from unitvec_bulk.errors import UsageError as UsageError
    from unitvec_bulk.options import EmbedOptions as EmbedOptions

_HOMES = {
    "embed": "dataset",
    "LocalEmbedder": "embedding.local",
    "shared_embedder": "embedding.local",
    "Outcome": "embedding.outcome",
    "Fleet": "embedding.remote",
    "BulkError": "errors",
    "JobConflict": "errors",
    "JobFailed": "errors",
    "UsageError": "errors",
    "EmbedOptions": "options",
}

__all__ = [
    "BulkError",
    "EmbedOptions",
    "Fleet",
    "JobConflict",
    "JobFailed",
    "LocalEmbedder",
    "Outcome",
    "UsageError",
    "embed",
    "shared_embedder",
]


def __getattr__(name: str) -> Any:
    """Imports what is asked for, so that the command can say what is not installed."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
