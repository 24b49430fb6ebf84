"""all-MiniLM-L6-v2, for which graph and vectors are stored."""

from __future__ import annotations

import dataclasses
import io
import json
from importlib.resources import files
from typing import Any

import numpy as np
import onnx

from unitvec_export.errors import InputError
from unitvec_export.graph.simplify import simplify
from unitvec_export.prove.known import KnownVectors
from unitvec_export.prove.verification import Group, hash_texts, load_sample, make_groups
from unitvec_export.source import DEFAULT_MODEL_ID, Source
from unitvec_export.stored.checkpoint import Checkpoint
from unitvec_export.stored.reference import StoredReference, hash_token_ids
from unitvec_export.stored.skeleton import give_weights
from unitvec_protos.installation import install_command
from unitvec_server.model.artifact import sha256_file

FOLDER = files("unitvec_export.stored") / "all-MiniLM-L6-v2"
GRAPH_FILE = "graph.onnx"
VECTORS_FILE = "vectors.npy"
RECORD_FILE = "record.json"


@dataclasses.dataclass(frozen=True)
class Record:
    """What the stored graph and vectors belong to.

    Attributes:
        weights_sha256: Of the checkpoint's `model.safetensors`.
        texts_sha256: Of the texts and prompts, as `hash_texts` makes it.
        token_ids_sha256: Of the ids that sentence-transformers made of them.
        opset: Of the graph.
        architecture: What `Reference` says of it.
        libraries: Versions that made graph and vectors.
    """

    weights_sha256: str
    texts_sha256: str
    token_ids_sha256: str
    opset: int
    architecture: dict[str, Any]
    libraries: dict[str, str]


def load_record() -> Record:
    """The record of what is stored."""
    return Record(**json.loads((FOLDER / RECORD_FILE).read_text(encoding="utf-8")))


def load_stored(source: Source) -> tuple[StoredReference, list[Group]]:
    """The model with its stored vectors, and the texts that they belong to.

    Args:
        source: all-MiniLM-L6-v2.

    Raises:
        InputError: It is another model, or has other prompts or token ids.
    """
    record = load_record()
    checkpoint = Checkpoint(source.folder)
    if sha256_file(checkpoint.weights_path) != record.weights_sha256:
        raise InputError(
            f"without torch only {DEFAULT_MODEL_ID} can be exported, and {source.folder} has other "
            f"weights: {install_command('export')}"
        )
    groups = make_groups(checkpoint.facts, load_sample())
    ids = [row for g in groups for row in checkpoint.token_ids(g.texts, prompt=g.prompt)]
    if hash_texts(groups) != record.texts_sha256 or hash_token_ids(ids) != record.token_ids_sha256:
        raise InputError(
            f"the stored vectors are of {DEFAULT_MODEL_ID} as it is published, and the settings, "
            f"prompts or tokenizer of {source.folder} are others: {install_command('export')}"
        )
    vectors = np.load(io.BytesIO((FOLDER / VECTORS_FILE).read_bytes()))
    known = KnownVectors(groups, vectors, dim=checkpoint.facts.dim)
    return StoredReference(checkpoint, known, architecture=record.architecture), groups


def build_body(reference: StoredReference, *, opset: int) -> onnx.ModelProto:
    """The fp32 body that a trace of the model would give.

    Raises:
        InputError: The stored graph is of another opset.
    """
    stored = load_record().opset
    if opset != stored:
        raise InputError(f"the stored graph is of opset {stored}: another needs a full export")
    skeleton = onnx.load_model_from_string((FOLDER / GRAPH_FILE).read_bytes())
    body = give_weights(skeleton, reference.tensors)
    return simplify(body, max_tokens=reference.facts.max_seq_length)
