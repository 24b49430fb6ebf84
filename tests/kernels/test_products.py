"""Sums of products, compared with integers of Python, up to the largest that there can be."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.artifacts import REPOSITORY
from unitvec_export.quantize.fused import to_int16, to_panels

pytestmark = pytest.mark.deep  # compiles for half a minute

COLUMNS = 32
INT16_LEVELS = 8191
INT16_ROOM = (2**31 - 1) // INT16_LEVELS


class Products:
    """The products of one instruction set."""

    def __init__(self, library: Path, name: str) -> None:
        loaded = ctypes.CDLL(str(library))
        self._functions = {1: loaded[f"{name}_int8"], 2: loaded[f"{name}_int16"]}

    def multiply(self, left: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Left (rows, k) @ weights (k, 32), of int8 or int16; (rows, 32) float32."""
        rows, k = left.shape
        panel = ctypes.create_string_buffer(to_panels(weights, rows=k), weights.nbytes)
        starts = (-128 * weights.sum(axis=0, dtype=np.int64)).astype(np.int32)
        out = np.full((rows, COLUMNS), np.nan, np.float32)
        arguments = (np.ascontiguousarray(left), starts, out)
        at_left, at_starts, at_out = (ctypes.c_void_p(array.ctypes.data) for array in arguments)
        self._functions[left.itemsize](at_left, rows, k, panel, at_starts, at_out)
        return out


@pytest.fixture(scope="session")
def products(kernels: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> list[Products]:
    """One for each instruction set of this machine."""
    if not shutil.which("cmake"):
        pytest.skip("needs cmake")
    build = tmp_path_factory.mktemp("products")
    names = [backend.name for backend in kernels.backends() if backend.is_supported]
    if "avx512" in names:
        names.append("amx_emulated")  # its tiles in C++
    source = ["-S", str(REPOSITORY / "kernels"), "-B", str(build), "-DUNITVEC_TESTS=ON"]
    targets = [f"products_{name}" for name in names]
    for command in (source, ["--build", str(build), "--target", *targets]):
        subprocess.run(["cmake", *command], check=True, capture_output=True)
    return [Products(build / f"libproducts_{name}.so", name) for name in names]


def check(products: list[Products], left: np.ndarray, weights: np.ndarray) -> None:
    """Compares every instruction set with exact sums, rounded once to a float."""
    exact = left.astype(object) @ weights.astype(object)
    assert max(map(abs, exact.ravel())) < 2**31
    for one in products:
        np.testing.assert_array_equal(one.multiply(left, weights), exact.astype(np.float32))


@pytest.mark.parametrize("rows", [*range(1, 36), 100])
@pytest.mark.parametrize(("dtype", "most"), [(np.int8, 127), (np.int16, 200)])
def test_every_height_of_a_tile(
    products: list[Products], rows: int, dtype: type[np.integer], most: int
) -> None:
    """Sums are below 2^24, so that a float shows each of their bits."""
    rng = np.random.default_rng(rows)
    left = rng.integers(-most, most + 1, (rows, 192)).astype(dtype)
    check(products, left, rng.integers(-127, 128, (192, COLUMNS)).astype(dtype))


@settings(max_examples=50)
@given(data=st.data())
def test_int8_of_extreme_numbers(products: list[Products], data: st.DataObject) -> None:
    numbers = st.sampled_from([-127, -1, 0, 1, 126, 127])
    k = 64 * data.draw(st.sampled_from([1, 2, 6, 64]))
    signs = data.draw(arrays.arrays(np.int8, k, elements=numbers))
    left = np.stack([signs, np.sign(signs) * np.int8(127), np.full(k, -127, np.int8)])
    weights = np.repeat(data.draw(arrays.arrays(np.int8, (k, 1), elements=numbers)), COLUMNS, 1)
    weights[:, 1], weights[:, 2] = np.sign(signs) * np.int8(127), -127
    check(products, left, weights)


@settings(max_examples=50)
@given(data=st.data())
def test_int16_at_the_edge_of_32_bits(products: list[Products], data: st.DataObject) -> None:
    """Whatever the weights, export's scales keep the largest sum that a text could make."""
    k = 64 * data.draw(st.sampled_from([1, 2, 6, 24]))
    floats = st.one_of(
        st.floats(-(2.0**100), 2.0**100, width=32), st.sampled_from([0.0, 1e-38, -3.5, 1e9, -1e30])
    )
    column = data.draw(arrays.arrays(np.float32, (k, 1), elements=floats))
    equal = np.full((k, 1), data.draw(floats), np.float32)
    one = np.zeros((k, 1), np.float32)
    one[0] = data.draw(floats)
    weights, _ = to_int16(np.concatenate([column, equal, one] + [column] * (COLUMNS - 3), axis=1))
    assert np.abs(weights.astype(np.int64)).sum(axis=0).max() <= INT16_ROOM
    worst = [np.where(weights[:, c] < 0, -INT16_LEVELS, INT16_LEVELS) for c in range(3)]
    left = np.array([*worst, *(-row for row in worst)]).astype(np.int16)
    check(products, left, weights)
    check(products, np.tile(left, (3, 1)), weights)  # AMX cuts numbers in bytes from 9 rows on


@pytest.mark.parametrize("rows", [9, 16, 21])
@pytest.mark.parametrize("k", [64, 128, 384])
def test_int16_at_the_edges_of_their_bytes(products: list[Products], k: int, rows: int) -> None:
    """Where a byte changes its sign or carries into the other, and the largest weights."""
    rng = np.random.default_rng(rows * k)
    edges = np.array([0, 1, 127, 128, 129, 255, 256, 257, 511, 512, 8190, 8191])
    numbers = np.concatenate([edges, -edges])
    left = rng.choice(numbers, (rows, k)).astype(np.int16)
    weights = np.zeros((k, COLUMNS), np.int16)
    for column in range(COLUMNS):  # 6 of up to 32,768 and 7 of up to 8,191: within INT16_ROOM
        places = rng.permutation(k)[:13]
        weights[places[:6], column] = rng.choice([-32768, -32767, -32513, -32512, 32512, 32767], 6)
        weights[places[6:], column] = rng.choice(numbers, 7)
        left[column % rows, places] = INT16_LEVELS * np.sign(weights[places, column])
    check(products, left, weights)
