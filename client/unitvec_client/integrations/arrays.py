"""What sentence-transformers does with embeddings, in numpy; tensors where tensors are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitvec_client.integrations.extras import load_torch

Array = NDArray[Any]
Measure = Callable[[Array, Array], NDArray[np.float32]]

EIGHT_BITS: dict[str, type[np.integer[Any]]] = {"int8": np.int8, "uint8": np.uint8}
"""Precisions whose codes need a range of values for each dimension."""

_LEVELS = 255
# torch.nn.functional.normalize divides by no less than this.
_MIN_NORM = 1e-12


def quantize(embeddings: Array, kind: type[np.integer[Any]]) -> Array:
    """Return embeddings in 8 bits, each dimension on a scale of its own over all of them.

    Args:
        embeddings: (n, D) floats. One alone spans no range, and would be the lowest code in each
            dimension, whatever it is: the caller refuses it.
        kind: One of `EIGHT_BITS`.
    """
    if not len(embeddings):
        return embeddings.astype(kind)
    low, high = embeddings.min(axis=0), embeddings.max(axis=0)
    steps = (high - low) / _LEVELS
    steps = np.where(steps == 0, 1, steps)
    levels: Array = np.clip(np.floor((embeddings - low) / steps), 0, _LEVELS)
    return (levels + np.iinfo(kind).min).astype(kind)


def shift_bits(packed: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Return packed sign bits as int8: each byte less 128."""
    return (packed.astype(np.int16) - 128).astype(np.int8)


def _unit(vectors: Array) -> Array:
    norms: Array = np.linalg.norm(vectors, axis=-1, keepdims=True)
    units: Array = vectors / np.maximum(norms, _MIN_NORM)
    return units


def _dot(a: Array, b: Array) -> Array:
    return a @ b.T


def _cosine(a: Array, b: Array) -> Array:
    return _unit(a) @ _unit(b).T


def _euclidean(a: Array, b: Array) -> Array:
    # As differences, row by row: exact for vectors that are close, and never (n, m, D).
    return _stack([-np.linalg.norm(row - b, axis=-1) for row in a], b)


def _manhattan(a: Array, b: Array) -> Array:
    return _stack([-np.abs(row - b).sum(axis=-1) for row in a], b)


def _stack(rows: list[Array], b: Array) -> Array:
    return np.array(rows, np.float32).reshape(len(rows), len(b))


SIMILARITIES: dict[str, Measure] = {
    "cosine": _cosine,
    "dot": _dot,
    "euclidean": _euclidean,
    "manhattan": _manhattan,
}
"""Every row of (n, D) with every row of (m, D): (n, m). Distances are negative: more is closer."""

PAIRWISE: dict[str, Measure] = {
    "cosine": lambda a, b: (_unit(a) * _unit(b)).sum(axis=-1),
    "dot": lambda a, b: (a * b).sum(axis=-1),
    "euclidean": lambda a, b: -np.linalg.norm(a - b, axis=-1),
    "manhattan": lambda a, b: -np.abs(a - b).sum(axis=-1),
}
"""Row by row of two (n, D): (n,)."""


def compare(measure: Measure, a: Any, b: Any) -> Any:
    """Return float32 scores, as a tensor where one side is one, else as an array."""
    tensors = [side for side in (a, b) if hasattr(side, "detach")]
    scores = measure(_to_array(a), _to_array(b)).astype(np.float32, copy=False)
    if not tensors:
        return scores
    return load_torch().from_numpy(scores).to(tensors[0].device)


def _to_array(side: Any) -> NDArray[np.float32]:
    values = side.detach().cpu().numpy() if hasattr(side, "detach") else side
    array: NDArray[np.float32] = np.asarray(values, np.float32)
    return array
