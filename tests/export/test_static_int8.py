"""Static int8: one product against its arithmetic, and what stays in float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.export.test_int8 import minilm, product_graph, run
from unitvec_export.prove.verification import compare, load_sample
from unitvec_export.quantize.static_int8 import to_static_int8
from unitvec_server.model.artifact import Artifact
from unitvec_server.model.encoder import Encoder, EncoderOptions
from unitvec_server.model.tokenizer import Tokenizer

__all__ = ["minilm"]  # a fixture

WIDTH = 48


def table_of(offset: float, outlier: float) -> np.ndarray:
    """Token vectors, one channel of which is loud."""
    table = np.random.default_rng(0).normal(size=(50, WIDTH)).astype(np.float32) + offset
    table[:, 7] *= outlier
    return table


def weights_of(width: int, outlier: float = 1.0) -> np.ndarray:
    weights = np.random.default_rng(1).normal(size=(WIDTH, width)).astype(np.float32)
    weights[7] /= outlier
    return weights


@pytest.mark.parametrize("outlier", [1.0, 30.0])
@pytest.mark.parametrize("offset", [0.0, 3.0, -3.0], ids=["centred", "positive", "negative"])
def test_one_product_stays_close(offset: float, outlier: float) -> None:
    """In spite of loud channels, and of values that are all of one sign."""
    model = product_graph(weights_of(64, outlier), table_of(offset, outlier))
    ids = np.arange(50).reshape(5, 10)
    quantized, expected = run(to_static_int8(model, ids.tolist()), ids), run(model, ids)
    assert np.abs(quantized - expected).max() < 0.03 * np.abs(expected).max()


def test_a_row_does_not_depend_on_its_company() -> None:
    model = to_static_int8(product_graph(weights_of(64), table_of(0, 1)), [[*range(50)]])
    ids = np.arange(50).reshape(5, 10)
    alone = np.concatenate([run(model, ids[index : index + 1]) for index in range(5)])
    np.testing.assert_array_equal(run(model, ids), alone)


def test_channels_of_zeros_are_left_alone() -> None:
    table, weights = table_of(0, 1), weights_of(64)
    table[:, 3], weights[5] = 0, 0
    vectors = run(to_static_int8(product_graph(weights, table), [[*range(50)]]), np.array([[1, 2]]))
    assert np.isfinite(vectors).all()


def test_the_first_narrowing_product_stays_in_float() -> None:
    model = product_graph(weights_of(32), table_of(0, 1))
    assert to_static_int8(model, [[1, 2]]).graph.node == model.graph.node


def test_only_standard_operators_are_used() -> None:
    model = to_static_int8(product_graph(weights_of(64), table_of(0, 1)), [[1, 2]])
    onnx.checker.check_model(model)
    assert {node.domain for node in model.graph.node} == {""}


@pytest.mark.deep
def test_minilm_meets_its_quality_and_ignores_company(minilm: Artifact, tmp_path: Path) -> None:
    """Mean cosine >= 0.997, lowest >= 0.99; alone and in mixed batches the same vectors."""
    tokenizer = Tokenizer(minilm.tokenizer_path, max_seq_length=256)
    rows = [encoding.input_ids for encoding in tokenizer.encode(load_sample())]
    graph = to_static_int8(onnx.load(str(minilm.graph_path("fp32"))), [*map(list, rows[::4])])
    onnx.save(graph, str(tmp_path / "model.onnx"))
    int8 = Encoder(tmp_path / "model.onnx", EncoderOptions())
    fp32 = Encoder(minilm.graph_path("fp32"), EncoderOptions())
    unseen = [row for i, row in enumerate(rows) if i % 4][::4]
    alone = np.concatenate([int8.encode([row]) for row in unseen])
    parity = compare(alone, np.concatenate([fp32.encode([row]) for row in unseen]))
    assert parity.cosine_mean >= 0.997
    assert parity.cosine_min >= 0.99
    together = np.concatenate([int8.encode(unseen[i : i + 8]) for i in range(0, len(unseen), 8)])
    assert np.abs(together - alone).max() < 1e-5
