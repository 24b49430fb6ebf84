"""What comes of embedding texts, whoever embeds them, and the facts of the model that did."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from unitvec_bulk.options import DtypeName
from unitvec_bulk.reading.rows import Problem
from unitvec_server.vectors.packing import Dtype, Floats, pack

_KINDS: Mapping[DtypeName, str] = {
    "float32": "<f4",
    "float16": "<f2",
    "int8": "i1",
    "binary": "u1",
}


@dataclasses.dataclass(frozen=True)
class Span:
    """A window: its start and end in its text, in code points, and its tokens."""

    start: int
    end: int
    tokens: int


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of n texts.

    Attributes:
        vectors: (r, D) float32: a row for each text that has not failed, or each of its windows.
        texts: Index of the text of each row, ascending.
        tokens: Number of tokens that were encoded for each row.
        truncated: Whether each row's text was cut.
        spans: The window of each row; empty where windows are not told apart.
        problems: Why texts failed, by index.
    """

    vectors: Floats
    texts: Sequence[int]
    tokens: Sequence[int]
    truncated: Sequence[bool]
    spans: Sequence[Span] = ()
    problems: Mapping[int, Problem] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class ModelFacts:
    """What is known of the model that embeds, for the metadata of what is written.

    Attributes:
        model: Source that it was exported from.
        revision: Revision of the source; empty if unknown.
        precision: Precision of its graph.
        dim: Dimension of the vectors that are written.
        space: Fingerprint of the space of its vectors; empty if unknown.
        bits: Fingerprint of how they are computed; empty if unknown.
        is_reproducible: Whether equal `bits` mean equal bytes.
    """

    model: str
    revision: str
    precision: str
    dim: int
    space: str = ""
    bits: str = ""
    is_reproducible: bool = False


class Embedder(Protocol):
    """Embeds texts. For one thread."""

    @property
    def facts(self) -> ModelFacts:
        """The model."""

    def embed(self, texts: Sequence[str]) -> Outcome:
        """Embeds texts: those that fail do so alone."""

    def close(self) -> None:
        """Gives back what it holds."""


def pack_matrix(vectors: Floats, dtype: DtypeName) -> tuple[npt.NDArray[Any], list[float]]:
    """Vectors as they are written: exactly the numbers that a server sends.

    Args:
        vectors: (r, D) float32.
        dtype: Type to write.

    Returns:
        (r, W), where W is D, or the number of bytes that D bits take; and r factors for int8.
    """
    packed = pack(vectors, Dtype(dtype))
    width = packed_width(vectors.shape[1], dtype)
    matrix = np.frombuffer(packed.data, _KINDS[dtype]).reshape(len(vectors), width)
    return matrix, packed.scales


def packed_width(dim: int, dtype: DtypeName) -> int:
    """Numbers in a row of D dimensions."""
    return (dim + 7) // 8 if dtype == "binary" else dim
