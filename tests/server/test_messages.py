"""Protobuf <-> domain."""

import numpy as np
import pytest

from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_server.engine.requests import Embedded, EncodeOptions
from unitvec_server.errors import InvalidRequest
from unitvec_server.model.tokenizer import TokenizedText, Truncation
from unitvec_server.rpc.messages import (
    read_dtype,
    read_matrix,
    read_options,
    write_matrix,
    write_rankings,
    write_timings,
    write_tokenized,
    write_usage,
)
from unitvec_server.vectors.packing import Dtype
from unitvec_server.vectors.scores import Rankings

VECTORS = np.array([[1.5, -2, 0], [0.25, 3, -1]], np.float32)


def embedded(tokens: list[int], truncated: list[int], *, time_ns: int = 0) -> Embedded:
    """What embedding cost."""
    left_out = {index: 10 + index for index in truncated}
    return Embedded(VECTORS, tokens, left_out, time_ns + 1, time_ns + 2, time_ns + 3)


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (pb.EncodeOptions(), EncodeOptions(True, 0, None, None, False)),
        (pb.EncodeOptions(normalize=False), EncodeOptions(normalize=False)),
        (pb.EncodeOptions(normalize=True, dimensions=7), EncodeOptions(dimensions=7)),
        (pb.EncodeOptions(prompt_name=""), EncodeOptions(prompt_name="")),
        (pb.EncodeOptions(prompt_name="q"), EncodeOptions(prompt_name="q")),
        (pb.EncodeOptions(truncate=pb.TRUNCATE_ERROR), EncodeOptions(refuses_long=True)),
        (
            pb.EncodeOptions(truncate=pb.TRUNCATE_START),
            EncodeOptions(side=Truncation.START),
        ),
    ],
)
def test_options(message: pb.EncodeOptions, options: EncodeOptions) -> None:
    """Unset is told from false and empty."""
    assert read_options(message) == options


class TestMatrix:
    """Matrices both ways."""

    def test_round_trip_as_bytes(self) -> None:
        np.testing.assert_array_equal(read_matrix(write_matrix(VECTORS), field="f"), VECTORS)

    def test_round_trip_as_list(self) -> None:
        message = write_matrix(VECTORS, as_list=True)
        assert list(message.values) == VECTORS.ravel().tolist()
        assert not message.data
        np.testing.assert_array_equal(read_matrix(message, field="f"), VECTORS)

    @pytest.mark.parametrize("dtype", list(Dtype))
    def test_says_what_it_is(self, dtype: Dtype) -> None:
        message = write_matrix(VECTORS, dtype=dtype)
        assert (message.rows, message.dim) == (2, 3)
        assert pb.Dtype.Name(message.dtype) == f"DTYPE_{dtype.name}"
        assert len(message.scales) == (2 if dtype is Dtype.INT8 else 0)

    @pytest.mark.parametrize(
        ("message", "reason"),
        [
            (pb.Matrix(), "WRONG_MATRIX_SIZE"),
            (pb.Matrix(rows=1, dim=2), "WRONG_MATRIX_SIZE"),
            (pb.Matrix(rows=1, dim=2, values=[1]), "WRONG_MATRIX_SIZE"),
            (pb.Matrix(rows=0, dim=0, values=[1]), "WRONG_MATRIX_SIZE"),
            (pb.Matrix(rows=2**32 - 1, dim=2**32 - 1, values=[1]), "WRONG_MATRIX_SIZE"),
            (pb.Matrix(rows=1, dim=1, values=[1], data=b"\0\0\0\0"), "INVALID_REQUEST"),
            (pb.Matrix(rows=1, dim=1, values=[1], dtype=pb.DTYPE_FLOAT16), "INVALID_REQUEST"),
            (pb.Matrix(rows=1, dim=1, values=[np.nan]), "VALUE_NOT_FINITE"),
            (pb.Matrix(rows=1, dim=1, values=[1e30]), "VALUE_NOT_FINITE"),
            (pb.Matrix(rows=1, dim=8, data=b"\0", dtype=pb.DTYPE_BINARY), "UNSUPPORTED_DTYPE"),
        ],
    )
    def test_malformed(self, message: pb.Matrix, reason: str) -> None:
        with pytest.raises(InvalidRequest) as caught:
            read_matrix(message, field="a.vectors")
        assert caught.value.reason == reason
        assert caught.value.field.startswith("a.vectors")

    @pytest.mark.parametrize("dtype", [pb.DTYPE_FLOAT16, pb.DTYPE_INT8, pb.DTYPE_BINARY])
    def test_only_float32_as_list(self, dtype: pb.Dtype) -> None:
        with pytest.raises(InvalidRequest, match="as_list") as caught:
            read_dtype(pb.EmbedRequest(dtype=dtype, as_list=True))
        assert caught.value.field == "as_list"


def test_usage_of_two_sides_is_one_list() -> None:
    """Indices of the second side go on where the first ends."""
    usage = write_usage([embedded([3, 4, 5], [1]), embedded([6, 7], [0, 1])])
    assert list(usage.tokens) == [3, 4, 5, 6, 7]
    assert list(usage.truncated) == [1, 3, 4]
    assert list(usage.left_out_tokens) == [11, 10, 11]
    assert usage.total_tokens == 25
    assert write_usage([]) == pb.Usage()


def test_timings_of_two_sides_are_the_longest() -> None:
    """They run side by side."""
    sides = [embedded([1], [], time_ns=10), embedded([1], [], time_ns=20)]
    assert write_timings(iter(sides), total_ns=99) == pb.Timings(
        tokenize_ns=21, queue_ns=22, infer_ns=23, total_ns=99
    )
    assert write_timings([], total_ns=5) == pb.Timings(total_ns=5)


def test_rankings() -> None:
    """One message for each query."""
    rankings = Rankings(np.array([[2, 0], [1, 2]]), np.array([[0.5, 0.25], [1, 0]], np.float32))
    first, second = write_rankings(rankings)
    assert (list(first.indices), list(first.scores)) == ([2, 0], [0.5, 0.25])
    assert (list(second.indices), list(second.scores)) == ([1, 2], [1, 0])


def test_tokenized() -> None:
    """Offsets as two lists."""
    text = TokenizedText(
        [101, 7, 102],
        ["[CLS]", "a", "[SEP]"],
        [(0, 0), (3, 4), (0, 0)],
        [True, False, True],
        3,
        (3, 4),
    )
    message = write_tokenized(text)
    assert (list(message.starts), list(message.ends)) == ([0, 3, 0], [0, 4, 0])
    assert (message.kept_tokens, message.kept_start, message.kept_end) == (3, 3, 4)
