"""What int8 recipes share: which products to quantize, what they meet, and smoothing.

A product is X (T, K) @ W (K, N) of activations with constant weights. Smoothing is that of
SmoothQuant (Xiao et al., ICML 2023): with

    s (K,) = max|X_k| ** a / max|W_k| ** (1 - a)        measured at export
    X' = X / s, W' = s * W                              the same product, X' flatter

outliers of a few channels of X no longer take the resolution of all others.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from unitvec_export.graph.weights import copy_graph, openable
from unitvec_export.graph.wiring import Wiring

Floats = npt.NDArray[np.float32]

# Products of smaller weights gain nothing and lose precision.
_MIN_WEIGHTS = 1024
_SAMPLE_TOKENS = 1024
"""Token vectors kept of each input, to compare recipes on."""
_TINY = 1e-8
_LEVELS = 127
_CLIPPING = (1.0, 0.97, 0.94, 0.91, 0.88, 0.85)


@dataclasses.dataclass(frozen=True)
class Product:
    """One MatMul with constant weights.

    Attributes:
        node: The node.
        weights: (K, N).
    """

    node: onnx.NodeProto
    weights: Floats


@dataclasses.dataclass(frozen=True)
class Activations:
    """What an input was on the calibration texts.

    Attributes:
        peaks: Largest magnitude of each channel, (K,).
        rows: Some of its token vectors, (n, K).
    """

    peaks: Floats
    rows: Floats


def find_products(wiring: Wiring) -> dict[str, list[Product]]:
    """Products worth quantizing, by the name of their input, in the order of the graph."""
    products: dict[str, list[Product]] = {}
    for node in wiring.nodes:
        if node.op_type == "MatMul" and wiring.constant(node.input[0]) is None:
            weights = wiring.constant(node.input[1])
            if weights is not None and weights.ndim == 2 and weights.size >= _MIN_WEIGHTS:
                products.setdefault(node.input[0], []).append(Product(node, weights))
    return products


def measure_activations(
    body: onnx.ModelProto, names: Sequence[str], token_ids: Sequence[Sequence[int]]
) -> Mapping[str, Activations]:
    """Runs texts, each alone, and keeps what the named values were.

    Args:
        body: fp32 graph from ids and mask (B, S).
        names: Values (..., K) of it.
        token_ids: The texts.
    """
    session = _open_session(body, names)
    kept = -(-_SAMPLE_TOKENS // len(token_ids))  # of each text, so that all have a say

    def measure(ids: Sequence[int]) -> list[Activations]:
        row = np.array([ids], np.int64)  # (1, S): no padding to be measured
        feed = {"input_ids": row, "attention_mask": np.ones_like(row)}
        return [_sample(value, kept) for value in session.run(None, feed)]

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(measure, token_ids))
    return {name: _join(parts) for name, *parts in zip(names, *found, strict=True)}


def _open_session(body: onnx.ModelProto, names: Sequence[str]) -> Any:
    """A session that returns the named values. A run has one thread: texts are side by side."""
    import onnxruntime as ort

    model = copy_graph(body)
    del model.graph.output[:], model.graph.value_info[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    with openable(model) as opened:
        return ort.InferenceSession(opened, options)


def _sample(value: Floats, count: int) -> Activations:
    """Activations (..., K) of one text, of which up to so many token vectors are kept."""
    tokens = value.reshape(-1, value.shape[-1])  # (S, K)
    step = -(-len(tokens) // count)
    return Activations(np.abs(tokens).max(axis=0), tokens[::step].copy())


def _join(parts: Sequence[Activations]) -> Activations:
    return Activations(
        np.max([part.peaks for part in parts], axis=0),
        np.concatenate([part.rows for part in parts]),
    )


def smoothing(peaks: Floats, weights: Floats, exponent: float) -> Floats:
    """S for an input with these peaks (K,) and all the weights (K, N) that it meets.

    Returns:
        (K,) float32, positive.
    """
    rows = np.abs(weights).max(axis=1)  # (K,)
    # A channel that was never active, or has no weight, is left alone.
    usable = (peaks > _TINY) & (rows > _TINY)
    x, w = np.where(usable, peaks, 1), np.where(usable, rows, 1)
    factors: Floats = (x**exponent / w ** (1 - exponent)).astype(np.float32)
    return factors


def quantize_weights(weights: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """Rounds weights (K, N) to 255 levels, each column with the scale that errs least.

    Returns:
        (K, N) int8 and (N,) float32.
    """
    peaks = np.maximum(np.abs(weights).max(axis=0), _TINY)  # (N,)
    best, least = peaks, np.full(len(peaks), np.inf)
    # Cutting a column's few largest weights can give all others more resolution than it costs.
    for share in _CLIPPING:
        scales = peaks * share / _LEVELS
        error = np.square(_round(weights, scales) * scales - weights).sum(axis=0)
        best, least = np.where(error < least, scales, best), np.minimum(error, least)
    scales = best.astype(np.float32)
    return _round(weights, scales).astype(np.int8), scales


def _round(weights: Floats, scales: Floats) -> Floats:
    rounded: Floats = np.clip(np.rint(weights / scales), -_LEVELS, _LEVELS)
    return rounded
