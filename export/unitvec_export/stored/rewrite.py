"""Makes the stored graph and vectors of all-MiniLM-L6-v2 again, with torch.

python -m unitvec_export.stored.rewrite
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from pathlib import Path

import numpy as np

from unitvec_export.graph.opsets import DEFAULT_OPSET
from unitvec_export.graph.tracing import trace_body
from unitvec_export.graph.wiring import declare_shapes
from unitvec_export.prove.reference import load_reference
from unitvec_export.prove.verification import Verification, hash_texts, load_sample, make_groups
from unitvec_export.source import DEFAULT_WEIGHTS_SHA256, Request, resolve_source
from unitvec_export.stored.minilm import FOLDER, GRAPH_FILE, RECORD_FILE, VECTORS_FILE, Record
from unitvec_export.stored.reference import hash_token_ids
from unitvec_export.stored.skeleton import take_weights

_LIBRARIES = ("onnx", "optimum", "sentence-transformers", "tokenizers", "torch", "transformers")


def rewrite(folder: Path) -> None:
    """Writes the three files.

    Args:
        folder: An existing folder.
    """
    reference = load_reference(resolve_source(Request()))
    groups = make_groups(reference.facts, load_sample())
    ids = [row for g in groups for row in reference.token_ids(g.texts, prompt=g.prompt)]
    body = trace_body(reference, opset=DEFAULT_OPSET)
    declare_shapes(body)  # to infer them takes seconds, and a package that nothing else needs
    skeleton = take_weights(body, reference.tensors)
    record = Record(
        weights_sha256=DEFAULT_WEIGHTS_SHA256,
        texts_sha256=hash_texts(groups),
        token_ids_sha256=hash_token_ids(ids),
        opset=DEFAULT_OPSET,
        architecture=dict(reference.architecture),
        libraries={name: importlib.metadata.version(name) for name in _LIBRARIES},
    )
    (folder / GRAPH_FILE).write_bytes(skeleton.SerializeToString(deterministic=True))
    np.save(folder / VECTORS_FILE, Verification(reference, groups).expected)
    text = json.dumps(dataclasses.asdict(record), indent=2)
    (folder / RECORD_FILE).write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    rewrite(Path(str(FOLDER)))
