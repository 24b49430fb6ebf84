"""fp32 body -> static int8 body, for engines that compile quantized graphs, such as OpenVINO.

Each product of smoothed activations with constant weights (see `quantization`) becomes

    r, z    = from the lowest and highest X' of all texts  one of each, at export
    X @ W  ~= dequantize(quantize(X', r, z)) @ dequantize(Wq)

written with QuantizeLinear and DequantizeLinear, which any engine runs and which OpenVINO
makes products of uint8 and int8 of. Nothing is measured at run time, so that a vector cannot
depend on its batch; but one scale must do for all tokens, and it is less close than int8.

The first product that narrows, of layer 0's feed-forward, stays in float: its error passes
through all layers. That takes the lowest cosine of all-MiniLM-L6-v2 from 0.990 to 0.994.

The range is taken whole: cutting it where that makes the mean squared error least took the
lowest cosine of all-MiniLM-L6-v2 from 0.990 to 0.967: the few largest values matter most.
It need not be symmetric: products of what a GELU gave are almost all positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from unitvec_export.graph.wiring import Wiring
from unitvec_export.quantize.products import (
    Activations,
    Floats,
    Product,
    find_products,
    measure_activations,
    quantize_weights,
    smoothing,
)

# Exponents of smoothing, measured on all-MiniLM-L6-v2. Products that narrow come after a GELU,
# whose outliers are the larger.
_SMOOTHING = 0.6
_SMOOTHING_NARROWING = 0.7


def to_static_int8(body: onnx.ModelProto, token_ids: Sequence[Sequence[int]]) -> onnx.ModelProto:
    """Quantizes all products with constant weights but the first that narrows.

    Args:
        body: fp32 graph from ids and mask to token vectors; not changed.
        token_ids: Texts to measure activations on.
    """
    model = onnx.ModelProto()
    model.CopyFrom(body)
    wiring = Wiring(model)
    inputs = _without_first_narrowing(find_products(wiring))
    if not inputs:
        return model
    measured = measure_activations(body, list(inputs), token_ids)
    rewriter = _Rewriter(wiring)
    for name, products in inputs.items():
        rewriter.quantize(name, products, measured[name])
    rewriter.rewrite()
    wiring.write()
    return model


def _without_first_narrowing(inputs: dict[str, list[Product]]) -> dict[str, list[Product]]:
    first = next((name for name, products in inputs.items() if _narrows(products[0].weights)), None)
    return {name: products for name, products in inputs.items() if name != first}


def _narrows(weights: Floats) -> bool:
    rows, columns = weights.shape
    return bool(rows > columns)


class _Rewriter:
    """Collects the nodes that replace products, then puts them in their places."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._inputs: dict[str, list[onnx.NodeProto]] = {}  # by the output that needs them first
        self._products: dict[str, list[onnx.NodeProto]] = {}

    def quantize(self, name: str, products: Sequence[Product], measured: Activations) -> None:
        """Replaces all products of one input."""
        at = f"int8/{name}"
        together = np.concatenate([product.weights for product in products], axis=1)
        exponent = _SMOOTHING_NARROWING if _narrows(together) else _SMOOTHING
        factors = smoothing(measured.peaks, together, exponent)
        scale, zero_point = _affine(measured.low / factors, measured.high / factors)
        self._wiring.add_constant(f"{at}/smoothing", 1 / factors)
        affine = [
            self._wiring.add_constant(f"{at}/scale", scale),
            self._wiring.add_constant(f"{at}/zero_point", zero_point),
        ]
        self._inputs[products[0].node.output[0]] = [
            _node("Mul", [name, f"{at}/smoothing"], f"{at}/smooth"),
            _node("QuantizeLinear", [f"{at}/smooth", *affine], f"{at}/quantized"),
            _node("DequantizeLinear", [f"{at}/quantized", *affine], f"{at}/dequantized"),
        ]
        for product in products:
            self._multiply(product, factors, f"{at}/dequantized")

    def _multiply(self, product: Product, factors: Floats, operand: str) -> None:
        output = product.node.output[0]
        at = f"int8/{output}"
        weights, scales = quantize_weights(product.weights * factors[:, None])
        parts = [
            self._wiring.add_constant(f"{at}/weights", weights),
            self._wiring.add_constant(f"{at}/scales", scales),
            self._wiring.add_constant(f"{at}/zero_points", np.zeros(len(scales), np.int8)),
        ]
        self._products[output] = [
            _node("DequantizeLinear", parts, f"{at}/dequantized", axis=1),
            _node("MatMul", [operand, f"{at}/dequantized"], output),
        ]

    def rewrite(self) -> None:
        """Changes the nodes."""
        nodes: list[onnx.NodeProto] = []
        for node in self._wiring.nodes:
            output = node.output[0]
            nodes += [*self._inputs.get(output, ()), *self._products.get(output, (node,))]
        self._wiring.nodes = nodes


def _affine(low: Floats, high: Floats) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """One step and one zero point for all channels, such that 0 is met exactly."""
    lowest, highest = min(0.0, float(low.min())), max(0.0, float(high.max()))
    step = max((highest - lowest) / 255, 1e-8)
    return np.array(step, np.float32), np.array(round(-lowest / step), np.uint8)


def _node(op: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], name=f"int8/{op}_{output}", **attributes)
