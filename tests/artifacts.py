"""Tiny models and their artifacts: built once and kept on disk until what builds them changes."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import io
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.models import TinyModel, build_tiny_model
from tests.pipelines import PIPELINES
from unitvec_export.source import Request
from unitvec_server.model.kernels import find_kernels

KERNELS = find_kernels()

needs_kernels = pytest.mark.skipif(KERNELS.library is None, reason=KERNELS.reason)

REPOSITORY = Path(__file__).parents[1]
KEPT = REPOSITORY / "artifacts" / "tests"
CODE = (
    "export/unitvec_export",
    "server/unitvec_server/model",
    "tests/architectures.py",
    "tests/models.py",
    "tests/pipelines.py",
)
LIBRARIES = (
    "numpy",
    "onnx",
    "onnxruntime",
    "optimum",
    "sentence-transformers",
    "sympy",
    "tokenizers",
    "torch",
    "transformers",
)


def keep_model(spec: TinyModel) -> Path:
    """Folder of the tiny model that is like `spec`; not to be written to."""
    return keep(name_of(spec), lambda folder: build_tiny_model(folder, spec))


def keep_artifact(spec: TinyModel) -> Path:
    """Artifact with fp32 and int8 graphs of that model; not to be written to."""

    def build(folder: Path) -> None:
        export_artifact(Request(str(keep_model(spec))), folder, ("fp32", "int8"))

    return keep(f"{name_of(spec)}-artifact", build)


def keep_pipeline(name: str) -> Path:
    """Folder of the tiny model of `tests.pipelines` of this name; not to be written to."""
    return keep(f"pipeline-{_slug(name)}", PIPELINES[name])


def keep_pipeline_artifact(name: str, precisions: tuple[str, ...] = ("fp32",)) -> Path:
    """Its artifact with these graphs; not to be written to."""

    def build(folder: Path) -> None:
        export_artifact(Request(str(keep_pipeline(name))), folder, precisions)

    return keep(f"pipeline-{_slug(name)}-{'-'.join(precisions)}", build)


def _slug(name: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in name)


def keep_minilm() -> Path:
    """all-MiniLM-L6-v2 with an fp32 graph; not to be written to."""
    return keep("all-MiniLM-L6-v2", lambda folder: export_artifact(Request(), folder, ("fp32",)))


def keep_fused_artifact(spec: TinyModel) -> Path:
    """Artifact with plain and fused graphs of that model; not to be written to."""

    def build(folder: Path) -> None:
        precisions = ("fp32", "int16", "bf16", "int8")
        export_artifact(Request(str(keep_model(spec))), folder, precisions)

    return keep(f"{name_of(spec)}-fused", build)


def export_artifact(
    request: Request, folder: Path, precisions: tuple[str, ...], *, texts: Path | None = None
) -> None:
    """Exports without a word, and proves the artifact on these texts or on the bundled ones."""
    from unitvec_export.export import STEPS, ExportOptions, export
    from unitvec_export.progress import Progress

    options = ExportOptions(request, folder, precisions, texts=texts)
    export(options, Progress(io.StringIO(), steps=STEPS))


def name_of(spec: TinyModel) -> str:
    """Tells specs apart, and says what the model is."""
    return f"tiny-{spec.architecture}-{hashlib.sha256(repr(spec).encode()).hexdigest()[:8]}"


def keep(name: str, build: Callable[[Path], object]) -> Path:
    """The folder `name`, which `build` makes if no test has, of any process or earlier run.

    A folder appears whole: a build that fails or is killed leaves nothing under the name.
    """
    root = KEPT / fingerprint()
    root.mkdir(parents=True, exist_ok=True)
    kept = root / name
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            with tempfile.TemporaryDirectory(dir=root) as workshop:
                built = Path(workshop) / name
                build(built)
                built.rename(kept)
    return kept


@functools.cache
def fingerprint() -> str:
    """Changes with the code that exports and builds models, and with the libraries it calls."""
    versions = [(name, version(name)) for name in LIBRARIES]
    digest = hashlib.sha256(repr([versions, bool(find_kernels().library)]).encode())
    for part in CODE:
        path = REPOSITORY / part
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(REPOSITORY)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]
