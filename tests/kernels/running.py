"""Sessions with the operator, on one instruction set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tests.kernels.reference import Exact, Shape, random_encoder, random_texts
from unitvec_export.quantize.fused import INTEGERS, FusedPrecision, to_fused

PRECISIONS: tuple[FusedPrecision, ...] = ("fp32", "int16", "bf16", "int8")


class Runner:
    """Opens graphs.

    Args:
        library: The operator's.
        backend: Which instruction set runs.
    """

    def __init__(self, library: Path, backend: str) -> None:
        self._library = library
        self._backend = backend

    def open(self, model: onnx.ModelProto) -> ort.InferenceSession:
        """A session of one thread."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.register_custom_ops_library(str(self._library))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("UNITVEC_ISA", self._backend)
            return ort.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )


def run(session: ort.InferenceSession, ids: Any, starts: Any) -> np.ndarray:
    """Vectors of texts that lie one after the other."""
    feed = {"input_ids": np.asarray(ids, np.int64), "starts": np.asarray(starts, np.int64)}
    vectors: np.ndarray = session.run(None, feed)[0]
    return vectors


def encode(session: ort.InferenceSession, rows: Sequence[np.ndarray]) -> np.ndarray:
    """Vectors of texts, all in one run."""
    return run(session, np.concatenate(rows), np.cumsum([0, *map(len, rows)]))


def fused(shape: Shape, precision: FusedPrecision) -> onnx.ModelProto:
    """The graph of a random encoder, smoothed for random texts."""
    encoder = random_encoder(shape)
    exact = Exact(encoder, shape)
    for row in random_texts(1, [5, 40]):
        exact.encode(row)
    peaks = [peak.astype(np.float32) for peak in exact.peaks]
    return to_fused(encoder, shape.facts(), precision, peaks if precision in INTEGERS else ())
