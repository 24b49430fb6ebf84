"""What is refused: texts that would read beyond what there is, and graphs that are not export's."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.kernels.reference import POSITIONS, VOCABULARY, Shape
from tests.kernels.running import Runner, fused, run

RAN_TOO_FAR = 2**62


@pytest.mark.parametrize(
    ("ids", "starts", "message"),
    [
        ([VOCABULARY], [0, 1], "an id is not in the vocabulary"),
        ([-1], [0, 1], "an id is not in the vocabulary"),
        ([2**62], [0, 1], "an id is not in the vocabulary"),
        ([1, 2, 3], [0, 2], "starts must go from 0 to the number of ids"),
        ([1, 2, 3], [1, 3], "starts must go from 0 to the number of ids"),
        ([1, 2, 3], [], "starts must go from 0 to the number of ids"),
        ([1, 2, 3], [0, 2, 1, 3], "starts must not fall"),
        ([1, 2, 3], [0, RAN_TOO_FAR, 3], "starts must not fall"),
        ([1, 2, 3], [0, -RAN_TOO_FAR, 3], "starts must not fall"),
        ([1] * 513, [0, 513], "a text is too long"),
    ],
)
def test_texts(runner: Runner, ids: list[int], starts: list[int], message: str) -> None:
    session = runner.open(fused(Shape(), "int8"))
    with pytest.raises(Exception, match=message):
        run(session, ids, starts)
    assert run(session, [1, 2, 3], [0, 3]).any()


def test_a_text_longer_than_the_positions(runner: Runner) -> None:
    """Positions of RoBERTa's kind begin after the padding id."""
    model = fused(Shape(pad_position=9), "fp32")
    longest = POSITIONS - 10
    session = runner.open(model)
    assert run(session, [3] * longest, [0, longest]).any()
    with pytest.raises(Exception, match="a text is too long"):
        run(session, [3] * (longest + 1), [0, longest + 1])


def changed(model: onnx.ModelProto, name: str, value: Any) -> onnx.ModelProto:
    """A copy with another attribute or constant."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for attribute in copy.graph.node[0].attribute:
        if attribute.name == name:
            attribute.i = value
    for tensor in copy.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(value(numpy_helper.to_array(tensor)), name))
    return copy


def with_first(number: int, dtype: Any) -> Any:
    """Changes the first weights, all of one column."""

    def change(array: np.ndarray) -> np.ndarray:
        weights = array.copy().view(dtype)
        weights[: 16 * 32 * 64 : 64] = number
        return weights.view(np.int8)

    return change


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("layout", 2, "exported for another version"),
        ("hidden", 96, "no multiple of 64"),
        ("hidden", 0, "a size is out of range"),
        ("layers", 2**40, "a size is out of range"),
        ("layers", 3, "a constant is too short"),
        ("layers", 1, "a constant is too long"),
        ("heads", 8, "heads are not of 32 or 64"),
        ("group", 320, "groups do not fill"),
        ("positions", 1, "a constant is too long"),
        ("pad_position", 600, "there are no positions"),
        ("precision", 4, "the precision is unknown"),
        ("gelu", 2, "the activation is unknown"),
        ("pooling", 2, "the pooling is unknown"),
        ("floats", lambda array: array[:-1], "a constant is too short"),
        ("words", lambda array: array.ravel()[:-1], "another width"),
        ("weights", lambda array: np.append(array, array[:1]), "a constant is too long"),
    ],
)
def test_graphs(runner: Runner, name: str, value: Any, message: str) -> None:
    model = fused(Shape(), "int8")
    with pytest.raises(Exception, match=message):
        runner.open(changed(model, name, value))


def test_weights_whose_sums_could_overflow(runner: Runner) -> None:
    with pytest.raises(Exception, match="a weight of int8 is -128"):
        runner.open(changed(fused(Shape(), "int8"), "weights", with_first(-128, np.int8)))
    with pytest.raises(Exception, match="sums could overflow"):
        runner.open(changed(fused(Shape(), "int16"), "weights", with_first(32767, np.int16)))


@pytest.mark.parametrize("number", [0x0001, 0x267F, 0xA67F, 0x7F80, 0xFFC0])
def test_weights_of_bf16_that_are_tiny_or_not_finite(runner: Runner, number: int) -> None:
    """Products and sums of what is left are never denormal, which CPUs treat differently."""
    with pytest.raises(Exception, match="a weight of bf16 is out of range"):
        runner.open(changed(fused(Shape(), "bf16"), "weights", with_first(number, np.uint16)))
    for allowed in (0x0000, 0x8000, 0x2680, 0x7F7F):
        runner.open(changed(fused(Shape(), "bf16"), "weights", with_first(allowed, np.uint16)))


def test_an_instruction_set_that_is_not_there(runner: Runner) -> None:
    with pytest.raises(Exception, match=re.escape("there is no instruction set sse9; there are:")):
        Runner(runner._library, "sse9").open(fused(Shape(), "int8"))
