"""The promise that a model gives the same bits on every machine: compared with hashes stored here.

Weights come from a stream of bytes of SHAKE-256 by exact operations alone, so that they are the
same everywhere too; real weights go through logarithms and powers that differ between machines.
A change of a hash is a change of every vector that anyone has stored: give a reason for it, and
raise `unitvec_kernels.ARITHMETIC`, by which the fingerprints of vectors tell it.
"""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import pytest

from tests.kernels.running import Runner, encode
from unitvec_export.quantize.fused import FusedPrecision, fused_model, to_bf16

HIDDEN, HEADS, FFN, GROUP, LAYERS, POSITIONS, WORDS = 128, 4, 512, 256, 3, 260, 211
PRODUCTS = ((HIDDEN, 3 * HIDDEN, 1), (HIDDEN, HIDDEN, 1), (HIDDEN, FFN, 1), (FFN, HIDDEN, 2))
HASHES = {
    "fp32": "18c5855b1f1c7ebf",
    "int16": "f7fe074f7664cecd",
    "int8": "437462f318fa0e7d",
    "bf16": "dc95943959109229",
}
"""Of every instruction set, but for bf16 on AMX: `test_emulated.py` has that one."""


class Stream:
    """Numbers that never change."""

    def __init__(self) -> None:
        self._calls = 0

    def integers(self, count: int) -> np.ndarray:
        """(count,) int64 in [-127, 127]."""
        self._calls += 1
        digest = hashlib.shake_256(str(self._calls).encode()).digest(count)
        return np.frombuffer(digest, np.uint8).astype(np.int64) % 255 - 127

    def floats(self, count: int, *, scale: float, around: float = 0) -> np.ndarray:
        """(count,) float32 in around +- scale, each an exact multiple of scale / 128."""
        return (around + self.integers(count) * (scale / 128)).astype(np.float32)


def fixed_model(precision: FusedPrecision) -> onnx.ModelProto:
    """The same graph on every machine."""
    stream = Stream()
    words = stream.floats(WORDS * HIDDEN, scale=2).reshape(WORDS, HIDDEN)
    floats = [stream.floats(POSITIONS * HIDDEN, scale=0.5), *norm(stream)]
    weights = []
    for rows, columns, groups in PRODUCTS * LAYERS:
        numbers = stream.integers(rows * columns)
        if precision == "fp32":
            weights.append((numbers / 1024).astype(np.float32))
        elif precision == "bf16":
            weights.append(to_bf16((numbers / 1024).astype(np.float32)))
        else:
            kind, finer = (np.int8, 1) if precision == "int8" else (np.int16, 8)
            weights.append((numbers * finer).astype(kind))
            floats += [stream.floats(groups * columns, scale=2**-11 / finer, around=2**-10 / finer)]
            floats += [stream.floats(rows, scale=0.5, around=1)]
        floats += [stream.floats(columns, scale=0.25)]
        if columns == HIDDEN and rows == FFN:
            floats += [*norm(stream), *norm(stream)]
    sizes = {"hidden": HIDDEN, "heads": HEADS, "ffn": FFN, "group": GROUP, "layers": LAYERS}
    others = {"relative": 0, "gelu": 0, "pooling": 0, "normalize": 1, "pad_position": -1}
    attributes = {**sizes, **others, "positions": POSITIONS, "epsilon": 2.0**-20}
    constants = {
        "words": words,
        "floats": np.concatenate(floats),
        "weights": np.frombuffer(b"".join(array.tobytes() for array in weights), np.int8),
    }
    return fused_model(precision, attributes, constants)


def norm(stream: Stream) -> tuple[np.ndarray, np.ndarray]:
    return stream.floats(HIDDEN, scale=0.25, around=1), stream.floats(HIDDEN, scale=0.25)


def fixed_texts() -> list[np.ndarray]:
    stream = Stream()
    return [np.abs(stream.integers(length)) for length in (1, 2, 7, 15, 16, 33, 100, 256)]


@pytest.mark.parametrize("precision", list(HASHES))
def test_bits_are_those_of_every_other_machine(
    runners: dict[str, Runner], precision: FusedPrecision
) -> None:
    for runner in runners.values():
        vectors = encode(runner.open(fixed_model(precision)), fixed_texts())
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
        assert np.abs(vectors @ vectors.T - np.eye(len(vectors))).max() < 0.99
        assert hashlib.sha256(vectors.astype("<f4").tobytes()).hexdigest()[:16] == HASHES[precision]
