"""What a check of a server tells: its vectors of a few texts against those of their export."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unitvec_client.errors import ErrorFacts, VerificationError

_TINY_SQUARE = 1e-18
"""Squared length below which a vector is zero."""


@dataclass(frozen=True, slots=True)
class Verification:
    """A model whose vectors are those of its export.

    Attributes:
        model: Name of the model.
        texts: Number of texts compared.
        cosine_min: Lowest cosine between a vector of today and that of the export; less than the
            cosine where their lengths differ.
        min_cosine: Lowest one that holds at the model's precision.
        exact: Whether vectors had to be equal to the last bit.
        space: Fingerprint of their space.
        bits: Fingerprint of how they are computed.
        routes: One name of a prompt for each route that was compared, empty for the default one;
            none where the model has no routes.
    """

    model: str
    texts: int
    cosine_min: float
    min_cosine: float
    exact: bool
    space: str
    bits: str
    routes: tuple[str, ...] = ()

    def check(self, route: str = "") -> None:
        """Hold the lowest cosine against its bound.

        Args:
            route: Words for the route in the error.

        Raises:
            VerificationError: If it is lower, or no number.
        """
        if not self.cosine_min >= self.min_cosine:
            raise self.failure(
                f"a vector{route} has cosine {self.cosine_min:.6f} to that of the export, "
                f"{self.min_cosine} is needed"
            )

    def failure(self, reason: str) -> VerificationError:
        """Return the error that says why the vectors are wrong."""
        metadata = {"model": self.model, "space": self.space, "bits": self.bits}
        message = f"model {self.model} computes wrong vectors: {reason}"
        return VerificationError(message, ErrorFacts(reason="WRONG_VECTORS", metadata=metadata))


def closeness(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Return the lowest cosine of pairs of rows of like length; less where the lengths differ.

    Args:
        found: (n, D) float32, n > 0.
        expected: (n, D) float32.

    Returns:
        The least of 1 - |f - e|^2 / (2 |e|^2), which is the cosine where |f| = |e|; NaN where a
        value is.
    """
    ours, theirs = found.astype(np.float64), expected.astype(np.float64)
    squares = np.square(theirs).sum(axis=1).clip(min=_TINY_SQUARE)
    return float((1 - np.square(ours - theirs).sum(axis=1) / (2 * squares)).min())
