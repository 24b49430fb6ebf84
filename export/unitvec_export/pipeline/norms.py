"""Modules that scale a vector: LayerNorm, Normalize, and the cut to its first dimensions."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from unitvec_export.pipeline.nodes import Nodes

Floats = npt.NDArray[np.float32]

_MIN_NORM = 1e-12
"""Lower bound of a norm that is divided by, that of torch's normalize."""


@dataclasses.dataclass(frozen=True, eq=False)
class LayerNorm:
    """A LayerNorm module: gain and bias (D,), and what is added to the variance."""

    gain: Floats
    bias: Floats
    epsilon: float


@dataclasses.dataclass(frozen=True)
class Normalize:
    """A Normalize module: unit L2 norm."""


@dataclasses.dataclass(frozen=True)
class Cut:
    """`truncate_dim`: the first `dim` dimensions, as they are."""

    dim: int


def layer_norm(nodes: Nodes, vectors: str, norm: LayerNorm) -> str:
    """Adds the node of a LayerNorm: (B, D) float32 -> (B, D) float32."""
    inputs = [vectors, nodes.floats(norm.gain), nodes.floats(norm.bias)]
    return nodes.add("LayerNormalization", inputs, axis=-1, epsilon=norm.epsilon)


def normalize(nodes: Nodes, vectors: str) -> str:
    """Adds the nodes of a Normalize: x / max(||x||, 1e-12), (B, D) float32."""
    squares = nodes.add("Mul", [vectors, vectors])
    norm = nodes.add("Sqrt", [nodes.sum(squares, -1, keepdims=True)])
    return nodes.add("Div", [vectors, nodes.add("Max", [norm, nodes.floats(_MIN_NORM)])])


def cut(nodes: Nodes, vectors: str, dim: int) -> str:
    """Adds the node of a cut: (B, D) float32 -> (B, dim) float32."""
    bounds = [nodes.integers([0]), nodes.integers([dim]), nodes.integers([-1])]
    return nodes.add("Slice", [vectors, *bounds])
