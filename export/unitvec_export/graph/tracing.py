"""Model -> ONNX graph that takes ids and a mask and returns finished embeddings.

optimum's graph           input_ids, attention_mask[, token_type_ids] -> token vectors (B, S, H)
trim                      keeps the token vectors only; token_type_ids become zeros
simplify                  the same function in fewer, cheaper nodes
(quantization)            the body may change its precision here
finish                    attention in blocks, where contexts are long
                          + pooling (+ L2 normalization), always float32 -> embeddings (B, D)
"""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from unitvec_export.errors import ExportError, InputError, first_line
from unitvec_export.graph.long_context import LONG_TOKENS, block_attention
from unitvec_export.graph.simplify import simplify
from unitvec_export.graph.wiring import Wiring, read_by
from unitvec_export.noise import muted
from unitvec_export.prove.facts import Facts
from unitvec_export.prove.reference import Reference

DEFAULT_OPSET = 18
# 17 is the first with LayerNormalization as one node, 20 the last that torch's tracer writes.
OPSETS = range(17, 21)
OUTPUT = "embeddings"

# A protobuf message, and so an ONNX file with its weights inside, ends at 2 GiB.
_MAX_WEIGHT_BYTES = 2**31 - 2**24
_TOKENS = "token_embeddings"
_TASK = "feature-extraction"
_AXES = {0: "batch_size", 1: "sequence_length"}
# Lower bounds of the divisors, those of sentence-transformers' Pooling and torch's normalize.
_MIN_COUNT = 1e-9
_MIN_NORM = 1e-12


def export_body(reference: Reference, *, opset: int, verbose: bool = False) -> onnx.ModelProto:
    """Traces the transformer and simplifies the graph.

    Returns:
        A graph from input_ids and attention_mask (B, S) to token vectors (B, S, H) float32.

    Raises:
        InputError: As `trace_body`.
    """
    return simplify(trace_body(reference, opset=opset, verbose=verbose))


def trace_body(reference: Reference, *, opset: int, verbose: bool = False) -> onnx.ModelProto:
    """Traces the transformer with optimum.

    Returns:
        A graph from input_ids and attention_mask (B, S) to token vectors (B, S, H) float32.

    Raises:
        InputError: The model is over 2 GiB, or of an architecture that optimum cannot export.
    """
    _check_size(reference.transformer)
    with tempfile.TemporaryDirectory(prefix="unitvec-export-") as folder:
        _run_optimum(reference.transformer, Path(folder), opset=opset, verbose=verbose)
        model = onnx.load(str(Path(folder) / "model.onnx"))
    return trim(model)


def trim(model: onnx.ModelProto) -> onnx.ModelProto:
    """Reduces a traced graph to what leads from ids and mask to the token vectors.

    Raises:
        InputError: It has no token vectors, or needs an input that an artifact cannot give.
    """
    graph = model.graph
    _rename_output(graph)
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
    """Appends pooling and normalization to a body, and checks the whole.

    Returns:
        A graph from input_ids and attention_mask (B, S) int64 to embeddings (B, D) float32.

    Raises:
        ExportError: The result is not a valid ONNX model.
    """
    model = onnx.ModelProto()
    model.CopyFrom(body)
    if facts.max_seq_length > LONG_TOKENS:
        wiring = Wiring(model)
        block_attention(wiring)
        wiring.write()
    graph = model.graph
    nodes, constants = _tail(facts)
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    del graph.output[:]
    shape: list[int | str] = ["batch", facts.dim]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, shape))
    graph.name = "unitvec"
    model.producer_name = "unitvec-export"
    model.producer_version = importlib.metadata.version("unitvec")
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as exc:  # ValidationError and InferenceError share no useful base
        raise ExportError(f"the exported graph is not valid: {first_line(exc)}") from exc
    return model


def _check_size(transformer: Any) -> None:
    size_bytes = sum(weight.numel() * 4 for weight in transformer.parameters())
    if size_bytes > _MAX_WEIGHT_BYTES:
        raise InputError(
            f"the model has {size_bytes / 2**30:.1f} GiB of fp32 weights; "
            "models over 2 GiB are not supported"
        )


def _run_optimum(transformer: Any, folder: Path, *, opset: int, verbose: bool) -> None:
    with muted(verbose=verbose):
        from optimum.exporters.onnx import onnx_export_from_model

        try:
            onnx_export_from_model(
                transformer,
                folder,
                opset=opset,
                task=_TASK,
                monolith=True,
                custom_onnx_configs={"model": _onnx_config(transformer)},
                do_validation=False,  # ours compares whole vectors on real texts
                device="cpu",
            )
        except Exception as exc:  # optimum and torch raise what they like
            kind = transformer.config.model_type
            raise InputError(f"optimum cannot export this {kind} model: {first_line(exc)}") from exc


