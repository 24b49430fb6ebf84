"""Dense: a product with constant weights, a bias and an activation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from unitvec_export.pipeline.nodes import Nodes

Floats = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, eq=False)
class Dense:
    """A Dense module.

    Attributes:
        weights: (K, N).
        bias: (N,), or None.
        activation: Name of a class of `torch.nn`, one of `ACTIVATIONS`.
        on_tokens: Whether it changes token vectors, before they are pooled.
    """

    weights: Floats
    bias: Floats | None
    activation: str
    on_tokens: bool = False


def project(nodes: Nodes, vectors: str, dense: Dense) -> str:
    """Adds the nodes of a Dense: (..., K) float32 -> (..., N) float32."""
    product = nodes.add("MatMul", [vectors, nodes.floats(dense.weights)])
    if dense.bias is not None:
        product = nodes.add("Add", [product, nodes.floats(dense.bias)])
    return _ACTIVATIONS[dense.activation](nodes, product)


def _operator(name: str, **attributes: float) -> Callable[[Nodes, str], str]:
    """An activation that is one operator of ONNX."""
    return lambda nodes, x: nodes.add(name, [x], **attributes)


def _silu(nodes: Nodes, x: str) -> str:
    return nodes.add("Mul", [x, nodes.add("Sigmoid", [x])])


def _gelu(nodes: Nodes, x: str) -> str:
    """X / 2 * (1 + erf(x / sqrt(2)))."""
    erf = nodes.add("Erf", [nodes.add("Div", [x, nodes.floats(math.sqrt(2))])])
    half = nodes.add("Mul", [x, nodes.floats(0.5)])
    return nodes.add("Mul", [half, nodes.add("Add", [erf, nodes.floats(1.0)])])


def _relu6(nodes: Nodes, x: str) -> str:
    return nodes.add("Clip", [x, nodes.floats(0.0), nodes.floats(6.0)])


def _mish(nodes: Nodes, x: str) -> str:
    """X * tanh(softplus(x))."""
    return nodes.add("Mul", [x, nodes.add("Tanh", [nodes.add("Softplus", [x])])])


_ACTIVATIONS: Mapping[str, Callable[[Nodes, str], str]] = {
    "Identity": lambda _, x: x,
    "Tanh": _operator("Tanh"),
    "ReLU": _operator("Relu"),
    "GELU": _gelu,
    "SiLU": _silu,
    "Sigmoid": _operator("Sigmoid"),
    "LeakyReLU": _operator("LeakyRelu", alpha=0.01),
    "ELU": _operator("Elu", alpha=1.0),
    "SELU": _operator("Selu"),
    "Softplus": _operator("Softplus"),
    "Softsign": _operator("Softsign"),
    "ReLU6": _relu6,
    "Mish": _mish,
}
ACTIVATIONS = tuple(_ACTIVATIONS)
