"""Texts whose vectors are known beforehand, and the judgement of answers by them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unitvec_client import AsyncClient

TOLERANCE = 1e-4
"""Largest difference of a value of a unit vector from the one known.

A text's vector does not depend on its batch mates, up to the order of float32 sums (1e-6 seen).
Vectors of two known texts differ by ten times as much at least, or `learn` refuses them.
"""
_TEXTS = 120


@dataclass(frozen=True)
class Known:
    """Texts and what a server that is left in peace makes of each of them alone.

    Attributes:
        texts: n texts, short and long.
        vectors: (n, D) float32, unit norm.
        tokens: (n,) tokens of each.
    """

    texts: tuple[str, ...]
    vectors: NDArray[np.float32]
    tokens: NDArray[np.uint32]

    def pick(self, indices: Sequence[int]) -> list[str]:
        """The texts at these places."""
        return [self.texts[index] for index in indices]

    def are_vectors(self, vectors: NDArray[np.float32], indices: Sequence[int]) -> bool:
        """Whether these are the vectors of the texts at these places."""
        wanted = self.vectors[list(indices)]
        return vectors.shape == wanted.shape and _near(vectors, wanted)

    def are_scores(
        self, scores: NDArray[np.float32], rows: Sequence[int], columns: Sequence[int]
    ) -> bool:
        """Whether these are the cosines of the texts at these places."""
        wanted = self.vectors[list(rows)] @ self.vectors[list(columns)].T
        return scores.shape == wanted.shape and _near(scores, wanted)


async def learn(target: str, texts: Sequence[str] | None = None) -> Known:
    """Asks a server for the vector of each text, one text at a time; without any, of the sample.

    Raises:
        ValueError: Two texts have vectors that could be taken for each other.
    """
    texts = tuple(texts or sample())
    async with AsyncClient(target) as client:
        alone = [await client.embed_result(text) for text in texts]
    vectors = np.concatenate([result.vectors for result in alone])
    for place, vector in enumerate(vectors[1:], 1):
        if np.abs(vectors[:place] - vector).max(axis=1).min() < 10 * TOLERANCE:
            raise ValueError(f"text {place} is too much like another to be told apart")
    return Known(texts, vectors, np.concatenate([result.tokens for result in alone]))


async def probe(target: str, known: Known, *, timeout_s: float = 120.0) -> bool:
    """Whether the server at this address turns a known text into its vector, within the time."""
    async with asyncio.timeout(timeout_s), AsyncClient(target) as client:
        return known.are_vectors(await client.embed([known.texts[0]]), [0])


def sample() -> tuple[str, ...]:
    """Short and long texts, no two alike."""
    from unitvec_export.prove.verification import load_sample

    usable = [text for text in dict.fromkeys(load_sample()) if len(text) > 20]
    return tuple(usable[:_TEXTS])


def stretches() -> tuple[str, ...]:
    """Some two thousand short texts, no two alike: stretches of 8 to 40 words of the sample."""
    from unitvec_export.prove.verification import load_sample

    words = " ".join(dict.fromkeys(load_sample())).split()
    starts = range(0, len(words) - 40, 6)
    return tuple(
        " ".join(words[start : start + 8 + 7 * number % 33]) for number, start in enumerate(starts)
    )


def _near(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> bool:
    return bool(np.abs(found - wanted).max(initial=0.0) <= TOLERANCE)
