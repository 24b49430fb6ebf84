"""How far a contender's vectors are from the reference's. Pure arithmetic on matrices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]

TOP_K = 10


class Cosines(NamedTuple):
    """Cosine of each vector to the reference's vector of the same text, over the texts."""

    mean: float
    p1: float
    min: float


def compare(vectors: Matrix, reference: Matrix) -> Cosines:
    """Compares (n, D) with (n, D), row by row.

    Raises:
        ValueError: The shapes differ, or a value is not finite.
    """
    if vectors.shape != reference.shape:
        raise ValueError(f"vectors are {vectors.shape}, the reference's {reference.shape}")
    if not np.isfinite(vectors).all():
        raise ValueError("vectors hold values that are not finite")
    cosines = np.sum(_unit(vectors) * _unit(reference), axis=1)  # (n,)
    return Cosines(float(cosines.mean()), float(np.percentile(cosines, 1)), float(cosines.min()))


def top_k_overlap(found: tuple[Matrix, Matrix], expected: tuple[Matrix, Matrix]) -> float:
    """Part of the reference's best `TOP_K` documents that are found, averaged over the queries.

    Args:
        found: Queries (q, D) and documents (d, D) of the contender.
        expected: The same of the reference.
    """
    best, best_expected = _top_k(*found), _top_k(*expected)
    shared = [len(set(a) & set(b)) / len(b) for a, b in zip(best, best_expected, strict=True)]
    return float(np.mean(shared))


def max_abs_diff(vectors: Matrix, others: Matrix) -> float:
    """Largest difference of any component of two (n, D) matrices."""
    return float(np.max(np.abs(vectors.astype(np.float64) - others)))


def equal_rows(vectors: Matrix, others: Matrix) -> int:
    """How many of the rows of two (n, D) matrices are equal to the last bit."""
    return int((vectors == others).all(axis=1).sum())


def _top_k(queries: Matrix, documents: Matrix) -> list[list[int]]:
    scores = _unit(queries) @ _unit(documents).T  # (q, d)
    ranked: list[list[int]] = np.argsort(-scores, axis=1, kind="stable")[:, :TOP_K].tolist()
    return ranked


def _unit(vectors: Matrix) -> npt.NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    scaled: npt.NDArray[np.float64] = wide / np.maximum(norms, np.finfo(np.float64).tiny)
    return scaled
