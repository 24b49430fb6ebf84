"""What callers pass in: texts and vectors, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from unitvec_client.errors import ErrorFacts, InputError, InputTypeError
from unitvec_protos.v1 import embedding_pb2 as pb

Texts = TypeVar("Texts")
Vectors = NDArray[np.floating[Any]]
Comparable = str | Sequence[str] | Vectors
"""One side of a comparison: a text, texts, or vectors (n, D)."""


def check_text(text: object, field: str) -> str:
    """Return the text if it is one.

    Raises:
        InputTypeError: If it is not a str.
        InputError: If it cannot be sent as UTF-8 (a lone surrogate).
    """
    if not isinstance(text, str):
        hint = "; decode it first" if isinstance(text, (bytes, bytearray)) else ""
        message = f"{field} must be a str, not {type(text).__name__}{hint}"
        raise InputTypeError(message, ErrorFacts(field=field))
    if not text.isascii():
        _check_encodable(text, field)
    return text


def _check_encodable(text: str, field: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        message = f"{field} is not valid Unicode: lone surrogate at position {exc.start}"
        raise InputError(message, ErrorFacts(field=field)) from exc


def check_texts(texts: object, field: str = "texts") -> list[str]:
    """Return the texts as a list.

    Args:
        texts: A sequence of str, such as a list, a tuple, an array of strings or a column.
        field: What the caller calls them.

    Raises:
        InputTypeError: If it is not a sequence of str. A table is refused, since what it yields
            are the names of its columns.
        InputError: If one of them cannot be sent as UTF-8.
    """
    sequence = check_sequence(texts, field)
    return [check_text(text, f"{field}[{i}]") for i, text in enumerate(sequence)]


def check_sequence(texts: Any, field: str = "texts") -> Sequence[object]:
    """Return what should be texts as a sequence, each still to be checked.

    Raises:
        InputTypeError: As in `check_texts`.
    """
    refuse_table(texts, field)
    if isinstance(texts, (str, bytes, bytearray, set)) or not _is_sequence(texts):
        hint = ""
        if hasattr(texts, "__iter__") and not isinstance(texts, (str, bytes, bytearray)):
            hint = "; make it a list, or use embed_stream"
        raise InputTypeError(
            f"{field} must be a sequence of str, not {type(texts).__name__}{hint}",
            ErrorFacts(field=field),
        )
    sequence: Sequence[object] = in_python(texts)
    return sequence


def _is_sequence(value: object) -> bool:
    return hasattr(value, "__len__") and hasattr(value, "__getitem__")


def in_python(values: Texts) -> Texts:
    """Return a column of Arrow, which yields objects of its own, as Python's values."""
    found: Texts = values.to_pylist() if hasattr(values, "to_pylist") else values
    return found


def refuse_table(values: object, field: str, hint: str = "") -> None:
    """Refuse what would yield the names of columns, or rows, in the place of texts.

    Tables are told by what all of pandas, polars, Arrow, Spark and the like have: columns. A
    mapping yields its keys, and an array of more than one dimension yields its rows.

    Args:
        values: What a caller gave as texts.
        field: What the caller calls it.
        hint: What else could have been meant, for the end of the message.

    Raises:
        InputTypeError: If it is one of these; the message says how one column is given.
    """
    kind = type(values)
    shape = getattr(values, "shape", None)
    names = getattr(getattr(values, "dtype", None), "names", None)
    if isinstance(values, Mapping):
        names = tuple(values)
    elif hasattr(kind, "columns") or hasattr(kind, "column_names"):
        names = _column_names(values)
    elif names is None:
        if isinstance(shape, tuple) and len(shape) > 1:
            message = f"{field} has the shape {tuple(shape)}: give one column, {field}[:, 0]"
            raise InputTypeError(message, ErrorFacts(field=field))
        return
    name = repr(names[0]) if names else "name"
    message = f"{field} is a table ({kind.__name__}): give one column of texts, {field}[{name}]"
    message += hint
    raise InputTypeError(message, ErrorFacts(field=field))


def _column_names(table: Any) -> tuple[Any, ...]:
    """Return the names of the columns; none of a table that is not in memory."""
    if not hasattr(table, "__len__"):
        return ()
    names = table.columns if hasattr(table, "columns") else table.column_names
    # Arrow's tables have columns without names, and their names apart.
    return tuple(getattr(table, "column_names", names))


