"""One export from beginning to end."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from unitvec_export.graph.tracing import DEFAULT_OPSET, export_body, finish
from unitvec_export.progress import Progress
from unitvec_export.prove.reference import Reference, load_reference
from unitvec_export.prove.verification import Verification, load_sample
from unitvec_export.quantize.fp16 import to_fp16
from unitvec_export.quantize.int8 import to_int8
from unitvec_export.quantize.static_int8 import to_static_int8
from unitvec_export.source import Request, Source, resolve_source
from unitvec_export.writer import TOKENIZER_FILE, graph_file, staged
from unitvec_server.model.artifact import (
    MANIFEST_FILE,
    File,
    Graph,
    Manifest,
    Parity,
    describe_file,
)

_UNMEASURED = Parity(texts=0, cosine_mean=0.0, cosine_min=0.0, max_abs_diff=0.0)
# int8 is calibrated on each so many-th text of the sample and measured on all.
_CALIBRATION_STRIDE = 2
STEPS = 6


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What to export, and how.

    Attributes:
        request: Which model.
        out: Folder that becomes the artifact.
        precisions: Graphs to write, fp32 among them.
        opset: Version of ONNX's operator set.
        verbose: Show what the libraries log.
    """

    request: Request
    out: Path
    precisions: Sequence[str] = ("fp32",)
    opset: int = DEFAULT_OPSET
    verbose: bool = False


def export(options: ExportOptions, progress: Progress) -> Manifest:
    """Exports a model, proves the result and puts it in place.

    Args:
        options: What to export.
        progress: Told of every step.

    Returns:
        The manifest of the artifact at `options.out`.

    Raises:
        InputError: The model or the target cannot be used.
        ParityError: The artifact does not reproduce the model.
        ExportError: Anything else went wrong; in no case is something left behind.
    """
    # Entered first: a target that cannot be written shows before minutes of work.
    with staged(options.out) as stage:
        with progress.step("loading the model"):
            source = resolve_source(options.request)
            reference = load_reference(source, verbose=options.verbose)
        with progress.step(f"tracing the graph with optimum, opset {options.opset}"):
            body = export_body(reference, opset=options.opset, verbose=options.verbose)
        with progress.step(f"writing {', '.join(options.precisions)}"):
            _write_graphs(stage, body, reference, options)
            manifest = _write_manifest(stage, source, reference, options.precisions)
        verification = Verification(reference, load_sample())
        with progress.step("encoding the sample with sentence-transformers"):
            texts = len(verification.expected)
        with progress.step(f"comparing {texts} vectors with the server's code"):
            parities = {
                precision: verification.measure(stage, precision)
                for precision in options.precisions
            }
        manifest = _record(manifest, parities)
        with progress.step(f"putting it in place: {options.out}"):
            _write_text(stage / MANIFEST_FILE, manifest.to_json())
    return manifest


def _write_graphs(
    stage: Path, body: onnx.ModelProto, reference: Reference, options: ExportOptions
) -> None:
    for precision in options.precisions:
        if precision == "int8":
            converted = to_int8(body, _calibration(reference))
        elif precision == "int8-static":
            converted = to_static_int8(body, _calibration(reference))
        elif precision == "fp16":
            converted = to_fp16(body, verbose=options.verbose)
        else:
            converted = body
        onnx.save(finish(converted, reference.facts), str(stage / graph_file(precision)))


def _calibration(reference: Reference) -> list[list[int]]:
    """Token ids of the texts that int8 is calibrated on."""
    texts = load_sample()[::_CALIBRATION_STRIDE]
    return reference.token_ids(texts, prompt=reference.facts.default_prompt)


def _write_manifest(
    stage: Path, source: Source, reference: Reference, precisions: Sequence[str]
) -> Manifest:
    """Writes the tokenizer and a manifest whose parities are still to be measured."""
    facts = reference.facts
    _write_text(stage / TOKENIZER_FILE, reference.tokenizer_json())
    manifest = Manifest(
        model_id=source.model_id,
        revision=source.revision,
        dim=facts.dim,
        max_seq_length=facts.max_seq_length,
        pooling=facts.pooling,
        normalized=facts.normalized,
        pad_token_id=facts.pad_token_id,
        prompts=dict(facts.prompts),
        default_prompt_name=facts.default_prompt_name,
        tokenizer=describe_file(stage / TOKENIZER_FILE),
        graphs={name: Graph(_describe_graph(stage, name), _UNMEASURED) for name in precisions},
        created_by=f"unitvec-export {importlib.metadata.version('unitvec')}",
    )
    _write_text(stage / MANIFEST_FILE, manifest.to_json())
    return manifest


def _describe_graph(stage: Path, precision: str) -> File:
    return describe_file(stage / graph_file(precision))


def _record(manifest: Manifest, parities: Mapping[str, Parity]) -> Manifest:
    graphs = {
        name: dataclasses.replace(graph, parity=parities[name])
        for name, graph in manifest.graphs.items()
    }
    return dataclasses.replace(manifest, graphs=graphs)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
