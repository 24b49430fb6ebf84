"""Tensors and parameters of the Open Inference Protocol, well-formed and hostile."""

from __future__ import annotations

import math
import struct
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from unitvec_protos.inference import inference_pb2 as pb
from unitvec_server.config import ServerConfig
from unitvec_server.engine.requests import EncodeOptions, IdsList, TextList
from unitvec_server.errors import InvalidRequest
from unitvec_server.model.tokenizer import Truncation
from unitvec_server.peers.inference_options import read_deadline_s, read_options
from unitvec_server.peers.inference_tensors import read_output_name, read_tensors

MOST = 8
LIMITS = ServerConfig(max_texts_per_request=MOST, max_queued_tokens=40)
OPTIONS = EncodeOptions()
TEXTS = st.lists(st.text(), max_size=MOST)
NUMBERS = st.integers(-(2**63), 2**63 - 1)
SHAPES = st.lists(st.one_of(st.integers(-2, 9), NUMBERS), max_size=4)
Tensor = pb.ModelInferRequest.InferInputTensor


def raw_of(texts: list[str]) -> bytes:
    """BYTES as they are on the wire."""
    parts = [text.encode() for text in texts]
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def tensor(kind: str, shape: list[int], name: str = "text", **contents: Any) -> Tensor:
    made = Tensor(name=name, datatype=kind, shape=shape)
    if contents:
        made.contents.MergeFrom(pb.InferTensorContents(**contents))
    return made


def read(*tensors: Tensor, raw: list[bytes] | None = None) -> TextList | IdsList:
    request = pb.ModelInferRequest(inputs=tensors, raw_input_contents=raw)
    return read_tensors(request, OPTIONS, limits=LIMITS)


def refuses(
    *tensors: Tensor, raw: list[bytes] | None = None, match: str | None = None
) -> InvalidRequest:
    with pytest.raises(InvalidRequest, match=match) as caught:
        read(*tensors, raw=raw)
    return caught.value


class TestTexts:
    @given(texts=TEXTS, deep=st.booleans(), raw=st.booleans(), name=st.text())
    def test_come_back_in_every_form(
        self, texts: list[str], deep: bool, raw: bool, name: str
    ) -> None:
        shape = [len(texts), 1] if deep else [len(texts)]
        if raw:
            found = read(tensor("BYTES", shape, name), raw=[raw_of(texts)])
        else:
            elements = [text.encode() for text in texts]
            found = read(tensor("BYTES", shape, name, bytes_contents=elements))
        assert found == TextList(texts, OPTIONS, "inputs[0]")

    @given(data=st.binary(max_size=64), shape=SHAPES)
    def test_whatever_bytes_and_shapes_say_they_are_texts_or_refused(
        self, data: bytes, shape: list[int]
    ) -> None:
        try:
            found = read(tensor("BYTES", shape), raw=[data])
        except InvalidRequest:
            return
        assert raw_of(list(found.texts)) == data
        assert shape in ([len(found.texts)], [len(found.texts), 1])

    @pytest.mark.parametrize(
        ("raw", "match"),
        [
            (struct.pack("<I", 2**32 - 1) + b"a", "ends beyond"),
            (b"\x01\x00", "ends beyond"),
            (raw_of(["a", "b", "c"]), "not as many"),
            (raw_of(["a"]), "not as many"),
            (raw_of([""] * 100_000), "not as many"),
            (struct.pack("<I", 1) + b"\xff" + raw_of(["b"]), r"inputs\[0\]\[0\] is not UTF-8"),
        ],
        ids=["length", "cut", "more", "fewer", "many more", "encoding"],
    )
    def test_lies(self, raw: bytes, match: str) -> None:
        assert refuses(tensor("BYTES", [2]), raw=[raw], match=match).reason == "WRONG_TENSOR"

    def test_too_many_are_refused_before_they_are_read(self) -> None:
        error = refuses(tensor("BYTES", [2**62]), raw=[b"rubbish"])
        assert (error.reason, error.field) == ("TOO_MANY_TEXTS", "inputs[0]")


class TestIds:
    IDS = np.array([[2, 7, 3], [2, 3, 0]])

    def test_the_mask_tells_which_count(self) -> None:
        mask, types = np.array([[1, 1, 1], [1, 1, 0]]), np.zeros((2, 3), int)
        arrays = {"input_ids": self.IDS, "attention_mask": mask, "token_type_ids": types}
        tensors = [tensor("INT64", [2, 3], name) for name in arrays]
        raw = [array.astype("<i8").tobytes() for array in arrays.values()]
        expected = IdsList([[2, 7, 3], [2, 3]], OPTIONS, "inputs[0]")
        assert read(*tensors, raw=raw) == expected
        assert read(*tensors[::-1], raw=raw[::-1]).ids == expected.ids
        typed = [
            tensor("INT64", [2, 3], name, int64_contents=array.ravel().tolist())
            for name, array in arrays.items()
        ]
        assert read(*typed) == expected

    def test_without_a_mask_all_count(self) -> None:
        raw = [self.IDS.astype("<i8").tobytes()]
        assert read(tensor("INT64", [2, 3], "input_ids"), raw=raw).ids == self.IDS.tolist()

    @given(data=st.binary(max_size=64), shape=SHAPES)
    @example(data=b"", shape=[0, 2**62])
    @example(data=b"", shape=[3, 0])
    def test_whatever_bytes_and_shapes_say_they_are_ids_or_refused(
        self, data: bytes, shape: list[int]
    ) -> None:
        try:
            found = read(tensor("INT64", shape, "input_ids"), raw=[data])
        except InvalidRequest:
            return
        assert np.array(found.ids, "<i8").tobytes() == data
        assert shape[0] == len(found.ids)

    @pytest.mark.parametrize("raw", [[b"rubbish"], None])
    def test_too_many_are_refused_before_they_are_read(self, raw: list[bytes] | None) -> None:
        error = refuses(tensor("INT64", [2, 21], "input_ids"), raw=raw, match="42 token ids")
        assert (error.reason, error.field) == ("TOO_MANY_TOKENS", "inputs[0]")

    @pytest.mark.parametrize(
        ("name", "values", "match"),
        [
            ("attention_mask", [[1, 1, 2], [1, 1, 0]], "0 and 1 only"),
            ("attention_mask", [[1, 1], [1, 1]], "shape of attention_mask"),
            ("token_type_ids", [[0, 0, 1], [0, 0, 0]], "other than 0"),
        ],
    )
    def test_what_does_not_fit(self, name: str, values: list[list[int]], match: str) -> None:
        other = np.array(values, "<i8")
        tensors = [tensor("INT64", [2, 3], "input_ids"), tensor("INT64", [*other.shape], name)]
        refuses(*tensors, raw=[self.IDS.astype("<i8").tobytes(), other.tobytes()], match=match)


