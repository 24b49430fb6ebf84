"""Cosines that are near the exact ones: most rows need no more to be passed over.

NumKong, where it is installed, multiplies float16 and int8 as they are stored; numpy makes float32
of them first. The query must then be of the same type. What it loses by that is known: a cosine is
off by at most the length of what the query of unit length is off by (Cauchy and Schwarz). A row
whose estimate is farther than that below the worst of the best so far cannot be among the best. All
others are scored exactly, so that hits and scores are those of a search without estimates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_Query = tuple[NDArray[Any], float]
"""A query (1, D) of another type, and how far cosines with it are off."""

_ROUNDING = 1e-3
"""More than rounding adds up to over 4,096 dimensions in float32, reciprocal roots included."""


class Estimator:
    """Estimates the cosines of a query.

    Args:
        query: Vector (D,) of unit length, or of zeros.
    """

    def __init__(self, query: Floats) -> None:
        self._query = query

    def hopeful(self, values: NDArray[Any], bound: float) -> NDArray[np.int64] | None:
        """Return which rows may have a cosine of at least a bound; None where that is not known.

        Args:
            values: (n, D) as stored.
            bound: A cosine; minus infinity for any.
        """
        cosines = _find_cosines()
        if cosines is None or bound == -math.inf or values.dtype not in (np.float16, np.int8):
            return None
        query, error = self._float16 if values.dtype == np.float16 else self._int8
        # NaN is kept: of rows of zeros, and of those that are not finite.
        return np.flatnonzero(~(cosines(query, values) < bound - error))

    @cached_property
    def _float16(self) -> _Query:
        return self._lose(self._query.astype(np.float16))

    @cached_property
    def _int8(self) -> _Query:
        scale = float(np.abs(self._query).max()) or 1.0
        return self._lose(np.rint(self._query * (127 / scale)).astype(np.int8))

    def _lose(self, query: NDArray[Any]) -> _Query:
        length = float(np.linalg.norm(query.astype(np.float64))) or 1.0
        lost = np.linalg.norm(self._query - query / length)
        return query[np.newaxis], float(lost) + _ROUNDING


@cache
def _find_cosines() -> Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]] | None:
    """Return a function that gives the cosines (n,) of a query (1, D) with rows (n, D)."""
    try:
        import numkong
    except ImportError:
        return None

    def cosines(query: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
        distances = numkong.cdist(query, np.ascontiguousarray(values), "angular")
        return np.asarray(1 - np.asarray(distances)[0])

    return cosines
