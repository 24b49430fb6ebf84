"""Models named by their source become artifacts: exported on first use, into a cache.

The server knows nothing of export but its command, which runs as a process of its own: what it
needs is another extra, and a gigabyte of memory that serving does not. Of several servers that
start at once, one exports; the others wait for its lock and find the artifact.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from unitvec_server.config import ModelSpec, ServerConfig
from unitvec_server.errors import ArtifactError
from unitvec_server.model.artifact import MANIFEST_FILE
from unitvec_server.model.cache import default_cache, entry_name

logger = logging.getLogger(__name__)

_COMMAND = (sys.executable, "-m", "unitvec_export.cli")
_NAME = r"[A-Za-z0-9][\w.-]*"
_PACKAGED = "all-MiniLM-L6-v2"
"""The model that comes as a package, which needs no owner before its name."""
_HUB_ID = re.compile(rf"(?P<model>{_NAME}/{_NAME}|{_PACKAGED})(@(?P<revision>[\w./-]+))?")
_SOURCE_FILES = ("modules.json", "config.json")
_USUAL = ("auto", "fp32", "int16")
"""Precisions whose graphs an export writes unasked."""
_ERROR = "unitvec-export: error: "


async def acquire(config: ServerConfig) -> ServerConfig:
    """The same configuration with an artifact's folder for each model.

    If it is cancelled, an export that runs is ended, and leaves nothing behind.

    Raises:
        ArtifactError: A model cannot be exported; the message says what to do.
    """
    specs = [await _acquire(spec, config.precision) for spec in config.model]
    return dataclasses.replace(config, model=tuple(specs))


async def _acquire(spec: ModelSpec, precision: str) -> ModelSpec:
    source = _find_source(spec.folder)
    if source is None:
        return spec
    model, revision = source
    extra = "" if precision in _USUAL else precision
    folder = default_cache(os.environ) / entry_name(model, revision, extra)
    if not (folder / MANIFEST_FILE).is_file():
        async with _locked(folder):
            if not (folder / MANIFEST_FILE).is_file():
                arguments = _arguments(folder, revision, extra)
                # What is stored for this one makes the same graphs in a fraction of the time.
                if model.rpartition("/")[2] == _PACKAGED and not revision:
                    arguments.append("--without-torch")
                await _export(model, arguments)
    logger.info("model %s: %s, exported to %s", spec.name, model, folder)
    return ModelSpec(spec.name, folder)


def _find_source(path: Path) -> tuple[str, str] | None:
    """Model and revision to export, or None for a folder that is to be served as it is."""
    if (path / MANIFEST_FILE).is_file():
        return None
    if path.is_dir():
        is_source = any((path / name).is_file() for name in _SOURCE_FILES)
        return (str(path), "") if is_source else None
    match = _HUB_ID.fullmatch(str(path))
    # What begins with a folder that is here is a misspelt path, and not looked for on the hub.
    if match is None or (len(path.parts) > 1 and path.parent.exists()):
        return None
    return match["model"], match["revision"] or ""


def _arguments(folder: Path, revision: str, precision: str) -> list[str]:
    arguments = ["--out", str(folder)]
    arguments += ["--precision", precision] if precision else []
    return arguments + (["--revision", revision] if revision else [])


@contextlib.asynccontextmanager
async def _locked(folder: Path) -> AsyncIterator[None]:
    """Keeps other servers from exporting the same model. The lock dies with its process."""
    path = folder.with_name(f"{folder.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as exc:
        raise ArtifactError(
            f"cannot write to {path.parent}, where exported models are kept: {exc.strerror}; "
            "name another folder with UNITVEC_MODEL_CACHE"
        ) from exc
    try:
        await asyncio.to_thread(fcntl.flock, descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


async def _export(model: str, arguments: Sequence[str]) -> None:
    """Runs `unitvec-export`, whose lines are logged as they come."""
    logger.info("exporting %s on first use; this takes a minute or more", model)
    process = await asyncio.create_subprocess_exec(
        *_COMMAND,
        model,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        reason = await _log_lines(process)
        status = await process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        raise
    if status != 0:
        raise ArtifactError(
            f"{model} is no exported model, and cannot be exported: "
            f"{reason or f'exit status {status}'}"
        )


async def _log_lines(process: asyncio.subprocess.Process) -> str:
    """Logs what a process prints, and returns its last line: of a failure, the reason."""
    assert process.stdout is not None
    last = ""
    async for raw in process.stdout:
        line = raw.decode(errors="replace").rstrip()
        if line:
            last = line.removeprefix(_ERROR)
            logger.info("export: %s", last)
    return last
