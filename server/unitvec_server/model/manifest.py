"""The manifest of an artifact: what it is, and every file of it with its sha256.

A parsed manifest is fully validated: code behind this door trusts it.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from unitvec_server.errors import ArtifactError
from unitvec_server.model.identity import Identity
from unitvec_server.model.provenance import Provenance

FORMAT = "unitvec-artifact"
FORMAT_VERSION = 1
PRECISIONS = ("fp32", "int16", "bf16", "int8", "int8-fused", "fp16")
FUSED = frozenset({"int16", "bf16", "int8-fused"})
"""Graphs of one operator, which only unitvec-kernels runs."""
_RETIRED = frozenset({"int8-static"})
"""Graphs of older artifacts, which nothing runs any more."""

POOLINGS = ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
SimilarityFunction = Literal["cosine", "dot", "euclidean", "manhattan"]
TruncationSide = Literal["left", "right"]


@dataclasses.dataclass(frozen=True)
class File:
    """A file of the artifact.

    Attributes:
        name: Its name inside the folder.
        sha256: Hex digest of its content.
        size_bytes: Its size.
    """

    name: str
    sha256: str
    size_bytes: int


@dataclasses.dataclass(frozen=True)
class Parity:
    """A graph compared with sentence-transformers on the same texts.

    Attributes:
        texts: Number of texts compared.
        cosine_mean: Mean cosine over the texts.
        cosine_min: Lowest cosine.
        max_abs_diff: Largest absolute difference of any component.
    """

    texts: int
    cosine_mean: float
    cosine_min: float
    max_abs_diff: float


@dataclasses.dataclass(frozen=True)
class Graph:
    """The model at one precision, with its measured quality.

    Attributes:
        file: The ONNX file.
        parity: Its quality.
        weights: Further files, with the weights of a graph that is larger than one ONNX file can
            be: over 2 GiB.
    """

    file: File
    parity: Parity
    weights: Sequence[File] = ()

    @property
    def files(self) -> Sequence[File]:
        """All its files, the ONNX file first."""
        return (self.file, *self.weights)

    @property
    def size_bytes(self) -> int:
        """Size of all its files."""
        return sum(file.size_bytes for file in self.files)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What an artifact is.

    Attributes:
        model_id: Source model, such as ``sentence-transformers/all-MiniLM-L6-v2``.
        revision: Revision of the source, empty if unknown.
        dim: Dimension D of the embeddings.
        max_seq_length: Longest text in tokens, special tokens included.
        pooling: How token vectors become one: of `POOLINGS`, several joined by +.
        normalized: Whether the graph ends in L2 normalization.
        pad_token_id: Token id that fills up shorter rows of a batch.
        prompts: Prompt texts by name.
        default_prompt_name: Prompt used when a request names none, or None.
        tokenizer: The tokenizer file.
        graphs: Graphs by precision.
        created_by: Name and version of the program that wrote it.
        similarity_fn_name: How the model's files say that its vectors are compared.
        truncation_side: Side of a too long text that is cut off where a request names none.
        split_special_tokens: Whether the name of a special token inside a text is plain text,
            which `tokenizer.json` cannot say.
        expected: The file of the model's own vectors, float32 (n, D); None in older artifacts.
        provenance: Where it comes from, or None in older artifacts.
        identity: What its vectors come from; None in artifacts that are too old to tell.
        unpooled_tokens: Number of first tokens that pooling leaves out, by the name of the prompt;
            none where prompts count.
        routes: Folder inside this one that embeds texts with a prompt, an artifact of its own, by
            the name of the prompt; empty for this one. The empty prompt name stands for none. No
            routes for most models.
        canary: The file of a few texts with the vectors of each graph; None in older artifacts.
    """

    model_id: str
    revision: str
    dim: int
    max_seq_length: int
    pooling: str
    normalized: bool
    pad_token_id: int
    prompts: Mapping[str, str]
    default_prompt_name: str | None
    tokenizer: File
    graphs: Mapping[str, Graph]
    created_by: str
    similarity_fn_name: SimilarityFunction = "cosine"
    truncation_side: TruncationSide = "right"
    split_special_tokens: bool = False
    expected: File | None = None
    provenance: Provenance | None = None
    identity: Identity | None = None
    unpooled_tokens: Mapping[str, int] = dataclasses.field(default_factory=dict)
    routes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    canary: File | None = None

    @property
    def default_prompt(self) -> str:
        """Text put before each text when no prompt is named; may be empty."""
        return self.prompts.get(self.default_prompt_name or "", "")

    def to_json(self) -> str:
        """Renders the manifest as the text of `manifest.json`."""
        content = {"format": FORMAT, "format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def parse_manifest(content: Any, path: Path) -> Manifest:
    """Builds a manifest from the JSON of the file at `path`, fully validated.

    Raises:
        ArtifactError: It is damaged, of a foreign format or of a newer version.
    """
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ArtifactError(f'{path} is not a unitvec manifest (no "format": "{FORMAT}")')
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"{path} has format_version {version!r}, this server reads {FORMAT_VERSION}; "
            "export the model again, or use the unitvec release that wrote it"
        )
    fields = {key: val for key, val in content.items() if key not in ("format", "format_version")}
    try:
        manifest = _build(fields)
        _check(manifest)
    except (TypeError, ValueError, KeyError, AttributeError) as exc:
        raise ArtifactError(f"{path} is damaged: {exc}; export it again") from exc
    return manifest


