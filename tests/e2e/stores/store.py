"""What a store of vectors is to the tests, and what is observed of it.

Needs numpy alone beside the store: stores that do not install beside ours run in an environment of
their own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Found = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Ids and scores of a query, in the order in which the store gives them."""


class Store:
    """One kind of index, or of column, with vectors of one dtype of ours.

    The lines of `create`, `fill` and `search` are the recipe that the page shows, with those of
    `value` where there is one.

    Args:
        session: What `session` yields.
        name: Of the collection, the table or the file.
        dim: Values of a vector, before they are packed.
    """

    title: ClassVar[str]
    package: ClassVar[str]
    dtype: ClassVar[str] = "float32"
    is_exact: ClassVar[bool] = True
    handle: ClassVar[str] = ""
    """What the page calls a session."""
    has_recipe: ClassVar[bool] = True
    """Whether the page shows its lines; those of others differ by a name alone."""

    def __init__(self, session: Any, name: str, dim: int) -> None:
        self.session, self.name, self.dim = session, name, dim

    @classmethod
    @contextlib.contextmanager
    def opened(cls, folder: Path) -> Iterator[Any]:
        """What collections of one run share: a connection, a folder, a server."""
        yield folder

    def create(self) -> None:
        """Makes a collection that compares vectors as they are meant."""
        raise NotImplementedError

    def create_default(self) -> None:
        """The same without a word of the metric; as it is here where one must be named."""
        raise LookupError

    def fill(self, vectors: NDArray[Any]) -> None:
        """Adds vectors, whose ids are 0, 1 and so on."""
        raise NotImplementedError

    def search(self, query: NDArray[Any], top_k: int) -> tuple[Sequence[int], Sequence[float]]:
        """Ids and scores."""
        raise NotImplementedError

    def read(self, count: int) -> NDArray[Any]:
        """The first vectors, as they come back."""
        raise NotImplementedError

    def own_bits(self, vectors: NDArray[np.float32]) -> NDArray[np.uint8] | None:
        """Bits that the store itself makes of float32, packed; None if it makes none."""
        return None

    def version(self) -> str:
        """Of the store."""
        return version(self.package)

    def limits(self) -> str:
        """Limits that the store keeps, each tried here."""
        return ""

    def find(self, query: NDArray[Any], top_k: int) -> Found:
        """`search` as arrays."""
        ids, scores = self.search(query, top_k)
        return np.asarray(ids, np.int64), np.asarray(scores, np.float64)


@dataclass(frozen=True)
class Sample:
    """Vectors of a live server, by dtype.

    Attributes:
        rows: Of documents: float32, float16, int8 (without their scales), binary; and scales.
        queries: Of other texts.
    """

    rows: Mapping[str, NDArray[Any]]
    queries: Mapping[str, NDArray[Any]]

    @classmethod
    def load(cls, folder: Path) -> Sample:
        """What `save` wrote."""
        parts = [np.load(folder / f"{name}.npz") for name in ("rows", "queries")]
        return cls(*(dict(part) for part in parts))

    def save(self, folder: Path) -> None:
        """Writes two files."""
        np.savez(folder / "rows.npz", **self.rows)
        np.savez(folder / "queries.npz", **self.queries)

    @property
    def dim(self) -> int:
        """Values of a vector."""
        return int(self.rows["float32"].shape[1])


def decode(vectors: NDArray[Any], dtype: str) -> NDArray[np.float64]:
    """Vectors as numbers: packed signs are -1 and 1."""
    if dtype == "binary":
        return np.unpackbits(vectors, axis=-1).astype(np.float64) * 2 - 1
    return vectors.astype(np.float64)


def _dot(query: Any, rows: Any) -> Any:
    return rows @ query


def _cosine(query: Any, rows: Any) -> Any:
    return rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)


def _squared(query: Any, rows: Any) -> Any:
    return ((rows - query) ** 2).sum(axis=1)


def _differing(query: Any, rows: Any) -> Any:
    return (np.sign(rows) != np.sign(query)).sum(axis=1)


Formula = Callable[[Any, Any], Any]
FORMULAS: Mapping[str, tuple[bool, Formula]] = {
    "cosine": (True, _cosine),
    "dot product": (True, _dot),
    "1 - cosine": (False, lambda q, r: 1 - _cosine(q, r)),
    "1 - dot product": (False, lambda q, r: 1 - _dot(q, r)),
    "negative dot product": (False, lambda q, r: -_dot(q, r)),
    "bits that differ": (False, _differing),
    "squared distance": (False, _squared),
    "distance": (False, lambda q, r: np.sqrt(_squared(q, r))),
    "square root of 2 - 2 cosine": (
        False,
        lambda q, r: np.sqrt(np.maximum(0, 2 - 2 * _cosine(q, r))),
    ),
}
"""What a score may be, and whether more of it is closer."""


def name_score(query: Any, rows: Any, found: Found, tolerance: float) -> str:
    """What the scores of a query are; it must tell lengths apart, so rows must differ in theirs.

    Raises:
        AssertionError: If they are none of `FORMULAS`, or not in order.
    """
    ids, scores = found
    if np.isnan(scores).all():
        return "NaN"
    for name, (more_is_closer, formula) in FORMULAS.items():
        expected = formula(query, rows[ids])
        if np.allclose(scores, expected, rtol=tolerance, atol=tolerance):
            steps = np.diff(scores) * (1 if more_is_closer else -1)
            assert (steps <= tolerance).all(), (name, scores)
            return f"{name}; {'more' if more_is_closer else 'less'} is closer"
    shown = {name: formula(query, rows[ids])[:3] for name, (_, formula) in FORMULAS.items()}
    raise AssertionError(f"scores {scores[:3]} are none of {shown}")