def _onnx_config(transformer: Any) -> Any:
    """How optimum traces a model: as it does by itself, but with inputs that any model takes."""
    from optimum.exporters.onnx.config import TextEncoderOnnxConfig, TextSeq2SeqOnnxConfig
    from optimum.exporters.tasks import TasksManager
    from optimum.utils import DummyTextInputGenerator, NormalizedTextConfig

    class ZeroTokenTypes(DummyTextInputGenerator):  # type: ignore[misc]
        """Example inputs for models that have one token type only, too."""

        def generate(self, input_name: str, **options: Any) -> Any:
            ids = super().generate(input_name, **options)
            return ids * 0 if input_name == "token_type_ids" else ids

    class Encoder(TextEncoderOnnxConfig):  # type: ignore[misc]
        """The encoder of a model that has, or once had, a decoder."""

        NORMALIZED_CONFIG_CLASS = NormalizedTextConfig
        inputs = dict.fromkeys(("input_ids", "attention_mask"), _AXES)
        outputs = dict.fromkeys(("last_hidden_state",), _AXES)

    make = TasksManager.get_exporter_config_constructor(
        "onnx", transformer, task=_TASK, library_name="transformers"
    )
    config = make(transformer.config)
    if isinstance(config, TextSeq2SeqOnnxConfig):
        config = Encoder(transformer.config, task=_TASK)
    config.DUMMY_INPUT_GENERATOR_CLASSES = tuple(
        ZeroTokenTypes if issubclass(ZeroTokenTypes, generator) else generator
        for generator in config.DUMMY_INPUT_GENERATOR_CLASSES
    )
    return config


def _rename_output(graph: onnx.GraphProto) -> None:
    outputs = [value for value in graph.output if len(value.type.tensor_type.shape.dim) == 3]
    if not outputs:
        raise InputError("the model's graph has no token vectors: not supported")
    name = outputs[0].name
    for node in graph.node:
        _replace(node.output, name, _TOKENS)
        _replace(node.input, name, _TOKENS)
    kept = outputs[0]
    kept.name = _TOKENS
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


def _tail(facts: Facts) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes and constants from token vectors (B, S, H) to embeddings (B, D)."""
    steps: list[Callable[[str, str], list[onnx.NodeProto]]] = [
        _mean if facts.pooling == "mean" else _cls
    ]
    steps += [_normalize] * facts.normalized
    steps += [_cut] * facts.is_cut
    nodes: list[onnx.NodeProto] = []
    values = [_TOKENS, *("unitvec/pooled", "unitvec/normalized")[: len(steps) - 1], OUTPUT]
    for step, source, output in zip(steps, values, values[1:], strict=False):
        nodes += step(source, output)
    constants = {
        "unitvec/zero": np.array(0, np.int64),
        "unitvec/sequence_axis": np.array([1], np.int64),
        "unitvec/last_axis": np.array([-1], np.int64),
        "unitvec/min_count": np.array(_MIN_COUNT, np.float32),
        "unitvec/min_norm": np.array(_MIN_NORM, np.float32),
        "unitvec/first_dimension": np.array([0], np.int64),
        "unitvec/dim": np.array([facts.dim], np.int64),
    }
    used = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(val, key) for key, val in constants.items() if key in used]
    return nodes, tensors


def _mean(tokens: str, output: str) -> list[onnx.NodeProto]:
    """sum(tokens * mask) / max(sum(mask), 1e-9), as sentence-transformers' Pooling."""
    return [
        _node("Cast", ["attention_mask"], "mask_2d", to=TensorProto.FLOAT),  # (B, S)
        _node("Unsqueeze", ["unitvec/mask_2d", "unitvec/last_axis"], "mask"),  # (B, S, 1)
        _node("Mul", [tokens, "unitvec/mask"], "masked"),  # (B, S, H)
        _node(
            "ReduceSum", ["unitvec/masked", "unitvec/sequence_axis"], "sum", keepdims=0
        ),  # (B, H)
        _node(
            "ReduceSum", ["unitvec/mask", "unitvec/sequence_axis"], "count", keepdims=0
        ),  # (B, 1)
        _node("Max", ["unitvec/count", "unitvec/min_count"], "divisor"),
        _node("Div", ["unitvec/sum", "unitvec/divisor"], output),  # (B, H)
    ]


def _cls(tokens: str, output: str) -> list[onnx.NodeProto]:
    """The first token's vector: rows are padded on the right."""
    return [_node("Gather", [tokens, "unitvec/zero"], output, axis=1)]  # (B, H)


def _normalize(pooled: str, output: str) -> list[onnx.NodeProto]:
    """Divides: x / max(||x||, 1e-12), as torch.nn.functional.normalize."""
    return [
        _node("Mul", [pooled, pooled], "squares"),
        _node("ReduceSum", ["unitvec/squares", "unitvec/last_axis"], "square_norm", keepdims=1),
        _node("Sqrt", ["unitvec/square_norm"], "norm"),  # (B, 1)
        _node("Max", ["unitvec/norm", "unitvec/min_norm"], "bounded_norm"),
        _node("Div", [pooled, "unitvec/bounded_norm"], output),  # (B, D)
    ]


def _cut(vectors: str, output: str) -> list[onnx.NodeProto]:
    """Keeps the first D dimensions, as they are: sentence-transformers' truncate_dim."""
    bounds = ["unitvec/first_dimension", "unitvec/dim", "unitvec/last_axis"]
    return [_node("Slice", [vectors, *bounds], output)]  # (B, D)


def _node(op: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    name = output if output == OUTPUT or output.startswith("unitvec/") else f"unitvec/{output}"
    return helper.make_node(op, inputs, [name], name=f"unitvec/{op}_{name}", **attributes)
