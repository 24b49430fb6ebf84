"""Vectors after the model and on the wire, against numpy and the contract's own words."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from sklearn.preprocessing import normalize

from unitvec_server.errors import InvalidRequest
from unitvec_server.vectors.packing import (
    MAX_MAGNITUDE,
    Dtype,
    check_values,
    l2_normalize,
    pack,
    shape_embeddings,
    unpack,
)

shapes = nps.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)
values = st.floats(-1e4, 1e4, width=32)
matrices = nps.arrays(np.float32, shapes, elements=values)
subnormal = st.floats(-(2.0**-139), 2.0**-139, width=32)
EPS32 = float(np.finfo(np.float32).eps)


class TestNormalize:
    """Unit L2 norm."""

    @given(matrices)
    def test_as_sklearn(self, vectors: np.ndarray) -> None:
        unit = l2_normalize(vectors)
        big = np.linalg.norm(vectors.astype(np.float64), axis=1) > 1e-9
        assert unit.dtype == np.float32
        np.testing.assert_allclose(unit[big], normalize(vectors.astype(np.float64))[big], atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(unit[big], axis=1), 1, atol=1e-6)

    def test_zeros_stay_zeros(self) -> None:
        np.testing.assert_array_equal(l2_normalize(np.zeros((2, 3), np.float32)), np.zeros((2, 3)))

    @pytest.mark.parametrize("scale", [1e-10, 1.0, 1e15, 1e30])
    def test_neither_overflows_nor_underflows(self, scale: float) -> None:
        vectors = np.array([[3.0, 4.0]], np.float32) * np.float32(scale)
        np.testing.assert_allclose(l2_normalize(vectors), [[0.6, 0.8]], rtol=1e-6)

    def test_leaves_its_argument_alone(self) -> None:
        vectors = np.array([[3.0, 4.0]], np.float32)
        l2_normalize(vectors)
        np.testing.assert_array_equal(vectors, [[3.0, 4.0]])


class TestShape:
    """A request's options."""

    @given(matrices, st.data())
    def test_slice_then_renormalize(self, vectors: np.ndarray, data: st.DataObject) -> None:
        dimensions = data.draw(st.integers(0, vectors.shape[1]))
        kept = vectors[:, : dimensions or None]
        plain = shape_embeddings(vectors, normalize=False, dimensions=dimensions)
        np.testing.assert_array_equal(plain, kept)
        unit = shape_embeddings(vectors, normalize=True, dimensions=dimensions)
        np.testing.assert_array_equal(unit, l2_normalize(kept))

    def test_more_dimensions_than_there_are(self) -> None:
        with pytest.raises(InvalidRequest, match="dimensions is 5, the model has 4") as caught:
            shape_embeddings(np.ones((1, 4), np.float32), normalize=True, dimensions=5)
        assert caught.value.field == "options.dimensions"


