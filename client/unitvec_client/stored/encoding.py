"""How values of vectors are encoded in Parquet, by their type."""

from __future__ import annotations

from typing import Any

import numpy as np

ELEMENTS = "vector.list.element"
"""The values of the column ``vector`` as Parquet knows them. Options of pyarrow for single columns
want this path; under the name of the column they are without effect, and nothing says so."""


def vector_encoding(dtype: np.dtype[Any]) -> dict[str, list[str]]:
    """Return options of pyarrow's ``ParquetWriter`` for the column ``vector``.

    The exponents of float32 are much alike, and compress well apart from the rest of the bits.
    Parquet has no integers under 32 bits; in a dictionary of all 256 they take 8. float16 stays as
    it is: DuckDB refuses it split.

    Args:
        dtype: Type of a value.
    """
    return {
        "use_dictionary": [ELEMENTS] if dtype.itemsize == 1 else [],
        "use_byte_stream_split": [ELEMENTS] if dtype in (np.float32, np.float64) else [],
    }
