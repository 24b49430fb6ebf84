"""The artifact: the folder that export writes and the server serves.

    manifest.json     what it is; every other file with its sha256
    tokenizer.json    Hugging Face tokenizers file, without padding or truncation
    vectors.npy       what sentence-transformers made of the bundled texts: nothing that is served
    canary.json       a few texts and what each graph made of them: the server tests itself by it
    model.<p>.onnx    one graph for each precision: input_ids, attention_mask (B, S) int64
                      -> embeddings (B, D) float32, pooled and normalized as the model says. Where
                      prompts are left out of pooling, their tokens come as -1 - id.
                      int16, bf16 and int8-fused are one operator of unitvec-kernels, and take
                      texts without padding: input_ids (T,) int64, starts (B + 1,) int64
    model.<p>.onnx_data   weights of that graph where they are too many for one ONNX file: 2 GiB
    route-<name>/     where prompts take another way through the model: an artifact of its own

Loading reads manifests alone; `verify_file` holds any other file against it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from unitvec_server.errors import ArtifactError
from unitvec_server.model.manifest import File, Manifest, parse_manifest

MANIFEST_FILE = "manifest.json"
ROUTE_PREFIX = "route-"
"""What names of folders of routes begin with."""


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A verified model folder.

    Attributes:
        folder: The folder.
        manifest: What it is.
        routes: Artifacts inside it, by the names of their folders.
    """

    folder: Path
    manifest: Manifest
    routes: Mapping[str, Artifact] = dataclasses.field(default_factory=dict)

    @property
    def tokenizer_path(self) -> Path:
        """Path of `tokenizer.json`."""
        return self.folder / self.manifest.tokenizer.name

    def graph_path(self, precision: str) -> Path:
        """Path of the graph at `precision`.

        Raises:
            ArtifactError: The artifact has no graph of this precision.
        """
        graph = self.manifest.graphs.get(precision)
        if graph is None:
            have = ", ".join(self.manifest.graphs)
            raise ArtifactError(
                f"{self.folder} has no {precision} graph (it has: {have}); "
                f"export it with unitvec-export --precision {precision}"
            )
        return self.folder / graph.file.name


def load_artifact(folder: Path) -> Artifact:
    """Reads and validates the manifest of a model folder; hashes no files yet.

    Raises:
        ArtifactError: It is missing, damaged, of a foreign format or of a newer version.
    """
    path = folder / MANIFEST_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(
            f"{folder} is not a unitvec model folder: it has no {MANIFEST_FILE}; "
            "make one with unitvec-export"
        ) from None
    except (OSError, ValueError, RecursionError) as exc:
        raise ArtifactError(f"{path} cannot be read: {exc}") from exc
    manifest = parse_manifest(content, path)
    folders = sorted(filter(None, {*manifest.routes.values()}))
    routes = {name: load_artifact(folder / name) for name in folders}
    for name, route in routes.items():
        if route.manifest.dim != manifest.dim or route.manifest.routes:
            raise ArtifactError(f"{folder / name} is no route of {folder}; export it again")
    return Artifact(folder, manifest, routes)


def verify_file(artifact: Artifact, file: File) -> None:
    """Compares a file of the artifact with its recorded size and sha256.

    Raises:
        ArtifactError: It is missing or differs.
    """
    path = artifact.folder / file.name
    try:
        size_bytes = path.stat().st_size
        digest = sha256_file(path) if size_bytes == file.size_bytes else None
    except OSError as exc:
        raise ArtifactError(f"{path} cannot be read: {exc.strerror}; export it again") from exc
    if digest is None:
        raise ArtifactError(
            f"{path} has {size_bytes} bytes, its manifest says {file.size_bytes}; export it again"
        )
    if digest != file.sha256:
        raise ArtifactError(f"{path} is damaged: its sha256 is not the manifest's; export it again")


def verify_graph(artifact: Artifact, name: str) -> None:
    """Compares all files of a graph with their recorded sizes and sha256.

    Raises:
        ArtifactError: The artifact has no such graph, or a file is missing or differs.
    """
    artifact.graph_path(name)
    for file in artifact.manifest.graphs[name].files:
        verify_file(artifact, file)


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def describe_file(path: Path) -> File:
    """The manifest's record of a file."""
    return File(path.name, sha256_file(path), path.stat().st_size)
