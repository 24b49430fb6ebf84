"""What is printed of a finished export or verification."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from unitvec_server.model.manifest import Manifest, Parity

_INT8_NOTE = """\
int8: close to the model, not equal to it, and the same whatever a text is batched with. It is
never chosen by itself: serve it with --precision int8. On CPUs without VNNI it is less exact."""

_TABLE = "{:<10} {:>6} {:>12} {:>12} {:>12} {:>10}"


def report_export(manifest: Manifest, out: Path, seconds_s: float) -> str:
    """The qualities of a new artifact, and how it is served."""
    parities = {name: graph.parity for name, graph in manifest.graphs.items()}
    lines = [report_parities(manifest, parities)]
    if "int8" in manifest.graphs:
        lines += ["", _INT8_NOTE]
    kind = (
        f"{manifest.dim} dimensions, {manifest.max_seq_length} tokens, {manifest.pooling} pooling"
    )
    lines += ["", f"{manifest.model_id} ({kind}) is in {out}, after {seconds_s:.0f} s."]
    if manifest.identity:
        lines += [f"Its vectors are of space {manifest.identity.space}."]
    lines += [f"Serve it:  unitvec-serve --model {out}"]
    return "\n".join(lines)


def report_parities(manifest: Manifest, parities: Mapping[str, Parity]) -> str:
    """A table of graphs with their parity and size."""
    header = ("precision", "texts", "cosine mean", "cosine min", "max abs diff", "MB")
    lines = ["", _TABLE.format(*header)]
    for name, parity in parities.items():
        cosines = (f"{parity.cosine_mean:.7f}", f"{parity.cosine_min:.7f}")
        size = f"{manifest.graphs[name].size_bytes / 1e6:.1f}"
        lines.append(
            _TABLE.format(name, parity.texts, *cosines, f"{parity.max_abs_diff:.1e}", size)
        )
    return "\n".join(lines)