class TestPack:
    """A matrix as bytes, read back by the contract's own description."""

    @given(matrices)
    def test_float32_is_exact(self, vectors: np.ndarray) -> None:
        data, scales = pack(vectors, Dtype.FLOAT32)
        np.testing.assert_array_equal(np.frombuffer(data, "<f4").reshape(vectors.shape), vectors)
        assert scales == []

    @given(matrices)
    def test_float16_rounds(self, vectors: np.ndarray) -> None:
        data, scales = pack(vectors, Dtype.FLOAT16)
        read = np.frombuffer(data, "<f2").reshape(vectors.shape).astype(np.float64)
        # Half a unit in the last place, or half of the smallest subnormal.
        assert (np.abs(read - vectors) <= np.maximum(np.abs(vectors) * 2.0**-11, 2.0**-25)).all()
        assert scales == []

    @given(matrices)
    def test_int8_is_within_half_a_step(self, vectors: np.ndarray) -> None:
        data, scales = pack(vectors, Dtype.INT8)
        factors = np.array(scales, np.float32)[:, None].astype(np.float64)
        read = np.frombuffer(data, np.int8).reshape(vectors.shape) * factors
        largest = np.abs(vectors).max(axis=1, keepdims=True)
        step = np.maximum(factors, 2.0**-149)
        assert (np.abs(read - vectors) <= step / 2 + 4 * EPS32 * largest + 128 * 2.0**-149).all()
        assert len(scales) == len(vectors)

    @given(nps.arrays(np.float32, shapes, elements=subnormal))
    def test_int8_never_wraps_round(self, vectors: np.ndarray) -> None:
        """Among subnormal numbers the scale is coarse."""
        read = np.frombuffer(pack(vectors, Dtype.INT8).data, np.int8).reshape(vectors.shape)
        assert (read * np.sign(vectors) >= 0).all()

    @given(matrices)
    def test_binary_is_the_sign(self, vectors: np.ndarray) -> None:
        data, scales = pack(vectors, Dtype.BINARY)
        rows, dim = vectors.shape
        width = -(-dim // 8)
        assert len(data) == rows * width
        for row in range(rows):
            bits = "".join(f"{byte:08b}" for byte in data[row * width : (row + 1) * width])
            assert bits[dim:] == "0" * (8 * width - dim)
            assert [bit == "1" for bit in bits[:dim]] == [value > 0 for value in vectors[row]]
        assert scales == []

    @pytest.mark.parametrize("dtype", list(Dtype))
    def test_every_other_row_of_a_wider_matrix(self, dtype: Dtype) -> None:
        """Views are packed as what they show."""
        wide = np.arange(48, dtype=np.float32).reshape(6, 8) - 20
        assert pack(wide[::2, 1:4], dtype) == pack(wide[::2, 1:4].copy(), dtype)

    @pytest.mark.parametrize("dtype", list(Dtype))
    def test_zeros(self, dtype: Dtype) -> None:
        data, scales = pack(np.zeros((2, 8), np.float32), dtype)
        assert set(data) == {0}
        assert set(scales) <= {0.0}


class TestUnpack:
    """Given vectors."""

    @given(matrices)
    def test_round_trip(self, vectors: np.ndarray) -> None:
        for dtype, kind in ((Dtype.FLOAT32, "<f4"), (Dtype.FLOAT16, "<f2")):
            rows, dim = vectors.shape
            data = pack(vectors, dtype).data
            read = unpack(data, rows=rows, dim=dim, dtype=dtype, field="f")
            assert read.dtype == np.float32
            np.testing.assert_array_equal(read, vectors.astype(kind))

    def test_a_row_that_is_no_vector_stays_none(self) -> None:
        """Warnings are errors here, so that none was made of NaN by chance."""
        vectors = np.array([[1, -2], [np.nan, np.nan], [0, 0]], np.float32)
        data, scales = pack(vectors, Dtype.INT8)
        codes = np.frombuffer(data, np.int8).reshape(vectors.shape)
        np.testing.assert_allclose(codes * np.array(scales)[:, None], vectors, atol=0.01)
        assert codes[1].tolist() == [0, 0]
        halves = np.frombuffer(pack(vectors, Dtype.FLOAT16).data, "<f2").reshape(vectors.shape)
        np.testing.assert_array_equal(halves, vectors)
        assert pack(vectors, Dtype.BINARY).data[1] == 0

    @pytest.mark.parametrize("dtype", [Dtype.INT8, Dtype.BINARY])
    def test_unsupported_dtype(self, dtype: Dtype) -> None:
        with pytest.raises(InvalidRequest) as caught:
            unpack(b"\0", rows=1, dim=1, dtype=dtype, field="a.vectors")
        assert (caught.value.reason, caught.value.field) == ("UNSUPPORTED_DTYPE", "a.vectors.dtype")

    @pytest.mark.parametrize(
        ("rows", "dim", "size"),
        [(1, 4, 15), (1, 4, 17), (0, 4, 0), (4, 0, 0), (0, 0, 0), (2**32 - 1, 2**32 - 1, 16)],
    )
    def test_wrong_size(self, rows: int, dim: int, size: int) -> None:
        with pytest.raises(InvalidRequest) as caught:
            unpack(bytes(size), rows=rows, dim=dim, dtype=Dtype.FLOAT32, field="f")
        assert (caught.value.reason, caught.value.field) == ("WRONG_MATRIX_SIZE", "f.data")

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize(("dtype", "kind"), [(Dtype.FLOAT32, "<f4"), (Dtype.FLOAT16, "<f2")])
    def test_not_finite(self, bad: float, dtype: Dtype, kind: str) -> None:
        vectors = np.ones((3, 4), kind)
        vectors[1, 2] = bad
        with pytest.raises(InvalidRequest, match="row 1, column 2") as caught:
            unpack(vectors.tobytes(), rows=3, dim=4, dtype=dtype, field="f")
        assert caught.value.reason == "VALUE_NOT_FINITE"

    @pytest.mark.parametrize("sign", [1, -1])
    def test_huge(self, sign: int) -> None:
        with pytest.raises(InvalidRequest):
            check_values(np.array([[sign * MAX_MAGNITUDE * 1.01]], np.float32), field="f")
        check_values(np.array([[sign * MAX_MAGNITUDE * 0.99]], np.float32), field="f")

    def test_largest_values_do_not_overflow_in_the_longest_vector(self) -> None:
        dim = 16 * 2**20 // 4  # as many float32 as a message of the default size holds
        vector = np.full(dim, MAX_MAGNITUDE * 0.999, np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.isfinite(np.linalg.norm(vector + vector))
            assert np.isfinite(vector @ vector)
