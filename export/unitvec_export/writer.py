"""A folder that appears whole or not at all.

All files go into a temporary folder beside the target, held by a lock that dies with its
process. At the end it is flushed to disk, what was there before is set aside, and the folder takes
its place. A killed export leaves at most the temporary folder, which the next export of the same
target removes, and puts back what was set aside.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from unitvec_export.errors import ExportError, InputError
from unitvec_server.model.artifact import MANIFEST_FILE, ROUTE_PREFIX
from unitvec_server.model.manifest import FORMAT, PRECISIONS

TOKENIZER_FILE = "tokenizer.json"
VECTORS_FILE = "vectors.npy"
CANARY_FILE = "canary.json"


def graph_file(precision: str) -> str:
    """Name of the graph at `precision` inside an artifact."""
    return f"model.{precision}.onnx"


def weights_file(precision: str) -> str:
    """Name of the file with the weights that have no room in that graph."""
    return f"{graph_file(precision)}_data"


_GRAPH_FILES = frozenset(map(graph_file, PRECISIONS))
_WEIGHT_FILES = frozenset(map(weights_file, PRECISIONS))
_ARTIFACT_FILES = {MANIFEST_FILE, TOKENIZER_FILE, VECTORS_FILE, CANARY_FILE}
_ARTIFACT_FILES |= _GRAPH_FILES | _WEIGHT_FILES


@contextlib.contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Yields a new empty folder that becomes `out` when the block ends without an error.

    Args:
        out: Target. An artifact or an empty folder that is there already is replaced.

    Raises:
        InputError: `out` is something else that must not be deleted, or cannot be written.
        ExportError: The disk refused.
    """
    target = out.expanduser().resolve()
    check_replaceable(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target)
        stage, lock = _make_stage(target)
    except OSError as exc:
        raise InputError(f"cannot write to {target.parent}: {exc.strerror}") from exc
    try:
        yield stage
        check_replaceable(target)
        _flush(stage)
        _put_in_place(stage, target)
    except OSError as exc:
        raise ExportError(f"cannot write {exc.filename or target}: {exc.strerror or exc}") from exc
    finally:
        # The stage is in place, or holds the unfinished new artifact.
        shutil.rmtree(stage, ignore_errors=True)
        os.close(lock)


def check_replaceable(target: Path) -> None:
    """Makes sure that nothing but an artifact of ours would be deleted.

    Raises:
        InputError: `target` is a file, or a folder with anything else in it.
    """
    try:
        names = {entry.name for entry in target.iterdir()}
    except FileNotFoundError:
        return
    except NotADirectoryError:
        where = target if target.exists() else target.parent
        raise InputError(f"{where} is a file, not a folder") from None
    except OSError as exc:
        raise InputError(f"{target} cannot be read: {exc.strerror}") from exc
    routes = {name for name in names if name.startswith(ROUTE_PREFIX) and (target / name).is_dir()}
    foreign = sorted(names - _ARTIFACT_FILES - routes)
    if foreign:
        raise InputError(f"{target} holds {foreign[0]}, which is not ours: choose another --out")
    # Make used to take the manifest away when it was interrupted.
    lost_manifest = MANIFEST_FILE not in names and not names.isdisjoint(_GRAPH_FILES)
    if names and not lost_manifest and not _is_ours(target / MANIFEST_FILE):
        raise InputError(f"{target} is not a unitvec model folder: choose another --out")
    for name in routes:
        check_replaceable(target / name)


def _is_ours(manifest: Path) -> bool:
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def _stage_prefix(target: Path) -> str:
    return f".{target.name}.tmp-"


def _make_stage(target: Path) -> tuple[Path, int]:
    """Makes and locks a temporary folder; another export may sweep it away before the lock."""
    while True:
        stage = target.parent / f"{_stage_prefix(target)}{os.getpid()}-{uuid.uuid4().hex[:8]}"
        stage.mkdir()
        lock = _try_lock(stage)
        if lock is not None and stage.is_dir():
            return stage, lock
        if lock is not None:
            os.close(lock)


def _try_lock(folder: Path) -> int | None:
    """Locks a folder for this process, or returns None if another one holds it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_stale(target: Path) -> None:
    """Removes temporary folders of dead processes; an artifact set aside there goes back."""
    for stage in target.parent.glob(f"{_escape(_stage_prefix(target))}*"):
        lock = _try_lock(stage)
        if lock is None:
            continue
        former = stage / "former"
        if former.is_dir() and not target.exists():
            former.rename(target)
        shutil.rmtree(stage, ignore_errors=True)
        os.close(lock)


def _escape(name: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)


def _flush(folder: Path) -> None:
    """Makes the content durable, the manifest last."""
    files = sorted(folder.iterdir(), key=lambda path: path.name == MANIFEST_FILE)
    for path in (*files, folder):
        if path.is_dir() and path != folder:
            _flush(path)
        _fsync(path)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put_in_place(stage: Path, target: Path) -> None:
    if target.exists():
        move_aside(stage, target)
    else:
        stage.rename(target)
    _fsync(target.parent)


def move_aside(stage: Path, target: Path) -> None:
    """Replaces `target` in two renames, the first of which is undone if the second fails.

    A process that is killed between the two leaves no target; the next export puts it back.

    Raises:
        OSError: A rename was refused; `target` is what it was.
    """
    holder = stage.with_name(f"{stage.name}-aside")
    holder.mkdir()
    former = holder / "former"
    try:
        target.rename(former)
        try:
            stage.rename(target)
        except BaseException:
            former.rename(target)
            raise
    finally:
        if target.exists():
            shutil.rmtree(holder, ignore_errors=True)
