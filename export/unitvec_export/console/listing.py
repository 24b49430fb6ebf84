"""`unitvec-export --list`: exported models in this folder and the cache, and packaged ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from unitvec_export.errors import InputError
from unitvec_export.source import DEFAULT_MODEL_ID, INSTALL_DEFAULT, Request, resolve_source
from unitvec_server.errors import ArtifactError
from unitvec_server.model.artifact import MANIFEST_FILE, load_artifact
from unitvec_server.model.cache import default_cache

_ARTIFACTS = Path("artifacts")
_SHORT_REVISION_CHARS = 12


def list_all() -> str:
    """What is there, as text."""
    lines: list[str] = []
    for folder in (_ARTIFACTS, default_cache(os.environ)):
        lines += [f"exported, in {folder}:", *(_rows(folder) or ["  none"]), ""]
    return "\n".join([*lines, "packaged:", f"  {_packaged()}"])


def _rows(folder: Path) -> list[str]:
    found = [_describe(path) for path in sorted(folder.glob(f"*/{MANIFEST_FILE}"))]
    if not found:
        return []
    widths = [max(map(len, column)) for column in zip(*found, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in found]


def _describe(path: Path) -> tuple[str, ...]:
    """Folder, model, revision, size, date and precisions of an artifact."""
    folder = path.parent
    size = f"{sum(_sizes(folder)) / 1e6:.0f} MB"
    try:
        manifest = load_artifact(folder).manifest
    except ArtifactError:
        return (folder.name, "unreadable: export it again", "", size, "", "")
    made = manifest.provenance.created_at[:10] if manifest.provenance else ""
    model = manifest.model_id
    revision = manifest.revision[:_SHORT_REVISION_CHARS]
    return (folder.name, model, revision, size, made, ", ".join(manifest.graphs))


def _sizes(folder: Path) -> Iterator[int]:
    for path in folder.iterdir():
        if path.is_file():
            yield path.stat().st_size


def _packaged() -> str:
    try:
        source = resolve_source(Request())
    except InputError as exc:
        return f"{DEFAULT_MODEL_ID}: {exc}" if INSTALL_DEFAULT not in str(exc) else str(exc)
    size = sum(path.stat().st_size for path in source.folder.rglob("*") if path.is_file())
    return f"{DEFAULT_MODEL_ID}  {size / 1e6:.0f} MB"