def _build(fields: dict[str, Any]) -> Manifest:
    graphs = {
        name: Graph(
            file=File(**graph["file"]),
            parity=Parity(**graph["parity"]),
            weights=tuple(File(**file) for file in graph.get("weights", ())),
        )
        for name, graph in fields.pop("graphs").items()
    }
    tokenizer = File(**fields.pop("tokenizer"))
    expected, provenance = fields.pop("expected", None), fields.pop("provenance", None)
    identity, canary = fields.pop("identity", None), fields.pop("canary", None)
    return Manifest(
        **fields,
        tokenizer=tokenizer,
        graphs=graphs,
        expected=expected and File(**expected),
        provenance=provenance and Provenance(**provenance),
        identity=identity and Identity(**identity),
        canary=canary and File(**canary),
    )


_FIELD_TYPES: Mapping[type, Mapping[str, tuple[type, ...]]] = {
    Manifest: {
        "model_id": (str,),
        "revision": (str,),
        "dim": (int,),
        "max_seq_length": (int,),
        "normalized": (bool,),
        "pad_token_id": (int,),
        "prompts": (dict,),
        "default_prompt_name": (str, type(None)),
        "created_by": (str,),
        "pooling": (str,),
        "split_special_tokens": (bool,),
        "unpooled_tokens": (dict,),
        "routes": (dict,),
    },
    Provenance: {
        "created_at": (str,),
        "libraries": (dict,),
        "texts_sha256": (str,),
        "license": (str,),
        "limits": (str,),
    },
    Identity: {
        "space": (str,),
        "weights": (str,),
        "architecture": (dict,),
        "tokenizer": (str,),
        "tokenizer_sha256": (str,),
        "pipeline": (list, tuple),
        "bits": (dict,),
    },
    File: {"name": (str,), "sha256": (str,), "size_bytes": (int,)},
    Parity: {
        "texts": (int,),
        "cosine_mean": (float, int),
        "cosine_min": (float, int),
        "max_abs_diff": (float, int),
    },
}
_WORDS: Mapping[str, tuple[str, ...]] = {
    "similarity_fn_name": get_args(SimilarityFunction),
    "truncation_side": get_args(TruncationSide),
}
_MAX_NUMBER = 2**31 - 1  # of dimensions, tokens and ids: far more than there are
_PLAIN_NAME = re.compile(r"(?!\.{1,2}$)[^/\\\0]+")


def _check_types(record: Manifest | Provenance | Identity | File | Parity) -> None:
    for name, kinds in _FIELD_TYPES[type(record)].items():
        if type(getattr(record, name)) not in kinds:  # not isinstance: True is no number here
            raise TypeError(f"{name} has the wrong type")


def _check(manifest: Manifest) -> None:
    for record in (manifest, manifest.provenance, manifest.identity):
        if record is not None:
            _check_types(record)
    lowest = {"dim": 1, "max_seq_length": 1, "pad_token_id": 0}
    for name, low in lowest.items():
        if not low <= getattr(manifest, name) <= _MAX_NUMBER:
            raise ValueError(f"{name} is out of range")
    for name, known in _WORDS.items():
        if getattr(manifest, name) not in known:
            raise ValueError(f"{name} {getattr(manifest, name)!r} is unknown")
    unknown = sorted(set(manifest.pooling.split("+")) - set(POOLINGS))
    if unknown:
        raise ValueError(f"pooling {unknown[0]!r} is unknown")
    _check_prompts(manifest)
    _check_graphs(manifest)


def _check_prompts(manifest: Manifest) -> None:
    names = manifest.prompts.keys()
    if not all(isinstance(text, str) for text in manifest.prompts.values()):
        raise TypeError("prompts has the wrong type")
    if manifest.default_prompt_name not in (None, *names):
        raise ValueError(
            f"default_prompt_name {manifest.default_prompt_name!r} is not among the prompts"
        )
    for name, count in manifest.unpooled_tokens.items():
        if name not in names or type(count) is not int or count < 0:
            raise ValueError(f"unpooled_tokens of {name!r} is no number of tokens of a prompt")
    if manifest.routes and manifest.routes.keys() - {""} != names:
        raise ValueError("routes are not those of the prompts")
    for folder in manifest.routes.values():
        if folder and not (isinstance(folder, str) and _PLAIN_NAME.fullmatch(folder)):
            raise ValueError(f"route {folder!r} is not a plain name")


def _check_graphs(manifest: Manifest) -> None:
    if not manifest.graphs:
        raise ValueError("it lists no graphs")
    unknown = set(manifest.graphs) - set(PRECISIONS) - _RETIRED
    if unknown:
        raise ValueError(f"precision {min(unknown)!r} is unknown")
    for graph in manifest.graphs.values():
        _check_types(graph.parity)
    files = [
        manifest.tokenizer,
        *(file for graph in manifest.graphs.values() for file in graph.files),
    ]
    files += filter(None, [manifest.expected, manifest.canary])
    for file in files:
        _check_types(file)
        if not _PLAIN_NAME.fullmatch(file.name):
            raise ValueError(f"file name {file.name!r} is not a plain name")
