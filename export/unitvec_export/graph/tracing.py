"""Model -> ONNX graph that takes ids and a mask and returns finished embeddings.

trace                     input_ids, attention_mask[, token_type_ids] -> token vectors (B, S, H)
trim                      keeps the token vectors only; token_type_ids become zeros
simplify                  the same function in fewer, cheaper nodes
(quantization)            the body may change its precision here
finish                    attention in blocks, where contexts are long
                          + the steps of `pipeline`, always float32 -> embeddings (B, D)
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from unitvec_export.errors import ExportError, InputError, first_line
from unitvec_export.graph import optimum_onnx, torchscript
from unitvec_export.graph.long_context import LONG_TOKENS, block_attention
from unitvec_export.graph.masks import MAX_PROBE_TOKENS
from unitvec_export.graph.prompts import take_marked_ids
from unitvec_export.graph.simplify import simplify
from unitvec_export.graph.static import static_body
from unitvec_export.graph.weights import WeightStore, copy_graph, openable
from unitvec_export.graph.wiring import Wiring, read_by
from unitvec_export.noise import muted
from unitvec_export.pipeline.pooling import Pooling
from unitvec_export.pipeline.tail import OUTPUT, append
from unitvec_export.prove.facts import Facts
from unitvec_export.prove.reference import Reference

_TOKENS = "token_embeddings"
_WINDOW = re.compile("window|local|chunk")
"""Settings of how far attention reaches, in tokens."""


def export_body(
    reference: Reference, *, opset: int, store: WeightStore | None = None, verbose: bool = False
) -> onnx.ModelProto:
    """The graph of a model's token vectors, simplified.

    A table of static embeddings is one node; a transformer is traced.

    Args:
        reference: The model.
        opset: Version of ONNX's operator set.
        store: As `trace_body`.
        verbose: Show what the libraries log.

    Returns:
        A graph from input_ids and attention_mask (B, S) to token vectors (B, S, H) float32.

    Raises:
        InputError: As `trace_body`.
    """
    if reference.transformer is None:
        body = static_body(reference.static_embeddings, opset=opset)
        return body if store is None else store.take(body)
    return simplify(
        trace_body(reference, opset=opset, store=store, verbose=verbose),
        max_tokens=_mask_tokens(reference.transformer.config, reference.facts.max_seq_length),
    )


def _mask_tokens(config: Any, max_tokens: int) -> int:
    """How long a text shows all that masks do: longer models have wider windows, if any at all."""
    windows = (value for key, value in config.to_dict().items() if _WINDOW.search(key))
    is_wide = any(isinstance(w, int) and MAX_PROBE_TOKENS <= w < max_tokens for w in windows)
    return max_tokens if is_wide else min(max_tokens, MAX_PROBE_TOKENS)


def trace_body(
    reference: Reference, *, opset: int, store: WeightStore | None = None, verbose: bool = False
) -> onnx.ModelProto:
    """Traces the transformer.

    Args:
        reference: The model.
        opset: Version of ONNX's operator set.
        store: Where weights of more than 2 GiB go; None for a model of less.
        verbose: Show what the libraries log.

    Returns:
        A graph from input_ids and attention_mask (B, S) to token vectors (B, S, H) float32.

    Raises:
        InputError: The model is of an architecture that cannot be traced.
    """
    if store is None:
        with tempfile.TemporaryDirectory(prefix="unitvec-export-") as folder:
            inside = WeightStore(Path(folder))
            return trace_body(reference, opset=opset, store=inside, verbose=verbose)
    path = store.folder / "model.onnx"
    _trace(reference, path, opset=opset, verbose=verbose)
    return trim(store.take(onnx.load(str(path), load_external_data=False)))


def trim(model: onnx.ModelProto, *, output: str = _TOKENS, rank: int = 3) -> onnx.ModelProto:
    """Reduces a traced graph to what leads from ids and mask to the token vectors.

    Args:
        model: The graph; changed in place.
        output: The name that its one output gets.
        rank: Dimensions of that output: 2 takes finished vectors.

    Raises:
        InputError: It has no token vectors, or needs an input that an artifact cannot give.
    """
    graph = model.graph
    _rename_output(graph, output, rank=rank)
    _drop_unused(graph)
    names = {value.name for value in graph.input}
    if "token_type_ids" in names:
        _feed_zero_token_types(graph)
    unknown = names - {"input_ids", "attention_mask", "token_type_ids"}
    if unknown or "input_ids" not in names:
        raise InputError(f"the model's graph needs {', '.join(sorted(unknown))}: not supported")
    _declare_inputs(graph)
    # Shapes are inferred anew: those of the trace name dimensions that no longer exist.
    del graph.value_info[:]
    return model


def finish(body: onnx.ModelProto, facts: Facts) -> onnx.ModelProto:
    """Appends the steps from token vectors to embeddings to a body, and checks the whole.

    Returns:
        A graph from input_ids and attention_mask (B, S) int64 to embeddings (B, D) float32.

    Raises:
        ExportError: The result is not a valid ONNX model.
    """
    model = copy_graph(body)
    if facts.max_seq_length > LONG_TOKENS:
        del model.graph.value_info[:]  # not all that this asks for is told there
        wiring = Wiring(model)
        block_attention(wiring)
        wiring.write()
    graph = model.graph
    if graph.output[0].name != OUTPUT:  # else the steps are in it already
        if not all(step.include_prompt for step in facts.steps if isinstance(step, Pooling)):
            take_marked_ids(model)
        append(model, facts.steps, dim=facts.dim)
    elif facts.unpooled_tokens:
        raise InputError("the graph pools prompts too, which the model leaves out: not supported")
    del graph.value_info[:]
    graph.name = "unitvec"
    model.producer_name = "unitvec-export"
    model.producer_version = ""  # a release alone does not change the file, nor its fingerprint
    try:
        with openable(model) as opened:
            onnx.checker.check_model(opened, full_check=True)
    except Exception as exc:  # ValidationError and InferenceError share no useful base
        raise ExportError(f"the exported graph is not valid: {first_line(exc)}") from exc
    return model


def _trace(reference: Reference, path: Path, *, opset: int, verbose: bool) -> None:
    """Writes the graph, and beside it the weights that its file has no room for."""
    transformer, longest = reference.transformer, reference.facts.max_seq_length
    with muted(verbose=verbose):
        try:
            if optimum_onnx.is_needed():
                optimum_onnx.trace(transformer, path, opset=opset)
            else:
                torchscript.trace(transformer, path, opset=opset, max_tokens=longest)
        except Exception as exc:  # torch and optimum raise what they like
            kind = transformer.config.model_type
            raise InputError(f"this {kind} model cannot be traced: {first_line(exc)}") from exc


def _rename_output(graph: onnx.GraphProto, new: str, *, rank: int) -> None:
    outputs = [value for value in graph.output if len(value.type.tensor_type.shape.dim) == rank]
    if not outputs:
        raise InputError("the model's graph has no token vectors: not supported")
    name = outputs[0].name
    for node in graph.node:
        _replace(node.output, name, new)
        _replace(node.input, name, new)
    kept = outputs[0]
    kept.name = new
    output = onnx.ValueInfoProto()
    output.CopyFrom(kept)
    del graph.output[:]
    graph.output.append(output)


def _replace(names: Any, old: str, new: str) -> None:
    for index, name in enumerate(names):
        if name == old:
            names[index] = new


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Removes nodes, weights and inputs that no output needs, such as the pooler's."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(read_by(node))
    _assign(graph.node, reversed(kept))
    _assign(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in needed])
    _assign(graph.input, [value for value in graph.input if value.name in needed])


def _assign(repeated: Any, items: Iterable[Any]) -> None:
    kept = list(items)
    del repeated[:]
    repeated.extend(kept)


def _feed_zero_token_types(graph: onnx.GraphProto) -> None:
    """One text has only tokens of type 0, so the graph can make the ids itself."""
    zeros = helper.make_tensor("value", TensorProto.INT64, [1], [0])
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["unitvec/ids_shape"], name="unitvec/ids_shape"),
        helper.make_node(
            "ConstantOfShape",
            ["unitvec/ids_shape"],
            ["token_type_ids"],
            name="unitvec/token_type_ids",
            value=zeros,
        ),
    ]
    _assign(graph.node, [*nodes, *graph.node])


def _declare_inputs(graph: onnx.GraphProto) -> None:
    """Exactly input_ids and attention_mask, (B, S) int64; pooling uses the mask in any case."""
    del graph.input[:]
    for name in ("input_ids", "attention_mask"):
        value = helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        graph.input.append(value)