def check_iterable(texts: Texts, field: str = "texts") -> Texts:
    """Return an iterable, or async iterable, of texts that are still to be read.

    Raises:
        InputTypeError: If it is neither, or a single text, or a table.
    """
    refuse_table(texts, field)
    iterable = hasattr(texts, "__iter__") or hasattr(texts, "__aiter__")
    if isinstance(texts, (str, bytes, bytearray)) or not iterable:
        message = f"{field} must be an iterable of str, not {type(texts).__name__}"
        raise InputTypeError(message, ErrorFacts(field=field))
    return in_python(texts)


def utf8_bytes(text: str) -> int:
    """Return how many bytes the text is in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes:
        texts: Texts that the server embeds; None for vectors.
        vectors: (n, D) float32 or float16, finite; None for texts.
    """

    texts: list[str] | None = None
    vectors: Vectors | None = None

    def __len__(self) -> int:
        if self.texts is not None:
            return len(self.texts)
        return len(self.vectors) if self.vectors is not None else 0

    @property
    def dim(self) -> int | None:
        """Dimension of the vectors; None for texts."""
        return None if self.vectors is None else int(self.vectors.shape[1])

    @cached_property
    def sizes_bytes(self) -> list[int]:
        """Size of each text or vector in a message."""
        if self.texts is not None:
            return [utf8_bytes(text) for text in self.texts]
        if self.vectors is None:
            return []
        return [self.vectors.shape[1] * self.vectors.itemsize] * len(self.vectors)

    def to_proto(self, start: int, stop: int, options: pb.EncodeOptions) -> pb.Operand:
        """Return the message for the rows in [start, stop)."""
        if self.texts is not None:
            return pb.Operand(texts=pb.TextList(texts=self.texts[start:stop]), options=options)
        if self.vectors is None:
            return pb.Operand(texts=pb.TextList(), options=options)
        return pb.Operand(vectors=encode_vectors(self.vectors[start:stop]), options=options)


def check_side(values: object, field: str) -> Side:
    """Return one side of a comparison, checked.

    Args:
        values: A text, a sequence of texts, or an array (n, D).
        field: What the caller calls it.

    Raises:
        InputTypeError: If it is none of these.
        InputError: If vectors are not 2-D or not finite.
    """
    if isinstance(values, str):
        return Side(texts=[check_text(values, field)])
    if is_vectors(values):
        return Side(vectors=check_vectors(values, field))
    refuse_table(values, field, f", or vectors as an array, {field}.to_numpy()")
    return Side(texts=check_texts(values, field))


def is_vectors(values: object) -> TypeGuard[NDArray[Any]]:
    """Return whether it is an array of numbers, and not one of texts or of named columns."""
    return isinstance(values, np.ndarray) and values.dtype.kind not in "UOSV"


def check_vectors(vectors: NDArray[Any], field: str) -> Vectors:
    """Return vectors as the contract takes them: float16 as it is, else float32.

    Raises:
        InputTypeError: If they are not real numbers.
        InputError: If they are not (n, D) with D >= 1, or not finite in float32.
    """
    facts = ErrorFacts(field=field)
    if vectors.dtype.kind not in "fiu":
        raise InputTypeError(f"{field} must hold real numbers, not {vectors.dtype}", facts)
    if vectors.ndim != 2 or vectors.shape[1] < 1:
        raise InputError(f"{field} must have shape (n, D), not {vectors.shape}", facts)
    kind = np.float16 if vectors.dtype == np.float16 else np.float32
    with np.errstate(over="ignore"):  # A float64 too large for float32 is found below.
        checked: Vectors = np.ascontiguousarray(vectors, dtype=kind)
    bad_rows = np.flatnonzero(~np.isfinite(checked).all(axis=1))
    if bad_rows.size:
        raise InputError(f"{field}[{bad_rows[0]}] holds NaN or infinity", facts)
    return checked


def encode_vectors(vectors: Vectors) -> pb.Matrix:
    """Return the message for vectors (n, D), float32 or float16."""
    half = vectors.dtype == np.float16
    return pb.Matrix(
        rows=vectors.shape[0],
        dim=vectors.shape[1],
        dtype=pb.DTYPE_FLOAT16 if half else pb.DTYPE_FLOAT32,
        data=vectors.astype("<f2" if half else "<f4", copy=False).tobytes(),
    )
