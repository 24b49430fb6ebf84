"""The int8 recipe: close to fp32, blind to company, robust to outliers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from unitvec_export.prove.verification import compare, load_sample
from unitvec_export.quantize.int8 import to_int8
from unitvec_export.quantize.products import measure_activations, quantize_weights
from unitvec_server.model.artifact import Artifact, load_artifact
from unitvec_server.model.encoder import Encoder, EncoderOptions
from unitvec_server.model.tokenizer import Tokenizer

WIDTH = 64


@pytest.fixture(scope="module")
def minilm(minilm_artifact: Path) -> Artifact:
    return load_artifact(minilm_artifact)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return load_sample()


def open_int8(artifact: Artifact, folder: Path, rows: list[np.ndarray]) -> Encoder:
    """An encoder of the artifact's fp32 graph, quantized."""
    graph = onnx.load(str(artifact.graph_path("fp32")))
    path = folder / "model.int8.onnx"
    onnx.save(to_int8(graph, [row.tolist() for row in rows]), str(path))
    return Encoder(path, EncoderOptions(pad_token_id=artifact.manifest.pad_token_id))


@pytest.mark.deep
def test_minilm_meets_its_quality_and_ignores_company(
    minilm: Artifact, texts: list[str], tmp_path: Path
) -> None:
    """Mean cosine >= 0.998, lowest >= 0.995; alone and in mixed batches the same vectors."""
    tokenizer = Tokenizer(minilm.tokenizer_path, max_seq_length=256)
    rows = [encoding.input_ids for encoding in tokenizer.encode(texts)]
    calibrated, unseen = rows[::2], rows[1::2]
    int8 = open_int8(minilm, tmp_path, calibrated)
    fp32 = Encoder(minilm.graph_path("fp32"), EncoderOptions())
    expected = np.concatenate([fp32.encode([row]) for row in unseen])
    alone = np.concatenate([int8.encode([row]) for row in unseen])
    parity = compare(alone, expected)
    assert parity.cosine_mean >= 0.998
    assert parity.cosine_min >= 0.995
    together = np.concatenate([int8.encode(unseen[i : i + 8]) for i in range(0, len(unseen), 8)])
    assert np.abs(together - alone).max() < 1e-5


def test_a_tiny_model_ignores_company(artifact: Path, tmp_path: Path) -> None:
    """Of any width: rows are scaled apart, padding included."""
    loaded = load_artifact(artifact)
    manifest = loaded.manifest
    tokenizer = Tokenizer(loaded.tokenizer_path, max_seq_length=manifest.max_seq_length)
    rows = [encoding.input_ids for encoding in tokenizer.encode(["a", "b c d e f", "", "g h"])]
    encoder = Encoder(loaded.graph_path("int8"), EncoderOptions(pad_token_id=manifest.pad_token_id))
    alone = np.concatenate([encoder.encode([row]) for row in rows])
    assert np.abs(encoder.encode(rows) - alone).max() < 1e-5
    assert "QuantizeLinear" in {n.op_type for n in onnx.load(loaded.graph_path("int8")).graph.node}


