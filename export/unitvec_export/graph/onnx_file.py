"""An ONNX file that somebody else exported -> the body that an export of ours starts from."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper, version_converter

from unitvec_export.errors import InputError, first_line
from unitvec_export.graph.opsets import DEFAULT_OPSET, OPSETS
from unitvec_export.graph.simplify import simplify
from unitvec_export.graph.tracing import trim
from unitvec_export.graph.weights import WeightStore
from unitvec_export.pipeline.tail import OUTPUT
from unitvec_export.prove.facts import Facts

_TOKEN_VECTORS = ("last_hidden_state", "token_embeddings")
_VECTORS = "sentence_embedding"


def read_body(path: Path, facts: Facts, store: WeightStore) -> onnx.ModelProto:
    """Reads a graph as optimum and transformers.js write it.

    Its token vectors are taken where it has them, so that what follows is ours; else its
    finished vectors.

    Args:
        path: The file, with its outside data beside it.
        facts: What is known of its model.
        store: Where weights of more than 2 GiB go.

    Returns:
        A graph from input_ids and attention_mask (B, S) to token vectors (B, S, H), or to finished
        vectors (B, D) under the name that these have in an artifact.

    Raises:
        InputError: It cannot be read, or is not such a graph.
    """
    model = store.take(_raise_opset(_load(path), path))
    outputs = [value.name for value in model.graph.output]
    tokens = next((name for name in _TOKEN_VECTORS if name in outputs), None)
    if tokens is not None:
        _keep_output(model.graph, tokens)
        body = trim(model)
    elif _VECTORS in outputs:
        _keep_output(model.graph, _VECTORS)
        body = trim(model, output=OUTPUT, rank=2)
        shape = ["batch", facts.dim]  # which the file need not tell
        output = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape)
        body.graph.output[0].CopyFrom(output)
    else:
        known = ", ".join((*_TOKEN_VECTORS, _VECTORS))
        raise InputError(f"{path} has the outputs {', '.join(outputs)}, and none of {known}")
    return simplify(body, max_tokens=facts.max_seq_length)


def _load(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(str(path))
    except Exception as exc:  # protobuf and onnx raise their own; weights may be in a lost file
        raise InputError(f"{path} cannot be read as ONNX: {first_line(exc)}") from exc


def _raise_opset(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    version = next((each.version for each in model.opset_import if not each.domain), 1)
    if version >= OPSETS[0]:
        return model
    try:
        return version_converter.convert_version(model, DEFAULT_OPSET)
    except Exception as exc:  # the converter is C++ and raises bare classes
        raise InputError(
            f"{path} is of opset {version}, and cannot be converted to {DEFAULT_OPSET}: "
            f"{first_line(exc)}"
        ) from exc


def _keep_output(graph: onnx.GraphProto, name: str) -> None:
    kept = next(value for value in graph.output if value.name == name)
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(kept)
    del graph.output[:]
    graph.output.append(copy)
