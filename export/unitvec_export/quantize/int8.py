"""fp32 body -> int8 body whose vectors do not depend on what a text is batched with.

Each product of smoothed activations with constant weights (see `quantization`) becomes

    Xq = round(X' / r) + 128                            uint8
    Wq = round(W' / c)                                  int8, c (N,) at export
    X @ W ~= r * c * (Xq - 128) @ Wq

where r is

    static      one number, measured at export: the fastest, as it and the bias become part of
                the product. For queries, keys and values: a LayerNorm before them bounds their
                range, and a softmax after them forgives; only if the products err by little
    per token   (T,) = max over k of |X'| / 127, taken at run time: for all else

Stock dynamic quantization takes one r over the whole padded batch instead, so that a text's
vector changes with its company; with either of these it cannot, and is closer as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from unitvec_export.graph.weights import copy_graph
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

# Exponents of smoothing, for the best lowest and mean cosines on all-MiniLM-L6-v2. One scale
# for all tokens wants flatter activations, even if that makes the weights less flat.
_STATIC_SMOOTHING = 0.8
_TOKEN_SMOOTHING = 0.65
_MAX_STATIC_ERROR = 5e-4
"""Energy of a static product's error, relative to the product's, at most. The inputs of
all-MiniLM-L6-v2 that come from a LayerNorm err by less than 2.5e-4, others by up to 1e-2."""

_LEVELS = 127
_ZERO_POINT = 128
_CONTRIB = "com.microsoft"


def to_int8(body: onnx.ModelProto, token_ids: Sequence[Sequence[int]]) -> onnx.ModelProto:
    """Quantizes all products with constant weights.

    Args:
        body: fp32 graph from ids and mask to token vectors; not changed.
        token_ids: Texts to measure activations on.
    """
    model = copy_graph(body)
    wiring = Wiring(model)
    inputs = find_products(wiring)
    if not inputs:
        return model
    measured = measure_activations(body, list(inputs), token_ids)
    _Rewriter(wiring).rewrite(
        {
            name: choose_recipe(wiring, name, measured[name], products)
            for name, products in inputs.items()
        },
        inputs,
    )
    wiring.write()
    if all(opset.domain != _CONTRIB for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_CONTRIB, 1))
    return model


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How an input is quantized.

    Attributes:
        smoothing: (K,).
        step: r if static, None if taken for each token.
    """

    smoothing: Floats
    step: float | None


def choose_recipe(
    wiring: Wiring, name: str, measured: Activations, products: Sequence[Product]
) -> Recipe:
    """Static where that is close enough, else per token.

    Several products of one input are queries, keys and values. The one product that widens a
    layer comes from a LayerNorm as well and errs no more, but in one text of 400 the few tokens
    that carry a model's largest activations came out wrong: cosine 0.991, per token 0.998.
    """
    weights = np.concatenate([product.weights for product in products], axis=1)  # (K, all N)
    maker = wiring.producer(name)
    if maker is not None and maker.op_type == "LayerNormalization" and len(products) > 1:
        factors = smoothing(measured.peaks, weights, _STATIC_SMOOTHING)
        step = max(float((measured.peaks / factors).max()) / _LEVELS, 1e-12)
        if _error(measured, weights, factors, step) <= _MAX_STATIC_ERROR:
            return Recipe(factors, step)
    return Recipe(smoothing(measured.peaks, weights, _TOKEN_SMOOTHING), None)


def _error(measured: Activations, weights: Floats, factors: Floats, step: float) -> float:
    """Energy of a static product's error, relative to the product's."""
    quantized, scales = quantize_weights(weights * factors[:, None])
    rows = np.clip(np.rint(measured.rows / factors / step), -_ZERO_POINT, _LEVELS) * step
    exact = measured.rows @ weights
    energy = max(float(np.square(exact).mean()), 1e-12)
    return float(np.square(rows @ (quantized * scales) - exact).mean()) / energy


