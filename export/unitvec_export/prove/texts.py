"""Files of texts and of vectors that an operator gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unitvec_export.errors import InputError, first_line


def read_texts(path: Path) -> list[str]:
    """Reads the texts of a file: each a line, or in `.jsonl` a string or an object's `text`.

    Raises:
        InputError: It cannot be read, or holds no text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"{path} cannot be read: {exc}") from exc
    texts = [
        _parse(line, f"{path}:{number}") if path.suffix == ".jsonl" else line
        for number, line in enumerate(lines, 1)
    ]
    if not texts:
        raise InputError(f"{path} holds no text")
    return texts


def _parse(line: str, where: str) -> str:
    try:
        value: Any = json.loads(line)
    except ValueError as exc:
        raise InputError(f"{where}: {exc}") from exc
    text = value.get("text") if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise InputError(f'{where}: neither a string nor an object with a string "text"')
    return text


def read_vectors(path: Path) -> npt.NDArray[np.float32]:
    """Reads the matrix (n, D) of a `.npy` file.

    Raises:
        InputError: It cannot be read, or holds something else.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as exc:
        raise InputError(f"{path} cannot be read: {first_line(exc)}") from exc
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f":
        raise InputError(f"{path} holds no matrix of floats, one row for each text")
    return array.astype(np.float32, copy=False)
