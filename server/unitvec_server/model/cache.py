"""Where models that were exported on first use are kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from unitvec_protos import __version__
from unitvec_server.errors import ArtifactError

VARIABLE = "UNITVEC_MODEL_CACHE"
_KEY_CHARS = 12


def default_cache(environ: Mapping[str, str]) -> Path:
    """UNITVEC_MODEL_CACHE, or `unitvec` in the user's cache folder (XDG).

    Args:
        environ: Variables of the process.

    Raises:
        ArtifactError: The user has no home folder.
    """
    if environ.get(VARIABLE):
        return Path(environ[VARIABLE])
    base = Path(environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # the specification asks to ignore others
        base = _home() / ".cache"
    return base / "unitvec"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as exc:  # a user of a container that nobody has made
        raise ArtifactError(
            f"there is no home folder to keep exported models in: name one with {VARIABLE}"
        ) from exc


def entry_name(model: str, revision: str, precision: str) -> str:
    """The folder of a model in the cache.

    It changes with the release that exports, with what is asked for, and with the files of a
    local model.

    Args:
        model: Hub id, packaged name or local folder.
        revision: Branch, tag or commit on the hub; empty for the default.
        precision: A graph that is asked for beside the usual ones; empty for none.
    """
    folder = Path(model)
    is_local = folder.is_dir()
    source = str(folder.resolve()) if is_local else model
    content = [__version__, source, revision, precision, _state(folder) if is_local else []]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:_KEY_CHARS]
    return f"{Path(source).name}-{key}"


def _state(folder: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of all files of a local model."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(str(p.relative_to(folder)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