class _Rewriter:
    """Replaces products in a graph by quantized ones."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._nodes: list[onnx.NodeProto] = []
        self._replaced: set[str] = set()  # outputs that have a new maker

    def rewrite(self, recipes: dict[str, Recipe], inputs: dict[str, list[Product]]) -> None:
        """Changes the nodes."""
        self._add_shared()
        products = {p.node.output[0]: p for group in inputs.values() for p in group}
        quantized: set[str] = set()
        for node in self._wiring.nodes:
            product = products.get(node.output[0])
            if product is None:
                if node.output[0] not in self._replaced:
                    self._nodes.append(node)
                continue
            name = node.input[0]
            recipe = recipes[name]
            if name not in quantized:
                quantized.add(name)
                self._quantize(name, recipe)
            self._multiply(product, recipe)
        self._wiring.nodes = self._nodes

    def _add_shared(self) -> None:
        self._constant("int8/level", 1 / _LEVELS, np.float32)
        self._constant("int8/min_scale", 1e-12, np.float32)
        self._constant("int8/one", 1, np.float32)
        self._constant("int8/zero_point", _ZERO_POINT, np.uint8)
        self._constant("int8/last_axis", [-1], np.int64)

    def _quantize(self, name: str, recipe: Recipe) -> None:
        """X (..., K) -> Xq of the same shape and r, (1,) or (T, 1)."""
        at = f"int8/{name}"
        self._constant(f"{at}/smoothing", 1 / recipe.smoothing, np.float32)
        if recipe.step is not None:
            self._constant(f"{at}/scale", recipe.step, np.float32)
            self._node("Mul", [name, f"{at}/smoothing"], f"{at}/smooth")
            operands = [f"{at}/smooth", f"{at}/scale", "int8/zero_point"]
            self._node("QuantizeLinear", operands, f"{at}/quantized")
            return
        self._constant(f"{at}/shape", [-1, len(recipe.smoothing)], np.int64)
        self._node("Reshape", [name, f"{at}/shape"], f"{at}/rows")  # (T, K)
        self._node("Mul", [f"{at}/rows", f"{at}/smoothing"], f"{at}/smooth")
        self._node("Abs", [f"{at}/smooth"], f"{at}/magnitudes")
        peak = [f"{at}/magnitudes", "int8/last_axis"]
        self._node("ReduceMax", peak, f"{at}/peaks", keepdims=1)  # (T, 1)
        self._node("Mul", [f"{at}/peaks", "int8/level"], f"{at}/steps")
        self._node("Max", [f"{at}/steps", "int8/min_scale"], f"{at}/scale")
        self._node("Reshape", [f"{at}/scale", "int8/last_axis"], f"{at}/scales")  # (T,)
        self._node("Shape", [f"{at}/scales"], f"{at}/tokens")
        self._node("Expand", ["int8/zero_point", f"{at}/tokens"], f"{at}/zero_points")
        quantize = [f"{at}/smooth", f"{at}/scales", f"{at}/zero_points"]
        self._node("QuantizeLinear", quantize, f"{at}/quantized", axis=0)

    def _multiply(self, product: Product, recipe: Recipe) -> None:
        """Xq, r -> r * c * (Xq - 128) @ Wq, with the bias if that can be part of it."""
        at, output = f"int8/{product.node.input[0]}", product.node.output[0]
        here = f"int8/{output}"
        weights, scales = quantize_weights(product.weights * recipe.smoothing[:, None])
        self._constant(f"{here}/weights", weights, np.int8)
        self._constant(f"{here}/scales", scales, np.float32)
        step = f"{at}/scale" if recipe.step is not None else "int8/one"
        operands = [f"{at}/quantized", f"{here}/weights", step, f"{here}/scales", "int8/zero_point"]
        if recipe.step is None:
            self._node("MatMulIntegerToFloat", operands, f"{here}/raw", domain=_CONTRIB)
            self._node("Mul", [f"{here}/raw", f"{at}/scale"], f"{here}/rows")  # (T, N)
            self._restore(product, f"{here}/rows")
            return
        added, bias = self._bias(output)
        operands += ["", bias] if bias else []
        self._replaced.add(added)
        self._node("MatMulIntegerToFloat", operands, added, domain=_CONTRIB)

    def _bias(self, output: str) -> tuple[str, str]:
        """The name of a product with its bias added and that of the bias; else itself and none."""
        add = self._wiring.only_consumer(output)
        if add is None or add.op_type != "Add":
            return output, ""
        for name in add.input:
            value = self._wiring.constant(name)
            if value is not None and value.ndim == 1:
                return add.output[0], name
        return output, ""

    def _restore(self, product: Product, rows: str) -> None:
        """Rows (T, N) in the shape of the product."""
        output = product.node.output[0]
        dims = self._wiring.dims(output) or ()
        if len(dims) == 2:
            self._node("Identity", [rows], output)
            return
        shape = f"int8/{output}/shape"
        self._constant(f"{shape}/width", [product.weights.shape[1]], np.int64)
        self._node("Shape", [product.node.input[0]], f"{shape}/input", end=-1)
        self._node("Concat", [f"{shape}/input", f"{shape}/width"], shape, axis=0)
        self._node("Reshape", [rows, shape], output)

    def _constant(self, name: str, value: Any, dtype: Any) -> None:
        self._wiring.add_constant(name, np.asarray(value, dtype))

    def _node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> None:
        name = f"int8/{op}_{output}"
        self._nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))
