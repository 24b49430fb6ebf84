"""Where an export takes its graph and its proof from.

model    sentence-transformers loads the model, torch traces it
stored   the packaged model, without torch: graph and vectors were stored before
onnx     a graph that somebody else exported, proved by the model or by vectors that are given
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnx

from unitvec_export.errors import InputError
from unitvec_export.graph.onnx_file import read_body
from unitvec_export.graph.opsets import DEFAULT_OPSET
from unitvec_export.graph.tracing import export_body
from unitvec_export.graph.weights import MAX_GRAPH_BYTES, WeightStore
from unitvec_export.prove.known import KnownVectors
from unitvec_export.prove.model import Model
from unitvec_export.prove.reference import Reference, load_references
from unitvec_export.prove.texts import read_texts, read_vectors
from unitvec_export.prove.verification import Group, check_padding, load_sample, make_groups
from unitvec_export.provenance import TRACING, installed_versions
from unitvec_export.source import Request, Source, find_file
from unitvec_export.stored.checkpoint import Checkpoint
from unitvec_export.stored.minilm import build_body, load_record, load_stored
from unitvec_export.stored.reference import StoredReference
from unitvec_protos.installation import install_command


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What to export, and how.

    Attributes:
        request: Which model.
        out: Folder that becomes the artifact.
        precisions: Graphs to write, fp32 among them; None means fp32 and, where the fused operator
            runs the model, int16.
        without_fp32: Leave fp32 out again when it is proved.
        opset: Version of ONNX's operator set.
        verbose: Show what the libraries log.
        without_torch: Build the model from its files, and prove it against stored vectors.
        onnx: An ONNX file to start from, here or in the model's folder or repository; None traces
            the model, or takes the stored graph.
        texts: File of texts to prove it on; None means the bundled ones.
        vectors: File of the model's own vectors of these texts; None means to ask the model.
        max_graph_bytes: Graphs with more bytes of weights have them in a file of its own.
    """

    request: Request
    out: Path
    precisions: Sequence[str] | None = None
    without_fp32: bool = False
    opset: int = DEFAULT_OPSET
    verbose: bool = False
    without_torch: bool = False
    onnx: str | None = None
    texts: Path | None = None
    vectors: Path | None = None
    max_graph_bytes: int = MAX_GRAPH_BYTES


@dataclasses.dataclass(frozen=True)
class Origin:
    """A model to export, with its graph and what proves it.

    Attributes:
        model: The model.
        groups: Texts to prove it on.
        check: Makes sure that the model itself works: what it cannot do is no fault of a graph.
        build: Makes the fp32 body, (B, S) ids and mask -> token vectors (B, S, H). It is given the
            place for weights that a graph cannot hold.
        proof_step: What is done to get the expected vectors, for the progress lines.
        build_step: What is done to get the body.
        is_identified: Whether its weights and architecture are known, which its space is made of.
        notes: Lines that whoever exports it should read.
        libraries: Versions of what loaded and traced the model.
        folder: Folder of this route inside the artifact; empty for the artifact itself.
    """

    model: Model
    groups: Sequence[Group]
    check: Callable[[], None]
    build: Callable[[WeightStore], onnx.ModelProto]
    proof_step: str
    build_step: str
    libraries: Mapping[str, str]
    is_identified: bool = True
    notes: Sequence[str] = ()
    folder: str = ""

    @property
    def prompts(self) -> Sequence[str]:
        """Names of the prompts whose texts go through it."""
        facts = self.model.facts
        return [name for name in facts.prompts if not facts.routes.get(name)]

    @property
    def is_alone(self) -> bool:
        """Whether it is a model without other routes."""
        return not self.folder and not any(self.model.facts.routes.values())


def open_origins(source: Source, options: ExportOptions) -> list[Origin]:
    """Loads a model: its routes, the default first; one for most models.

    Raises:
        InputError: It cannot be exported this way.
    """
    if options.onnx is None and options.without_torch:
        return [_open_stored(source, opset=options.opset)]
    origins = _open_proof(source, options)
    if options.onnx is None:
        return origins
    if len(origins) > 1:
        raise InputError(
            "a model with routes has a graph for each: not supported from an ONNX file"
        )
    origin, path = origins[0], find_file(options.request, source, options.onnx)
    return [
        dataclasses.replace(
            origin,
            build=lambda store: read_body(path, origin.model.facts, store),
            build_step=f"reading the graph in {path.name}",
        )
    ]


def _open_stored(source: Source, *, opset: int) -> Origin:
    reference, groups = load_stored(source)
    return Origin(
        reference,
        groups,
        check=lambda: None,
        build=lambda _: build_body(reference, opset=opset),
        proof_step="reading the stored vectors of sentence-transformers",
        build_step=f"building the graph from the checkpoint, opset {opset}",
        libraries=load_record().libraries,
    )


def _open_proof(source: Source, options: ExportOptions) -> list[Origin]:
    """Origins by what proves it: vectors that are given, the model itself, or stored vectors."""
    if options.vectors is not None:
        return [_open_given(source, options)]
    if not options.without_torch:
        references = load_references(source, verbose=options.verbose)
        return [_open_model(each, options) for each in references]
    try:
        return [_open_stored(source, opset=options.opset)]
    except InputError as exc:
        raise InputError(
            "there is nothing to prove the graph by: give the model's own vectors with --texts and "
            f"--vectors, or {install_command('export')}"
        ) from exc


def _open_given(source: Source, options: ExportOptions) -> Origin:
    if options.texts is None or options.vectors is None:
        raise InputError("--vectors needs --texts: the texts that they belong to")
    checkpoint = Checkpoint(source.folder, weights=False)
    facts = checkpoint.facts
    groups = [Group(read_texts(options.texts), None, facts.default_prompt)]
    vectors = KnownVectors(groups, read_vectors(options.vectors), dim=facts.dim)
    return Origin(
        StoredReference(checkpoint, vectors, architecture={}),
        groups,
        check=lambda: None,
        build=_no_graph,
        proof_step=f"reading the vectors in {options.vectors.name}",
        build_step="",
        libraries={},
        # Only transformers knows which settings are not the defaults of their kind.
        is_identified=False,
    )


def _no_graph(_: WeightStore) -> onnx.ModelProto:
    raise AssertionError("given vectors prove a graph, and make none")


def _open_model(reference: Reference, options: ExportOptions) -> Origin:
    texts = load_sample() if options.texts is None else read_texts(options.texts)
    opset, verbose = options.opset, options.verbose
    return Origin(
        reference,
        make_groups(reference.facts, texts),
        check=lambda: check_padding(reference, texts),
        build=lambda store: export_body(reference, opset=opset, store=store, verbose=verbose),
        proof_step="encoding the sample with sentence-transformers",
        build_step=f"tracing the graph, opset {opset}",
        notes=reference.notes,
        libraries=installed_versions(TRACING),
        folder=reference.route.folder,
    )
