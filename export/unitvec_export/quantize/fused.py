"""The weights of an encoder -> a graph of one node, the operator of unitvec-kernels.

The graph holds weights as the operator reads them: nothing is left to do when it is loaded.
`kernels/README.md` draws the layouts. Numbers are those of a product X' @ W', smoothed as in
`products`:

    int8      W' = c * Wq, |Wq| <= 127, c for each column
    int16     W' = c * Wq, where c is such that the magnitudes of a column add up to less than
              2^31 / 8191, so that no sum with 14-bit activations can leave 32 bits
    bf16      W itself, rounded to bfloat16: neither smoothed nor scaled
    fp32      as they are

The product that narrows a layer is cut into groups of at most 384 rows, each with scales of its
own; the operator also rounds the activations of each group by themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from unitvec_export.graph.architecture import Dense, Encoder, Floats, Norm, UnsupportedEncoder
from unitvec_export.graph.weights import WeightStore, make_tensors
from unitvec_export.pipeline.norms import Normalize
from unitvec_export.pipeline.pooling import Pooling
from unitvec_export.pipeline.tail import append
from unitvec_export.prove.facts import Facts
from unitvec_export.quantize.products import quantize_weights, smoothing

FusedPrecision = Literal["fp32", "int8", "int16", "bf16"]

MAX_TOKENS = 512
"""Of one text, in the operator."""
_LAYOUT = 1
_OPSET, _IR_VERSION = 18, 9  # as old as the oldest onnxruntime that the operator runs in
_PANEL_COLUMNS = 32
_MULTIPLE = 64
_MAX_GROUP = 384
_INT16_LEVELS = 8191
_INT16_MOST = 32767
_SMOOTHING = 0.65
"""Exponent of smoothing. Lowest and mean cosine of int8 on texts that it was not calibrated on: of
all-MiniLM-L6-v2 (1,400 texts) 0.9970 and 0.99919 with 0.5, 0.9973 and 0.99936 with 0.65, 0.9974 and
0.99921 with 0.85; of all-mpnet-base-v2 (25 texts) 0.9950 and 0.9985 with 0.5, 0.9982 and 0.9989
with 0.65, 0.9966 and 0.9983 with 0.8."""
_LEAST_BF16 = np.float32(2.0**-50)
_PRECISIONS = {"fp32": 0, "int8": 1, "int16": 2, "bf16": 3}
INTEGERS = frozenset({"int8", "int16"})
"""Precisions that are scaled by what a product meets."""


@dataclasses.dataclass(frozen=True)
class Packed:
    """A product as the operator reads it.

    Attributes:
        floats: Vectors, in their order.
        weights: Panels, as bytes.
    """

    floats: tuple[Floats, ...]
    weights: bytes


def check_supported(encoder: Encoder, facts: Facts) -> None:
    """Makes sure that the operator can run this encoder.

    Raises:
        UnsupportedEncoder: It cannot.
    """
    hidden = encoder.words.shape[1]
    ffn = encoder.layers[0].up.weights.shape[1] if encoder.layers else 0
    if hidden % _MULTIPLE or ffn % _MULTIPLE or not ffn:
        raise UnsupportedEncoder(f"its sizes {hidden} and {ffn} are no multiples of {_MULTIPLE}")
    if hidden // encoder.heads not in (32, 64):
        raise UnsupportedEncoder(f"its heads are of {hidden // encoder.heads}, not 32 or 64")
    if facts.unpooled_tokens:
        raise UnsupportedEncoder("it leaves prompts out of pooling")
    if facts.steps[0] not in (Pooling(("mean",)), Pooling(("cls",))):
        raise UnsupportedEncoder(
            f"its token vectors do not become one by mean or cls pooling, but {facts.pooling}"
        )
    if facts.max_seq_length > MAX_TOKENS:
        raise UnsupportedEncoder(f"its texts have more than {MAX_TOKENS} tokens")
    if facts.max_seq_length > len(encoder.positions) - encoder.pad_position - 1:
        raise UnsupportedEncoder("it has fewer positions than tokens")


def to_fused(
    encoder: Encoder,
    facts: Facts,
    precision: FusedPrecision,
    peaks: Sequence[Floats] = (),
    *,
    store: WeightStore | None = None,
) -> onnx.ModelProto:
    """Writes the graph.

    Args:
        encoder: A supported encoder.
        facts: Of its model. What follows its pooling and normalization is nodes of ONNX's own.
        precision: Of its products.
        peaks: Largest magnitudes (K,) of what each product met, in their order; for integers only.
        store: Where weights of more than 2 GiB go; None for a graph of less.
    """
    group = group_size(encoder.layers[0].up.weights.shape[1])
    floats: list[Floats] = [encoder.positions, *_norm(encoder.norm)]
    weights: list[bytes] = []
    floats += [] if encoder.relative is None else [encoder.relative]
    met = iter(peaks)
    for layer in encoder.layers:
        for product in layer.products:
            rows = group if product is layer.down else len(product.weights)
            packed = pack(product, precision, rows=rows, peaks=next(met, None))
            floats += packed.floats
            weights.append(packed.weights)
        floats += [*_norm(layer.attention_norm), *_norm(layer.output_norm)]
    constants = {
        "words": encoder.words,
        "floats": np.concatenate([vector.ravel() for vector in floats]),
        "weights": np.frombuffer(b"".join(weights), np.int8),
    }
    attributes = _attributes(encoder, facts, group)
    model = fused_model(precision, attributes, constants, store=store)
    append(model, facts.steps[2 if _normalizes(facts) else 1 :], dim=facts.dim)
    return model


def _normalizes(facts: Facts) -> bool:
    """Whether the operator itself normalizes: the step after pooling, if that is one."""
    return facts.steps[1:2] == (Normalize(),)


def pack(product: Dense, precision: FusedPrecision, *, rows: int, peaks: Floats | None) -> Packed:
    """Rounds one product and lays it out.

    Args:
        product: K rows, N columns.
        precision: What its weights become.
        rows: Rows of a group.
        peaks: Largest magnitudes (K,) of what it met; for integers only.
    """
    if precision == "bf16":
        return Packed((product.bias,), to_panels(to_bf16(product.weights), rows=rows))
    if precision == "fp32" or peaks is None:
        return Packed((product.bias,), to_panels(product.weights, rows=rows))
    factors = smoothing(peaks, product.weights, _SMOOTHING)
    smooth = product.weights * factors[:, None]
    rounding = quantize_weights if precision == "int8" else to_int16
    groups = [rounding(smooth[at : at + rows]) for at in range(0, len(smooth), rows)]
    whole: npt.NDArray[Any] = np.concatenate([numbers for numbers, _ in groups])
    scales: Floats = np.concatenate([scale for _, scale in groups])
    inverse: Floats = (1 / factors).astype(np.float32)
    return Packed((scales, inverse, product.bias), to_panels(whole, rows=rows))


def to_int16(weights: Floats) -> tuple[npt.NDArray[np.int16], Floats]:
    """Rounds weights (K, N) to as many bits as exact 32-bit sums allow.

    Returns:
        (K, N) int16, and (N,) float32: what one step is worth.
    """
    magnitudes = np.abs(weights).astype(np.float64)
    # Rounding may add 1/2 for each row.
    room = (2**31 - 1) / _INT16_LEVELS - len(weights)
    scales = np.maximum(magnitudes.sum(axis=0) / room, magnitudes.max(axis=0) / _INT16_MOST)
    rounded = np.maximum(scales, np.finfo(np.float32).tiny).astype(np.float32)
    return np.rint(weights / rounded).astype(np.int16), rounded


def to_bf16(weights: Floats) -> npt.NDArray[np.uint16]:
    """Rounds to the nearest bfloat16, halves to the even one; less than 2^-50 becomes 0.

    Returns:
        The upper 16 bits of each float32.
    """
    bits = weights.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.abs(weights) < _LEAST_BF16, 0, rounded).astype(np.uint16)


def to_panels(weights: npt.NDArray[Any], *, rows: int) -> bytes:
    """Lays out weights (K, N) as [group of rows][panel][dword of rows][32 columns].

    A dword holds 4 int8, 2 int16 or bf16, or 1 float32 of one column.
    """
    per_dword = 4 // weights.itemsize
    columns = weights.shape[1]
    shape = (-1, rows // per_dword, per_dword, columns // _PANEL_COLUMNS, _PANEL_COLUMNS)
    panels = weights.reshape(shape).transpose(0, 3, 1, 4, 2)
    return panels.tobytes()


def group_size(ffn: int) -> int:
    """Rows of a group: the largest divisor of `ffn` up to 384 that is a multiple of 64."""
    sizes = range(_MULTIPLE, min(ffn, _MAX_GROUP) + 1, _MULTIPLE)
    return max(size for size in sizes if ffn % size == 0)


def _norm(norm: Norm) -> tuple[Floats, Floats]:
    return norm.gain, norm.bias


def _attributes(encoder: Encoder, facts: Facts, group: int) -> dict[str, int | float]:
    return {
        "hidden": encoder.words.shape[1],
        "heads": encoder.heads,
        "ffn": encoder.layers[0].up.weights.shape[1],
        "group": group,
        "layers": len(encoder.layers),
        "positions": len(encoder.positions),
        "pad_position": encoder.pad_position,
        "relative": int(encoder.relative is not None),
        "gelu": int(encoder.gelu == "tanh"),
        "pooling": int(facts.pooling == "cls"),
        "normalize": int(_normalizes(facts)),
        "epsilon": encoder.epsilon,
    }


def fused_model(
    precision: FusedPrecision,
    attributes: Mapping[str, int | float],
    constants: Mapping[str, npt.NDArray[Any]],
    *,
    store: WeightStore | None = None,
) -> onnx.ModelProto:
    """The graph around the operator.

    Args:
        precision: Of its products.
        attributes: Of the operator, but for its precision and layout.
        constants: `words`, `floats` and `weights`, in this order.
        store: Where weights of more than 2 GiB go; None for a graph of less.
    """
    value = helper.make_tensor_value_info
    node = helper.make_node(
        "Encoder",
        ["input_ids", "starts", *constants],
        ["embeddings"],
        name="encoder",
        domain="unitvec",
        layout=_LAYOUT,
        precision=_PRECISIONS[precision],
        **attributes,
    )
    graph = helper.make_graph(
        [node],
        "unitvec",
        [
            value("input_ids", TensorProto.INT64, ["tokens"]),
            value("starts", TensorProto.INT64, ["texts_and_end"]),
        ],
        [value("embeddings", TensorProto.FLOAT, ["texts", attributes["hidden"]])],
        make_tensors(constants, store),
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("unitvec", 1)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="unitvec-export")
    model.ir_version = _IR_VERSION
    return model
