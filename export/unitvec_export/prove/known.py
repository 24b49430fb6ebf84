"""Vectors that are known of some texts, and of no others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from unitvec_export.errors import InputError
from unitvec_export.prove.verification import Group


class KnownVectors:
    """What sentence-transformers once made of texts.

    Args:
        groups: The texts.
        vectors: (n, D) float32, of all groups one after the other.
        dim: D, as the model's files say.

    Raises:
        InputError: There are not as many vectors as texts, or they have another dimension.
    """

    def __init__(
        self, groups: Sequence[Group], vectors: npt.NDArray[np.float32], *, dim: int
    ) -> None:
        keys = [(group.prompt_name, text) for group in groups for text in group.texts]
        if vectors.shape != (len(keys), dim):
            raise InputError(
                f"there are {len(vectors)} vectors of {vectors.shape[-1]} dimensions, "
                f"and {len(keys)} texts for a model of {dim}"
            )
        self._vectors = dict(zip(keys, vectors, strict=True))

    def encode(
        self, texts: Sequence[str], *, prompt_name: str | None = None
    ) -> npt.NDArray[np.float32]:
        """The vectors (n, D) of texts that are known."""
        return np.stack([self._vectors[prompt_name, text] for text in texts])
