"""What is printed of a finished export or verification."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from unitvec_server.model.artifact import Artifact
from unitvec_server.model.manifest import Manifest, Parity

_INT8_NOTE = """\
int8: close to the model, not equal to it, and the same whatever a text is batched with. It is
never chosen by itself: serve it with --precision int8. On CPUs without VNNI it is less exact."""

_TABLE = "{:<10} {:>6} {:>12} {:>12} {:>12} {:>10}"


def report_export(artifact: Artifact, seconds_s: float) -> str:
    """The qualities of a new artifact, and how it is served."""
    manifest, out = artifact.manifest, artifact.folder
    parts = {"": artifact, **artifact.routes}
    lines = [report_parities(artifact, {name: _recorded(part) for name, part in parts.items()})]
    if any("int8" in part.manifest.graphs for part in parts.values()):
        lines += ["", _INT8_NOTE]
    kind = (
        f"{manifest.dim} dimensions, {manifest.max_seq_length} tokens, {manifest.pooling} pooling"
    )
    lines += ["", f"{manifest.model_id} ({kind}) is in {out}, after {seconds_s:.0f} s."]
    if manifest.identity:
        lines += [f"Its vectors are of space {manifest.identity.space}."]
    lines += [f"Serve it:  unitvec-serve --model {out}"]
    return "\n".join(lines)


def _recorded(artifact: Artifact) -> dict[str, Parity]:
    return {name: graph.parity for name, graph in artifact.manifest.graphs.items()}


def report_parities(artifact: Artifact, parities: Mapping[str, Mapping[str, Parity]]) -> str:
    """Tables of graphs with their parity and size.

    Args:
        artifact: The artifact.
        parities: By the name of the graph, of each route by the name of its folder.
    """
    parts = {"": artifact, **artifact.routes}
    lines = [
        line
        for folder, measured in parities.items()
        for line in ("", *_title(artifact, folder), *_table(parts[folder].manifest, measured))
    ]
    return "\n".join(lines)


def _title(artifact: Artifact, folder: str) -> Iterator[str]:
    """Which prompts take a route, where there are several."""
    routes = artifact.manifest.routes
    if artifact.routes:
        names = [name or "none" for name, route in routes.items() if route == folder]
        yield f"texts with the prompt {', '.join(names)}:"


def _table(manifest: Manifest, parities: Mapping[str, Parity]) -> Iterator[str]:
    yield _TABLE.format("precision", "texts", "cosine mean", "cosine min", "max abs diff", "MB")
    for name, parity in parities.items():
        cosines = (f"{parity.cosine_mean:.7f}", f"{parity.cosine_min:.7f}")
        size = f"{manifest.graphs[name].size_bytes / 1e6:.1f}"
        yield _TABLE.format(name, parity.texts, *cosines, f"{parity.max_abs_diff:.1e}", size)
