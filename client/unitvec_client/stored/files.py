"""Opens a file of vectors by its suffix, with what is known of how they were made."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitvec_client.errors import InputError, InputTypeError
from unitvec_client.stored.jsonl import JsonlRows
from unitvec_client.stored.npy import NpyRows
from unitvec_client.stored.parquet import ParquetRows
from unitvec_client.stored.rows import ArrayRows, Rows

ABOUT_SUFFIX = ".unitvec.json"
"""What follows the name of a file in the name of the one that says how its vectors were made."""


def open_rows(vectors: str | os.PathLike[str] | NDArray[Any]) -> Rows:
    """Return stored vectors.

    Args:
        vectors: A file (.npy, .parquet, .jsonl or .ndjson), or an array (n, D).

    Raises:
        InputError: If it is no file of vectors.
        InputTypeError: If it is neither.
        OSError: If the file cannot be read.
    """
    if isinstance(vectors, np.ndarray):
        return ArrayRows(vectors)
    if not isinstance(vectors, str | os.PathLike):
        kind = type(vectors).__name__
        raise InputTypeError(f"vectors must be the path of a file or an array, not {kind}")
    path = Path(vectors)
    if path.suffix == ".npy":
        return NpyRows(path, _read_about(path))
    if path.suffix == ".parquet":
        return ParquetRows(path)
    if path.suffix in (".jsonl", ".ndjson"):
        return JsonlRows(path, _read_about(path))
    raise InputError(f"{path}: vectors are read from .npy, .parquet and .jsonl")


def _read_about(path: Path) -> Mapping[str, Any]:
    beside = Path(f"{path}{ABOUT_SUFFIX}")
    try:
        about = json.loads(beside.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise InputError(f"cannot read {beside}: {exc}") from exc
    if not isinstance(about, dict):
        raise InputError(f"cannot read {beside}: it is no JSON object")
    return about
