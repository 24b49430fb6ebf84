"""Where an export takes its graph and its proof from.

model    sentence-transformers loads the model, torch traces it
stored   the packaged model, without torch: graph and vectors were stored before
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import onnx

from unitvec_export.graph.tracing import export_body
from unitvec_export.prove.model import Model
from unitvec_export.prove.reference import load_reference
from unitvec_export.prove.verification import Group, check_padding, load_sample, make_groups
from unitvec_export.provenance import TRACING, installed_versions
from unitvec_export.source import Source
from unitvec_export.stored.minilm import build_body, load_record, load_stored


@dataclasses.dataclass(frozen=True)
class Origin:
    """A model to export, with its graph and what proves it.

    Attributes:
        model: The model.
        groups: Texts to prove it on.
        check: Makes sure that the model itself works: what it cannot do is no fault of a graph.
        build: Makes the fp32 body, (B, S) ids and mask -> token vectors (B, S, H).
        proof_step: What is done to get the expected vectors, for the progress lines.
        build_step: What is done to get the body.
        notes: Lines that whoever exports it should read.
        libraries: Versions of what loaded and traced the model.
    """

    model: Model
    groups: Sequence[Group]
    check: Callable[[], None]
    build: Callable[[], onnx.ModelProto]
    proof_step: str
    build_step: str
    libraries: Mapping[str, str]
    notes: Sequence[str] = ()


def open_origin(source: Source, *, without_torch: bool, opset: int, verbose: bool) -> Origin:
    """Loads a model.

    Raises:
        InputError: It cannot be exported this way.
    """
    if without_torch:
        return _open_stored(source, opset=opset)
    return _open_model(source, opset=opset, verbose=verbose)


def _open_stored(source: Source, *, opset: int) -> Origin:
    reference, groups = load_stored(source)
    return Origin(
        reference,
        groups,
        check=lambda: None,
        build=lambda: build_body(reference, opset=opset),
        proof_step="reading the stored vectors of sentence-transformers",
        build_step=f"building the graph from the checkpoint, opset {opset}",
        libraries=load_record().libraries,
    )


def _open_model(source: Source, *, opset: int, verbose: bool) -> Origin:
    reference = load_reference(source, verbose=verbose)
    texts = load_sample()
    return Origin(
        reference,
        make_groups(reference.facts, texts),
        check=lambda: check_padding(reference, texts),
        build=lambda: export_body(reference, opset=opset, verbose=verbose),
        proof_step="encoding the sample with sentence-transformers",
        build_step=f"tracing the graph, opset {opset}",
        notes=reference.notes,
        libraries=installed_versions(TRACING),
    )
