"""One export from beginning to end."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import tempfile
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import numpy as np

from unitvec_export.errors import InputError, ParityError, in_route
from unitvec_export.graph.weights import WeightStore
from unitvec_export.noise import muted
from unitvec_export.origins import ExportOptions, Origin, open_origins
from unitvec_export.progress import Progress
from unitvec_export.prove.identity import identify, with_fingerprints
from unitvec_export.prove.verification import Measured, Verification, hash_texts
from unitvec_export.provenance import describe_origin
from unitvec_export.quantize.graphs import Graphs
from unitvec_export.source import Source, resolve_source
from unitvec_export.writer import (
    CANARY_FILE,
    TOKENIZER_FILE,
    VECTORS_FILE,
    graph_file,
    staged,
    weights_file,
)
from unitvec_server.model.artifact import MANIFEST_FILE, describe_file
from unitvec_server.model.canary import CANARY_TEXTS, write_canary
from unitvec_server.model.manifest import Graph, Manifest, Parity

_UNMEASURED = Parity(texts=0, cosine_mean=0.0, cosine_min=0.0, max_abs_diff=0.0)
STEPS = 6
_ROUTE_STEPS = 4
"""Steps of each route, beside loading and putting in place."""
_NO_GRAPH_LEFT = "--without-fp32 leaves no graph: no other could be written"


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
    with contextlib.ExitStack() as stack:
        stage = stack.enter_context(staged(options.out))
        with progress.step("loading the model"):
            if not options.without_torch:
                stack.enter_context(muted(verbose=options.verbose))
            source = resolve_source(options.request)
            origins = open_origins(source, options)
        progress.expect(STEPS + _ROUTE_STEPS * (len(origins) - 1))
        for line in origins[0].notes:
            progress.note(line)
        manifests: dict[str, Manifest] = {}
        # The artifact itself comes last: it can only be tried with its routes in it.
        for origin in reversed(origins):
            folder = stage / origin.folder
            folder.mkdir(exist_ok=True)
            with in_route(origin.folder):
                manifest = _export_route(origin, folder, source, options, progress)
            manifests[origin.folder] = with_fingerprints(manifest, _spaces(manifests))
        _check_graphs(options, manifests.values())
        with progress.step(f"putting it in place: {options.out}"):
            for name, manifest in manifests.items():
                _write_text(stage / name / MANIFEST_FILE, manifest.to_json())
    return manifests[""]


def _spaces(manifests: Mapping[str, Manifest]) -> dict[str, str]:
    """The space of each manifest, by the same names; empty where it is unknown."""
    return {
        name: manifest.identity.space if manifest.identity else ""
        for name, manifest in manifests.items()
    }


def _check_graphs(options: ExportOptions, manifests: Collection[Manifest]) -> None:
    """Makes sure that each graph that was asked for is in one of the routes at least."""
    written = {name for manifest in manifests for name in manifest.graphs}
    for name in options.precisions or ():
        if name not in written and not (name == "fp32" and options.without_fp32):
            raise InputError(f"--precision {name}: none of the routes can have it")
    if options.without_fp32 and written == {"fp32"}:
        raise InputError(_NO_GRAPH_LEFT)


def _export_route(
    origin: Origin, folder: Path, source: Source, options: ExportOptions, progress: Progress
) -> Manifest:
    """Fills a folder and proves what is in it: most models have no routes, and one folder."""
    if not origin.is_alone:
        prompts = ", ".join(origin.prompts) or "none"
        progress.note(f"{origin.folder or 'the route by default'}, of the prompts {prompts}:")
    verification = Verification(origin.model, origin.groups, tokens=origin.model)
    with progress.step(origin.proof_step):
        origin.check()
        texts = len(verification.expected)
    files, lacking = _write_graphs(origin, folder, options, progress)
    names = tuple(files)
    np.save(folder / VECTORS_FILE, verification.expected)
    manifest = _write_manifest(folder, source, origin, files)
    with progress.step(f"comparing {texts} vectors with the server's code"):
        # What nobody asked for may be left out.
        optional = frozenset({"int16"} if options.precisions is None else ())
        measured, notes = _measure(verification, folder, names, optional=optional)
    # What a route has beside nothing stays: the other routes are served at what was asked for.
    if options.without_fp32 and (origin.is_alone or len(measured) > 1):
        _leave_out_fp32(folder, measured)
    for line in (*lacking, *notes):
        progress.note(line)
    provenance = describe_origin(
        source.folder, origin.libraries, texts_sha256=hash_texts(origin.groups)
    )
    canaries = {name: found.canary for name, found in measured.items()}
    _write_text(folder / CANARY_FILE, write_canary(CANARY_TEXTS, canaries))
    return dataclasses.replace(
        manifest,
        graphs=_record(manifest, measured),
        provenance=provenance,
        canary=describe_file(folder / CANARY_FILE),
    )


def _write_graphs(
    origin: Origin, folder: Path, options: ExportOptions, progress: Progress
) -> tuple[dict[str, Sequence[Path]], list[str]]:
    """Files of each graph, and why others are left out."""
    # Beside what is written: gigabytes may not fit where the system keeps its temporary files.
    with tempfile.TemporaryDirectory(prefix=".weights-", dir=folder) as work:
        store = WeightStore(Path(work), options.max_graph_bytes)
        with progress.step(origin.build_step):
            body = origin.build(store)
        graphs = Graphs(body, origin.model, store=store, verbose=options.verbose)
        lacking = _find_lacking(graphs, origin, options)
        names = graphs.plan(options.precisions)
        with progress.step(f"writing {', '.join(names)}"):
            files = {
                name: store.write(
                    graphs.make(name), folder / graph_file(name), folder / weights_file(name)
                )
                for name in names
            }
        return files, lacking


def _find_lacking(graphs: Graphs, origin: Origin, options: ExportOptions) -> list[str]:
    """Why graphs are left out; that is an error where one was asked for of a model alone."""
    asked = ("int16",) if options.precisions is None else options.precisions
    reasons = {name: why for name in asked if (why := graphs.why_not(name))}
    if reasons and options.precisions is not None and origin.is_alone:
        raise InputError("; ".join(f"--precision {name}: {why}" for name, why in reasons.items()))
    return [f"{name} is left out: {why}" for name, why in reasons.items()]


def _measure(
    verification: Verification, stage: Path, names: Sequence[str], *, optional: AbstractSet[str]
) -> tuple[dict[str, Measured], list[str]]:
    """What each graph computes, and why optional ones that are not good enough are left out."""
    measured: dict[str, Measured] = {}
    notes: list[str] = []
    for name in names:
        try:
            measured[name] = verification.measure(stage, name)
        except ParityError as exc:
            if name not in optional:
                raise
            notes.append(f"{name} is left out: {exc}")
            _remove(stage, name)
    return measured, notes


def _leave_out_fp32(stage: Path, measured: dict[str, Measured]) -> None:
    del measured["fp32"]
    if not measured:
        raise InputError(_NO_GRAPH_LEFT)
    _remove(stage, "fp32")


def _remove(stage: Path, name: str) -> None:
    """Removes the files of a graph."""
    (stage / graph_file(name)).unlink()
    (stage / weights_file(name)).unlink(missing_ok=True)


def _write_manifest(
    stage: Path, source: Source, origin: Origin, files: Mapping[str, Sequence[Path]]
) -> Manifest:
    """Writes the tokenizer and a manifest whose parities are still to be measured."""
    facts = origin.model.facts
    _write_text(stage / TOKENIZER_FILE, origin.model.tokenizer_json())
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
        graphs={name: _describe_graph(paths) for name, paths in files.items()},
        created_by=f"unitvec-export {importlib.metadata.version('unitvec')}",
        similarity_fn_name=facts.similarity_fn_name,
        truncation_side=facts.truncation_side,
        split_special_tokens=facts.split_special_tokens,
        expected=describe_file(stage / VECTORS_FILE),
        identity=identify(origin.model) if origin.is_identified else None,
        unpooled_tokens=dict(facts.unpooled_tokens),
        routes=dict(facts.routes),
    )
    _write_text(stage / MANIFEST_FILE, manifest.to_json())
    return manifest


def _describe_graph(paths: Sequence[Path]) -> Graph:
    file, *weights = map(describe_file, paths)
    return Graph(file, _UNMEASURED, tuple(weights))


def _record(manifest: Manifest, measured: Mapping[str, Measured]) -> dict[str, Graph]:
    """The graphs that were measured, with their parities."""
    return {
        name: dataclasses.replace(manifest.graphs[name], parity=found.parity)
        for name, found in measured.items()
    }


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
