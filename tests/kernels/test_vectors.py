"""Vectors of random encoders: right, and the same to the last bit however they are made."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernels.reference import Exact, Shape, random_encoder, random_texts
from tests.kernels.running import PRECISIONS, Runner, encode, fused
from unitvec_export.quantize.fused import FusedPrecision

# Each axis along which models differ, and sizes that fill neither a tile nor a group evenly.
SHAPES = {
    "bert": Shape(hidden=384, ffn=768),
    "large heads": Shape(hidden=128, head=64, ffn=448),
    "tanh": Shape(gelu="tanh"),
    "cls": Shape(pooling="cls"),
    "not normalized": Shape(normalized=False),
    "roberta": Shape(pad_position=1),
    "mpnet": Shape(hidden=128, head=64, relative=True, pad_position=1),
    "mpnet of small heads": Shape(relative=True, pad_position=1),
}
LEAST_COSINE = {"fp32": 1 - 1e-9, "int16": 0.99999, "bf16": 0.9999, "int8": 0.98}
LENGTHS = (1, 2, 3, 13, 14, 15, 16, 17, 31, 32, 33, 64, 141, 200, 512)
WIDE = Shape(hidden=192, ffn=320, layers=3)


@pytest.mark.parametrize("name", list(SHAPES))
@pytest.mark.parametrize("precision", PRECISIONS)
def test_is_what_numpy_computes(runner: Runner, name: str, precision: FusedPrecision) -> None:
    shape = SHAPES[name]
    rows = random_texts(7, LENGTHS)
    wanted = np.array([Exact(random_encoder(shape), shape).encode(row) for row in rows])
    got = encode(runner.open(fused(shape, precision)), rows).astype(float)
    lengths = np.linalg.norm(got, axis=1), np.linalg.norm(wanted, axis=1)
    cosines = np.einsum("nd,nd->n", got, wanted) / lengths[0] / lengths[1]
    assert cosines.min() >= LEAST_COSINE[precision]
    np.testing.assert_allclose(*lengths, rtol=1e-5 if precision == "fp32" else 0.05)


@pytest.fixture(scope="module", params=PRECISIONS)
def model(request: pytest.FixtureRequest) -> onnx.ModelProto:
    """A graph of each precision."""
    return fused(WIDE, request.param)


class TestBits:
    """Equal to the last bit."""

    @settings(max_examples=20)
    @given(data=st.data())
    def test_alone_is_as_in_any_company(
        self, runner: Runner, model: onnx.ModelProto, data: st.DataObject
    ) -> None:
        lengths = data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=12))
        rows = random_texts(3, lengths)
        order = data.draw(st.permutations(range(len(rows))))
        session = runner.open(model)
        alone = np.concatenate([encode(session, [row]) for row in rows])
        together = encode(session, [rows[index] for index in order])
        np.testing.assert_array_equal(together, alone[order])

    def test_again_and_on_many_threads(self, runner: Runner, model: onnx.ModelProto) -> None:
        rows = random_texts(4, [1 + 37 * n % 150 for n in range(100)])
        session = runner.open(model)
        alone = np.concatenate([encode(session, [row]) for row in rows])
        with ThreadPoolExecutor(4) as pool:
            again = list(pool.map(lambda row: encode(session, [row])[0], rows))
        np.testing.assert_array_equal(again, alone)

    def test_every_instruction_set_agrees(
        self, runners: dict[str, Runner], model: onnx.ModelProto
    ) -> None:
        rows = random_texts(5, LENGTHS)
        vectors = [encode(runner.open(model), rows) for runner in runners.values()]
        for other in vectors[1:]:
            np.testing.assert_array_equal(other, vectors[0])

    def test_empty_texts_are_zeros_and_change_no_other(
        self, runner: Runner, model: onnx.ModelProto
    ) -> None:
        rows = random_texts(6, [0, 9, 0, 0, 30, 0])
        session = runner.open(model)
        vectors = encode(session, rows)
        assert not vectors[[0, 2, 3, 5]].any()
        np.testing.assert_array_equal(vectors[[1, 4]], encode(session, [rows[1], rows[4]]))
        assert not encode(session, [rows[0]]).any()
