"""`unitvec-export --verify`: the parity of an artifact, measured again."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from unitvec_export.errors import InputError, in_route
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
from unitvec_export.source import Request, Source, resolve_source
from unitvec_protos.installation import install_command
from unitvec_server.model.artifact import Artifact, load_artifact, verify_file
from unitvec_server.model.kernels import find_kernels
from unitvec_server.model.manifest import FUSED, Manifest, Parity

if TYPE_CHECKING:
    from unitvec_export.prove.model import Model, Vectors

STEPS = 3
_ROUTE_STEPS = 2
"""Steps of each route, beside loading."""


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


Parities = Mapping[str, Parity]
"""By the name of the graph."""


def verify(options: VerifyOptions, progress: Progress) -> tuple[Artifact, Mapping[str, Parities]]:
    """Measures the parity of an artifact, with all its routes, on this machine.

    Args:
        options: What to verify.
        progress: Told of every step.

    Returns:
        The artifact, and the parity of each graph that this machine can run, by the name of the
        folder of its route; empty for the artifact itself.

    Raises:
        ArtifactError: A file of the artifact is damaged or missing.
        InputError: There is nothing to hold it against.
        ParityError: A graph does not hold its bound.
    """
    with contextlib.ExitStack() as stack:
        with progress.step(f"loading {options.folder}"):
            artifact = load_artifact(options.folder)
            standards = stack.enter_context(_open_standards(artifact, options))
        progress.expect(STEPS + _ROUTE_STEPS * (len(standards) - 1))
        for folder in artifact.routes.keys() - standards.keys():
            progress.note(f"{folder} is not verified: the vectors are those of the default prompt")
        parities = {}
        for folder, standard in standards.items():
            with in_route(folder):
                parities[folder] = _verify_route(options.folder / folder, standard, progress)
    return artifact, parities


def _verify_route(folder: Path, standard: _Standard, progress: Progress) -> Parities:
    verification = Verification(standard.vectors, standard.groups, tokens=standard.tokens)
    with progress.step(f"getting the expected vectors from {standard.name}"):
        texts = len(verification.expected)
    names = list(_runnable(load_artifact(folder).manifest, progress))
    with progress.step(f"comparing {texts} vectors of {', '.join(names)}"):
        return {name: verification.measure(folder, name).parity for name in names}


def _runnable(manifest: Manifest, progress: Progress) -> Iterator[str]:
    kernels = find_kernels()
    for name in manifest.graphs:
        if name in FUSED and kernels.library is None:
            progress.note(f"{name} is not run on this machine: {kernels.reason}")
        else:
            yield name


@contextlib.contextmanager
def _open_standards(
    artifact: Artifact, options: VerifyOptions
) -> Iterator[Mapping[str, _Standard]]:
    """The model itself where it can be loaded, else vectors that it once gave, by route."""
    if options.vectors is not None:
        yield {"": _given(artifact.manifest, options)}
    elif options.without_torch or find_spec("sentence_transformers") is None:
        parts = {"": artifact, **artifact.routes}
        yield {folder: _stored(part, options) for folder, part in parts.items()}
    else:
        with muted(verbose=options.verbose):
            yield _models(artifact, options)


def _given(manifest: Manifest, options: VerifyOptions) -> _Standard:
    if options.texts is None or options.vectors is None:
        raise InputError("--vectors needs --texts: the texts that they belong to")
    if manifest.routes and "" not in manifest.routes:
        raise InputError(
            "--vectors are those of the default prompt, and the model has routes and none by "
            "default: leave them out to hold it against the model"
        )
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


def _models(artifact: Artifact, options: VerifyOptions) -> dict[str, _Standard]:
    from unitvec_export.prove.reference import load_references

    source = _find_source(artifact.manifest, options)
    found = {each.route.folder: each for each in load_references(source, verbose=options.verbose)}
    if found.keys() != {"", *artifact.routes}:
        raise InputError(f"{source.model_id} has other routes than {artifact.folder}")
    texts = load_sample() if options.texts is None else read_texts(options.texts)
    name = f"{source.model_id} by sentence-transformers"
    return {
        folder: _Standard(name, reference, make_groups(reference.facts, texts), reference)
        for folder, reference in found.items()
    }


def _find_source(manifest: Manifest, options: VerifyOptions) -> Source:
    request = options.request or Request(
        manifest.model_id, manifest.revision or None, options.offline
    )
    try:
        return resolve_source(request)
    except InputError as exc:
        if options.request is not None:
            raise
        raise InputError(
            f"{exc}; name the source of the artifact as MODEL, or take its stored vectors with "
            "--without-torch"
        ) from exc
