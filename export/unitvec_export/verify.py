"""`unitvec-export --verify`: the parity of an artifact, measured again."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from unitvec_export.errors import InputError
from unitvec_export.noise import muted
from unitvec_export.progress import Progress
from unitvec_export.prove.known import KnownVectors
from unitvec_export.prove.texts import read_texts, read_vectors
from unitvec_export.prove.verification import (
    Group,
    Verification,
    hash_texts,
    load_sample,
    make_groups,
)
from unitvec_export.source import Request, resolve_source
from unitvec_protos.installation import install_command
from unitvec_server.model.artifact import Artifact, load_artifact, verify_file
from unitvec_server.model.kernels import find_kernels
from unitvec_server.model.manifest import FUSED, Manifest, Parity

if TYPE_CHECKING:
    from unitvec_export.prove.model import Model, Vectors

STEPS = 3


@dataclasses.dataclass(frozen=True)
class VerifyOptions:
    """What to verify, and against what.

    Attributes:
        folder: The artifact.
        request: Its source model, where another than the manifest names; None means that one.
        texts: File of texts; None means the bundled ones.
        vectors: File of the model's vectors of these texts; None means to ask the model.
        without_torch: Use stored vectors, even where sentence-transformers is installed.
        offline: Use only what is on this machine.
        verbose: Show what the libraries log.
    """

    folder: Path
    request: Request | None = None
    texts: Path | None = None
    vectors: Path | None = None
    without_torch: bool = False
    offline: bool = False
    verbose: bool = False


@dataclasses.dataclass(frozen=True)
class _Standard:
    """What an artifact is held against."""

    name: str
    vectors: Vectors
    groups: Sequence[Group]
    tokens: Model | None = None


def verify(options: VerifyOptions, progress: Progress) -> tuple[Manifest, Mapping[str, Parity]]:
    """Measures the parity of an artifact on this machine.

    Args:
        options: What to verify.
        progress: Told of every step.

    Returns:
        Its manifest, and the parity of each graph that this machine can run.

    Raises:
        ArtifactError: A file of the artifact is damaged or missing.
        InputError: There is nothing to hold it against.
        ParityError: A graph does not hold its bound.
    """
    with contextlib.ExitStack() as stack:
        with progress.step(f"loading {options.folder}"):
            artifact = load_artifact(options.folder)
            standard = stack.enter_context(_open_standard(artifact, options))
        verification = Verification(standard.vectors, standard.groups, tokens=standard.tokens)
        with progress.step(f"getting the expected vectors from {standard.name}"):
            texts = len(verification.expected)
        names = list(_runnable(artifact.manifest, progress))
        with progress.step(f"comparing {texts} vectors of {', '.join(names)}"):
            parities = {name: verification.measure(options.folder, name).parity for name in names}
    return artifact.manifest, parities


def _runnable(manifest: Manifest, progress: Progress) -> Iterator[str]:
    kernels = find_kernels()
    for name in manifest.graphs:
        if name in FUSED and kernels.library is None:
            progress.note(f"{name} is not run on this machine: {kernels.reason}")
        else:
            yield name


@contextlib.contextmanager
def _open_standard(artifact: Artifact, options: VerifyOptions) -> Iterator[_Standard]:
    """The model itself where it can be loaded, else vectors that it once gave."""
    if options.vectors is not None:
        yield _given(artifact.manifest, options)
    elif options.without_torch or find_spec("sentence_transformers") is None:
        yield _stored(artifact, options)
    else:
        with muted(verbose=options.verbose):
            yield _model(artifact.manifest, options)


def _given(manifest: Manifest, options: VerifyOptions) -> _Standard:
    if options.texts is None or options.vectors is None:
        raise InputError("--vectors needs --texts: the texts that they belong to")
    groups = [Group(read_texts(options.texts), None, manifest.default_prompt)]
    vectors = KnownVectors(groups, read_vectors(options.vectors), dim=manifest.dim)
    return _Standard(str(options.vectors), vectors, groups)


def _stored(artifact: Artifact, options: VerifyOptions) -> _Standard:
    """The vectors inside the artifact."""
    manifest = artifact.manifest
    if manifest.expected is None or manifest.provenance is None:
        raise InputError(
            f"{artifact.folder} was made by an older unitvec-export and holds no vectors of its "
            f"model: export it again, or {install_command('export')}"
        )
    if options.texts is None:
        groups = make_groups(manifest, load_sample())
    else:
        groups = [Group(read_texts(options.texts), None, manifest.default_prompt)]
    if hash_texts(groups) != manifest.provenance.texts_sha256:
        raise InputError(
            f"the vectors in {artifact.folder} are of other texts (it was made by "
            f"{manifest.created_by}): give their texts with --texts, vectors of yours with "
            f"--vectors, or {install_command('export')}"
        )
    verify_file(artifact, manifest.expected)
    vectors = read_vectors(artifact.folder / manifest.expected.name)
    name = "the artifact, where the model's own are stored"
    return _Standard(name, KnownVectors(groups, vectors, dim=manifest.dim), groups)


def _model(manifest: Manifest, options: VerifyOptions) -> _Standard:
    from unitvec_export.prove.reference import load_reference

    request = options.request or Request(
        manifest.model_id, manifest.revision or None, options.offline
    )
    try:
        source = resolve_source(request)
    except InputError as exc:
        if options.request is not None:
            raise
        raise InputError(
            f"{exc}; name the source of the artifact as MODEL, or take its stored vectors with "
            "--without-torch"
        ) from exc
    reference = load_reference(source, verbose=options.verbose)
    texts = load_sample() if options.texts is None else read_texts(options.texts)
    groups = make_groups(reference.facts, texts)
    return _Standard(f"{source.model_id} by sentence-transformers", reference, groups, reference)
