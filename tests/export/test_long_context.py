"""Attention in blocks of queries is the same function, in memory that grows with the text alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tests.models import TinyModel, build_tiny_model
from unitvec_export.graph import tracing as graphs
from unitvec_export.graph.long_context import BLOCK, LONG_TOKENS, block_attention
from unitvec_export.graph.masks import rewrite_masks
from unitvec_export.graph.opsets import DEFAULT_OPSET
from unitvec_export.graph.simplify import simplify
from unitvec_export.graph.wiring import Wiring
from unitvec_export.prove.reference import Reference, load_reference
from unitvec_export.quantize.fp16 import to_fp16
from unitvec_export.source import Request, resolve_source

ENCODERS = ("bert", "distilbert", "gte", "mpnet", "roberta")
BOUNDED = ("gemma3", "llama", "mistral", "modernbert", "qwen3")
"""Those that attend to neighbours or to what was before only, in some layers or in all."""
SHAPES = (
    *((1, 1), (1, 2), (3, 16), (1, BLOCK - 1), (2, BLOCK), (2, BLOCK + 1)),
    *((1, 2 * BLOCK + 3), (2, 600)),
)


@pytest.fixture(scope="module", params=ENCODERS + BOUNDED)
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp(request.param)
    spec = TinyModel(architecture=request.param, max_seq_length=LONG_TOKENS + 100)
    return load_reference(resolve_source(Request(str(build_tiny_model(folder, spec)))))


@pytest.fixture(scope="module")
def traced(reference: Reference) -> onnx.ModelProto:
    """A body as the exporter left it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "simplify", lambda model, **_: model)
        return graphs.export_body(reference, opset=DEFAULT_OPSET)


def rewritten(model: onnx.ModelProto, step: Callable[[Wiring], None]) -> onnx.ModelProto:
    """A rewritten copy. As in an export, no shapes are told to the step, nor to onnxruntime."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    wiring = Wiring(copy)
    step(wiring)
    wiring.write()
    del copy.graph.value_info[:]
    return copy


def results(model: onnx.ModelProto) -> list[np.ndarray]:
    """Token vectors, of real tokens, at each shape; rows but the first are padded."""
    session = ort.InferenceSession(model.SerializeToString())
    random = np.random.default_rng(0)
    found = []
    for batch, length in SHAPES:
        ids, mask = random.integers(5, 500, (batch, length)), np.ones((batch, length), np.int64)
        mask[1:, length // 2 + 1 :] = 0
        vectors = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        found.append(vectors[mask.astype(bool)])
    return found


def test_blocks_are_the_same_function(traced: onnx.ModelProto) -> None:
    body = simplify(traced, max_tokens=LONG_TOKENS + 100)
    blocks = rewritten(body, block_attention)
    onnx.checker.check_model(blocks, full_check=True)
    for expected, found in zip(results(body), results(blocks), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_small_mask_is_the_same_function(traced: onnx.ModelProto) -> None:
    small = rewritten(traced, partial(rewrite_masks, max_tokens=LONG_TOKENS + 100))
    for expected, found in zip(results(traced), results(small), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_nothing_is_as_large_as_a_square_of_the_text(
    reference: Reference, traced: onnx.ModelProto
) -> None:
    """No value of the finished graph has the length of the text on two axes."""
    if reference.transformer.config.model_type == "mpnet":
        pytest.skip("relative positions are a square by themselves; no MPNet reads more than 512")
    finished = graphs.finish(simplify(traced, max_tokens=LONG_TOKENS + 100), reference.facts)
    layers = reference.transformer.config.num_hidden_layers
    assert sum(node.op_type == "Loop" for node in finished.graph.node) == layers
    wiring = Wiring(finished)
    shapes = [wiring.dims(name) or () for node in wiring.nodes for name in node.output]
    assert sum("sequence" in dims for dims in shapes) > 10
    assert not [dims for dims in shapes if list(dims).count("sequence") > 1]


def test_short_models_have_no_loop(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = build_tiny_model(tmp_path_factory.mktemp("short"), TinyModel(max_seq_length=64))
    reference = load_reference(resolve_source(Request(str(folder))))
    body = graphs.export_body(reference, opset=DEFAULT_OPSET)
    assert not [n for n in graphs.finish(body, reference.facts).graph.node if n.op_type == "Loop"]


def takes_heads_apart(model: onnx.ModelProto) -> bool:
    """Whether the loops of a graph know which heads a turn takes."""
    bodies = [node.attribute[0].g for node in model.graph.node if node.op_type == "Loop"]
    found = {any("heads_start" in n.output[0] for n in body.node) for body in bodies}
    assert len(found) == 1
    return found.pop()


def test_half_precision_has_blocks_as_well(reference: Reference, traced: onnx.ModelProto) -> None:
    body = simplify(traced, max_tokens=LONG_TOKENS + 100)
    half = graphs.finish(to_fp16(body), reference.facts)
    layers = reference.transformer.config.num_hidden_layers
    assert sum(node.op_type == "Loop" for node in half.graph.node) == layers
    full = graphs.finish(body, reference.facts)
    assert takes_heads_apart(full)
    assert not takes_heads_apart(half)
    feed = {"input_ids": np.arange(5, 305)[None], "attention_mask": np.ones((1, 300), np.int64)}
    vectors = [
        ort.InferenceSession(model.SerializeToString()).run(None, feed)[0][0]
        for model in (full, half)
    ]
    assert vectors[0] @ vectors[1] > 0.999
