"""What happens to embeddings after the model, and how matrices become bytes.

All arrays are (n, D); all bytes are row-major and little-endian, as the contract says.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from unitvec_server.errors import InvalidRequest

Floats = npt.NDArray[np.float32]

MAX_MAGNITUDE = 1e15
"""Largest value of a given vector. A squared difference of two, times the 5 million dimensions of
the longest vector that a message can hold by default, still fits a float32."""

_MIN_NORM = 1e-12  # as torch.nn.functional.normalize, which sentence-transformers uses


class Dtype(enum.Enum):
    """Number type of a matrix on the wire."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"
    BINARY = "binary"


class Packed(NamedTuple):
    """A matrix as bytes; `scales` has one factor for each row of INT8, else nothing."""

    data: bytes
    scales: list[float]


def shape_embeddings(embeddings: Floats, *, normalize: bool, dimensions: int) -> Floats:
    """Applies a request's options to what the model returned.

    Args:
        embeddings: (n, D).
        normalize: Scale each row to unit L2 norm.
        dimensions: Keep this many leading columns; 0 keeps all.

    Raises:
        InvalidRequest: The model has fewer dimensions.
    """
    dim = embeddings.shape[1]
    if dimensions > dim:
        raise InvalidRequest(
            f"dimensions is {dimensions}, the model has {dim}",
            reason="DIMENSIONS_TOO_LARGE",
            field="options.dimensions",
        )
    kept = embeddings[:, :dimensions] if dimensions else embeddings
    return l2_normalize(kept) if normalize else kept


def l2_normalize(vectors: Floats) -> Floats:
    """Scales each row to unit L2 norm; rows of zeros stay zeros."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    unit: Floats = (vectors / np.maximum(norms, _MIN_NORM)).astype(np.float32)
    return unit


def pack(vectors: Floats, dtype: Dtype) -> Packed:
    """Encodes (n, D) as bytes of `dtype`."""
    if dtype is Dtype.FLOAT16:
        return Packed(vectors.astype("<f2").tobytes(), [])
    if dtype is Dtype.INT8:
        scales = np.abs(vectors).max(axis=1, initial=0.0, keepdims=True) / 127
        quantized = np.rint(vectors / np.where(scales == 0, 1, scales))
        quantized[np.isnan(scales[:, 0])] = 0  # NaN has no code; times the scale it is NaN again
        # A scale among subnormal numbers is coarse, and a quotient may pass 127.
        codes = np.clip(quantized, -127, 127).astype(np.int8)
        return Packed(codes.tobytes(), scales[:, 0].tolist())
    if dtype is Dtype.BINARY:
        return Packed(np.packbits(vectors > 0, axis=1).tobytes(), [])
    return Packed(vectors.astype("<f4", copy=False).tobytes(), [])


def unpack(data: bytes, *, rows: int, dim: int, dtype: Dtype, field: str) -> Floats:
    """Decodes given vectors, FLOAT32 or FLOAT16, to (rows, dim) float32.

    Raises:
        InvalidRequest: Wrong size, unsupported dtype, or a value that is not usable.
    """
    if dtype not in (Dtype.FLOAT32, Dtype.FLOAT16):
        raise InvalidRequest(
            f"vectors must be FLOAT32 or FLOAT16, not {dtype.name}",
            reason="UNSUPPORTED_DTYPE",
            field=f"{field}.dtype",
        )
    kind = np.dtype("<f4" if dtype is Dtype.FLOAT32 else "<f2")
    if rows < 1 or dim < 1 or len(data) != rows * dim * kind.itemsize:
        raise InvalidRequest(
            f"data has {len(data)} bytes; {rows} rows of {dim} {dtype.name} values take "
            f"{rows * dim * kind.itemsize}, and there must be at least one of each",
            reason="WRONG_MATRIX_SIZE",
            field=f"{field}.data",
        )
    return check_values(np.frombuffer(data, kind).reshape(rows, dim), field=field)


def check_values(values: npt.NDArray[np.floating], *, field: str) -> Floats:
    """Given vectors as float32, every value finite and within `MAX_MAGNITUDE`.

    Raises:
        InvalidRequest: One is not; the message says which.
    """
    floats = values.astype(np.float32)  # first: MAX_MAGNITUDE as float16 would be infinite
    bad = ~(np.abs(floats) <= MAX_MAGNITUDE)  # true for NaN as well
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise InvalidRequest(
            f"row {row}, column {column} is {floats[row, column]}; every value must be finite "
            f"and at most {MAX_MAGNITUDE:g} in magnitude",
            reason="VALUE_NOT_FINITE",
            field=field,
        )
    return floats
