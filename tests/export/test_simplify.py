"""Fewer nodes, the same function: on every architecture, padded and not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.models import TinyModel
from unitvec_export.graph import tracing as graphs
from unitvec_export.graph.attention import fold_attention
from unitvec_export.graph.flatten import flatten
from unitvec_export.graph.opsets import DEFAULT_OPSET
from unitvec_export.graph.simplify import fold, simplify
from unitvec_export.graph.wiring import Wiring
from unitvec_export.prove.reference import load_reference
from unitvec_export.source import Request, resolve_source

ARCHITECTURES = ("bert", "distilbert", "mpnet", "roberta")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def body(request: pytest.FixtureRequest, tiny_model: Callable[[TinyModel], Path]) -> Any:
    """A traced body as the exporter left it."""
    folder = tiny_model(TinyModel(architecture=request.param, max_seq_length=16))
    source = resolve_source(Request(str(folder)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "simplify", lambda model, **_: model)
        return graphs.export_body(load_reference(source), opset=DEFAULT_OPSET)


def run(model: onnx.ModelProto, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString())
    return session.run(None, {"input_ids": ids, "attention_mask": mask})[0]


def test_the_function_stays_the_same(body: onnx.ModelProto) -> None:
    """At several shapes, with padding and without."""
    simple = simplify(body, max_tokens=16)
    random = np.random.default_rng(0)
    for batch, length in ((1, 1), (3, 7), (2, 16)):
        ids = random.integers(5, 500, (batch, length))
        mask = np.ones_like(ids)
        mask[0, length // 2 + 1 :] = 0
        expected, found = run(body, ids, mask), run(simple, ids, mask)
        real = mask.astype(bool)
        np.testing.assert_allclose(found[real], expected[real], rtol=0, atol=2e-5)


def test_it_has_fewer_nodes_and_rows_for_matrices(body: onnx.ModelProto) -> None:
    simple = simplify(body, max_tokens=16)
    before, after = (Counter(node.op_type for node in m.graph.node) for m in (body, simple))
    del before["Constant"]
    assert after.total() < 0.8 * before.total()
    assert not after["Sqrt"]  # of a size that is known
    wiring = Wiring(simple)
    products = [node for node in wiring.nodes if node.op_type == "MatMul"]
    linear = [node for node in products if wiring.constant(node.input[1]) is not None]
    assert linear
    assert {len(wiring.dims(node.output[0]) or ()) for node in linear} == {2}


def test_keys_and_values_have_no_bias_and_nothing_is_scaled_at_run_time(
    body: onnx.ModelProto,
) -> None:
    wiring = Wiring(simplify(body, max_tokens=16))
    for softmax in [node for node in wiring.nodes if node.op_type == "Softmax"]:
        mix = wiring.only_consumer(softmax.output[0])
        assert mix is not None
        values = wiring.producer(mix.input[1])
        kinds = []
        while values is not None and values.op_type != "MatMul":
            kinds.append(values.op_type)
            values = wiring.producer(values.input[0])
        assert set(kinds) == {"Transpose", "Reshape"}


def test_the_body_is_not_changed(body: onnx.ModelProto) -> None:
    before = body.SerializeToString(deterministic=True)
    simplify(body, max_tokens=16)
    assert body.SerializeToString(deterministic=True) == before


def _biased(name: str, kind: str) -> list[onnx.NodeProto]:
    """What makes q1, k1 or v1 of q0, k0 or v0."""
    if kind == "scaled before":
        scale = helper.make_node("Mul", [f"{name}0", "scale"], [f"{name}s"])
        return [scale, helper.make_node("Add", [f"{name}s", f"b{name}"], [f"{name}1"])]
    other = "x" if kind == "varying" else f"b{name}"
    return [helper.make_node("Add", [f"{name}0", other], [f"{name}1"])]


def attention_graph(**change: Any) -> onnx.ModelProto:
    """One head of attention over (B, S, 8), by hand; `change` names what is out of the ordinary."""
    random = np.random.default_rng(1)
    width = 8
    constants = {name: random.normal(size=(width, width)) for name in ("wq", "wk", "wv", "wo")}
    constants |= {name: random.normal(size=width) for name in ("bq", "bk", "bv", "bo")}
    constants |= {"scale": np.array(0.3), "table": random.normal(size=(50, width))}
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["x"])]
    for name, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        nodes += [
            helper.make_node("MatMul", ["x", f"w{name}"], [f"{name}0"]),
            *_biased(name, change.get("bias", "plain")),
            helper.make_node("Reshape", [f"{name}1", "heads"], [f"{name}2"]),
            helper.make_node("Transpose", [f"{name}2"], [f"{name}3"], perm=perm),
        ]
    axis = change.get("axis", -1)
    nodes += [
        helper.make_node("MatMul", ["q3", "k3"], ["scores"]),
        helper.make_node("Mul", ["scores", "scale"], ["scaled"]),
        helper.make_node("Softmax", ["scaled"], ["weights"], axis=axis),
        helper.make_node("MatMul", ["weights", "v3"], ["mixed"]),
        helper.make_node("Transpose", ["mixed"], ["joined"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["joined", "whole"], ["context"]),
        helper.make_node("MatMul", ["context", "wo"], ["o0"]),
        helper.make_node("Add", ["o0", "bo"], ["o1"]),
    ]
    nodes.append(helper.make_node("ReduceMax", ["x", "one"], ["peak"], keepdims=1))
    second = change.get("second", "x")  # what else is read of attention's inside
    nodes.append(helper.make_node("Add", ["o1", second], ["token_embeddings"]))
    initializers = [
        numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()
    ]
    initializers += [
        numpy_helper.from_array(np.array([0, 0, 2, 4]), "heads"),
        numpy_helper.from_array(np.array([0, 0, width]), "whole"),
        numpy_helper.from_array(np.array([1]), "one"),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"])
        for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("token_embeddings", TensorProto.FLOAT, ["b", "s", width])
    graph = helper.make_graph(nodes, "g", inputs, [output], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize(
    "change",
    [
        {},
        pytest.param({"axis": 2}, id="softmax over queries"),
        pytest.param({"second": "k1"}, id="keys read twice"),
        pytest.param({"second": "v1"}, id="values read twice"),
        pytest.param({"second": "q1"}, id="queries read twice"),
        pytest.param({"second": "o0"}, id="output read twice"),
        pytest.param({"second": "context"}, id="context read twice"),
        pytest.param({"second": "peak"}, id="input read as it is"),
        pytest.param({"bias": "scaled before"}, id="scaled before the bias"),
        pytest.param({"bias": "varying"}, id="something else than a bias"),
    ],
)
@pytest.mark.parametrize("step", [fold, fold_attention, flatten, None])
def test_what_does_not_match_is_left_alone(change: dict[str, Any], step: Any) -> None:
    model = attention_graph(**change)
    if step is None:
        simple = simplify(model, max_tokens=16)
    else:
        simple = onnx.ModelProto()
        simple.CopyFrom(model)
        wiring = Wiring(simple)
        step(wiring)
        wiring.write()
    onnx.checker.check_model(simple, full_check=True)
    ids = np.arange(21).reshape(3, 7)
    expected = run(model, ids, np.ones_like(ids))
    np.testing.assert_allclose(run(simple, ids, np.ones_like(ids)), expected, rtol=0, atol=1e-4)


def test_a_plain_attention_is_folded() -> None:
    """The counterpart of those left alone: this one does match."""
    simple = simplify(attention_graph(), max_tokens=16)
    kinds = Counter(node.op_type for node in simple.graph.node)
    assert not kinds["Mul"]
    assert kinds["Add"] == 3  # of queries, of the output, and the residual