@pytest.mark.parametrize(
    "tensors",
    [
        [],
        [tensor("FP32", [1, 2], fp32_contents=[1, 2])],
        [tensor("BYTES", [1], bytes_contents=[b"a"])] * 2,
        [tensor("INT64", [1, 1], "ids", int64_contents=[1])],
        [tensor("INT64", [1, 1], "input_ids", int64_contents=[1])] * 2,
        [tensor("INT64", [1, 1], "attention_mask", int64_contents=[1])],
        [tensor("INT32", [1, 1], "input_ids", int_contents=[1])],
    ],
)
def test_tensors_of_neither_kind(tensors: list[Tensor]) -> None:
    error = refuses(*tensors, match="send one BYTES tensor of texts")
    assert (error.reason, error.field) == ("WRONG_TENSOR", "inputs")


def test_both_forms_of_contents() -> None:
    refuses(tensor("BYTES", [1], bytes_contents=[b"a"]), raw=[raw_of(["a"])], match="not both")


def test_raw_contents_of_another_number_of_tensors() -> None:
    assert refuses(tensor("BYTES", [1]), raw=[b"", b""]).field == "raw_input_contents"


def test_shared_memory_is_refused() -> None:
    shared = tensor("BYTES", [1])
    shared.parameters["shared_memory_region"].string_param = "mine"
    refuses(shared, match="shared memory is not read")


class TestParameters:
    @staticmethod
    def make(**values: Any) -> Any:
        """Parameters as tritonclient makes them."""
        request = pb.ModelInferRequest()
        for name, value in values.items():
            kind = {bool: "bool", int: "int64", str: "string", float: "double"}[type(value)]
            setattr(request.parameters[name], f"{kind}_param", value)
        return request.parameters

    @pytest.mark.parametrize(
        ("values", "options"),
        [
            ({}, EncodeOptions()),
            ({"normalize": False}, EncodeOptions(normalize=False)),
            ({"normalize": True, "dimensions": 64}, EncodeOptions(dimensions=64)),
            ({"prompt_name": "query"}, EncodeOptions(prompt_name="query")),
            ({"prompt_name": ""}, EncodeOptions(prompt_name="")),
            ({"truncate": "END"}, EncodeOptions(side=Truncation.END)),
            ({"truncate": "start"}, EncodeOptions(side=Truncation.START)),
            ({"truncate": "error"}, EncodeOptions(refuses_long=True)),
            ({"priority": 3, "sequence_id": 7, "triton_x": True}, EncodeOptions()),
        ],
        ids=str,
    )
    def test_options(self, values: dict[str, Any], options: EncodeOptions) -> None:
        assert read_options(self.make(**values)) == options

    @pytest.mark.parametrize(
        "values",
        [
            {"normalise": True},
            {"normalize": "true"},
            {"dimensions": -1},
            {"dimensions": True},
            {"dimensions": 8.0},
            {"prompt_name": 3},
            {"truncate": "middle"},
        ],
        ids=str,
    )
    def test_wrong_ones(self, values: dict[str, Any]) -> None:
        [name] = values
        with pytest.raises(InvalidRequest) as caught:
            read_options(self.make(**values))
        assert (caught.value.reason, caught.value.field) == (
            "INVALID_PARAMETER",
            f"parameters[{name}]",
        )

    def test_a_parameter_without_a_value(self) -> None:
        request = pb.ModelInferRequest()
        request.parameters["normalize"].SetInParent()
        with pytest.raises(InvalidRequest, match="is a bool"):
            read_options(request.parameters)

    def test_the_timeout_is_in_microseconds(self) -> None:
        assert read_deadline_s(self.make()) == math.inf
        before_s = time.monotonic()
        assert before_s + 5 <= read_deadline_s(self.make(timeout=5_000_000))
        with pytest.raises(InvalidRequest, match="not negative"):
            read_deadline_s(self.make(timeout=-1))


class TestOutput:
    Output = pb.ModelInferRequest.InferRequestedOutputTensor

    def test_is_named_by_the_caller(self) -> None:
        assert read_output_name(pb.ModelInferRequest()) == "embedding"
        outputs = [self.Output(name="sentence_embedding")]
        assert read_output_name(pb.ModelInferRequest(outputs=outputs)) == "sentence_embedding"

    def test_there_is_one(self) -> None:
        outputs = [self.Output(name="a"), self.Output(name="b")]
        with pytest.raises(InvalidRequest, match="one output"):
            read_output_name(pb.ModelInferRequest(outputs=outputs))