def product_graph(weights: np.ndarray, table: np.ndarray) -> onnx.ModelProto:
    """input_ids -> rows of `table` (B, S, K) @ weights; the mask is there and unused."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["x"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"])
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", "s", weights.shape[1]])
    constants = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(weights, "w")]
    graph = helper.make_graph(nodes, "g", ids, [output], constants)
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def run(model: onnx.ModelProto, ids: np.ndarray) -> np.ndarray:
    import onnxruntime as ort

    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    return ort.InferenceSession(model.SerializeToString()).run(None, feed)[0]


@pytest.mark.parametrize("outlier", [1.0, 100.0, 1000.0])
def test_one_product_stays_close_in_spite_of_outlier_channels(outlier: float) -> None:
    """Smoothing moves what is hard about a loud channel to its weights."""
    random = np.random.default_rng(0)
    table = random.normal(size=(50, WIDTH)).astype(np.float32)
    table[:, 7] *= outlier
    table[3] = 0  # a token of zeros divides nothing by zero
    weights = random.normal(size=(WIDTH, 32)).astype(np.float32)
    weights[7] /= outlier
    model = product_graph(weights, table)
    ids = np.arange(50).reshape(5, 10)
    quantized = run(to_int8(model, ids.tolist()), ids)
    expected = run(model, ids)
    assert np.abs(quantized - expected).max() < 0.03 * np.abs(expected).max()
    assert not quantized[0, 3].any()


def test_activations_are_those_of_numpy() -> None:
    table = np.random.default_rng(1).normal(size=(9, WIDTH)).astype(np.float32)
    model = product_graph(np.ones((WIDTH, 32), np.float32), table)
    measured = measure_activations(model, ["x"], [[1, 2, 3], [7]])["x"]
    met = table[[1, 2, 3, 7]]
    np.testing.assert_array_equal(measured.peaks, np.abs(met).max(axis=0))
    np.testing.assert_array_equal(measured.rows, met)


def test_weights_are_rounded_no_worse_than_to_their_full_range() -> None:
    weights = np.random.default_rng(2).standard_t(3, size=(256, 16)).astype(np.float32)
    quantized, scales = quantize_weights(weights)
    plain = np.abs(weights).max(axis=0) / 127
    error = np.square(quantized * scales - weights).sum(axis=0)
    assert (error <= np.square(np.rint(weights / plain) * plain - weights).sum(axis=0)).all()
    assert np.abs(quantized).max() <= 127


def layer_graph(table: np.ndarray, weights: np.ndarray) -> onnx.ModelProto:
    """Two products of what a LayerNorm gave, one with a bias, summed."""
    model = product_graph(weights, table)
    graph = model.graph
    norm = helper.make_node("LayerNormalization", ["x", "gain", "shift"], ["normal"])
    graph.node[1].input[0], graph.node[1].output[0] = "normal", "product"
    graph.node.insert(1, norm)
    graph.node.extend(
        [
            helper.make_node("Add", ["product", "bias"], ["biased"]),
            helper.make_node("MatMul", ["normal", "w"], ["second"]),
            helper.make_node("Add", ["biased", "second"], ["y"]),
        ]
    )
    width = weights.shape[1]
    for name, value in (
        ("gain", np.linspace(0.5, 2, WIDTH)),
        ("shift", np.linspace(-1, 1, WIDTH)),
        ("bias", np.linspace(-3, 3, width)),
    ):
        graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    return model


def test_several_products_of_a_layer_norm_have_one_scale_and_their_biases_inside() -> None:
    random = np.random.default_rng(3)
    table = random.normal(size=(50, WIDTH)).astype(np.float32)
    model = layer_graph(table, random.normal(size=(WIDTH, 32)).astype(np.float32))
    ids = np.arange(50).reshape(5, 10)
    quantized = to_int8(model, ids.tolist())
    kinds = [node.op_type for node in quantized.graph.node]
    assert kinds[-3:] == ["MatMulIntegerToFloat", "MatMulIntegerToFloat", "Add"]
    assert "ReduceMax" not in kinds
    expected = run(model, ids)
    assert np.abs(run(quantized, ids) - expected).max() < 0.03 * np.abs(expected).max()


def test_a_range_that_one_scale_cannot_hold_is_taken_per_token() -> None:
    """A layer norm whose gain makes one token in fifty a thousand times as loud."""
    random = np.random.default_rng(4)
    table = random.normal(size=(50, WIDTH)).astype(np.float32)
    table[7] = 0
    table[7, 3] = 1000
    model = layer_graph(table, random.normal(size=(WIDTH, 32)).astype(np.float32))
    gain = np.ones(WIDTH, np.float32) * 0.01
    gain[3] = 30
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(gain, "gain"))
    quantized = to_int8(model, np.arange(50).reshape(5, 10).tolist())
    assert "ReduceMax" in [node.op_type for node in quantized.graph.node]


def test_the_sample_has_what_calibration_needs(texts: list[str]) -> None:
    """Long and short, plain and odd; as the file says."""
    lengths = [len(text) for text in texts]
    assert len(texts) >= 200
    assert min(lengths) <= 1
    assert max(lengths) > 1000
