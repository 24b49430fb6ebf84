"""Sums of products: of integers up to the largest that there can be, and of bf16 bit by bit."""

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
from unitvec_export.quantize.fused import to_bf16, to_int16, to_panels

pytestmark = pytest.mark.deep  # compiles for half a minute

COLUMNS = 32
INT16_LEVELS = 8191
INT16_ROOM = (2**31 - 1) // INT16_LEVELS


class Products:
    """The products of one instruction set."""

    def __init__(self, library: Path, name: str) -> None:
        loaded = ctypes.CDLL(str(library))
        self.name = name
        self._multiply_bf16, self._round_bf16 = loaded[f"{name}_bf16"], loaded[f"{name}_round_bf16"]
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

    def multiply_bf16(self, left: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The same of float32 that are bf16."""
        rows, k = left.shape
        panel = ctypes.create_string_buffer(to_panels(to_bf16(weights), rows=k), 2 * weights.size)
        lines = to_bf16(left)
        out = np.full((rows, COLUMNS), np.nan, np.float32)
        at_left, at_out = (ctypes.c_void_p(array.ctypes.data) for array in (lines, out))
        self._multiply_bf16(at_left, rows, k, panel, at_out)
        return out

    def round_bf16(self, numbers: np.ndarray) -> np.ndarray:
        """(n,) float32, n a multiple of 32 -> (n,) uint16."""
        out = np.zeros(numbers.size, np.uint16)
        at_numbers, at_out = (ctypes.c_void_p(array.ctypes.data) for array in (numbers, out))
        self._round_bf16(at_numbers, numbers.size, at_out)
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
    if "avx512_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        names.append("avx512bf16")
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


@pytest.mark.parametrize("rows", [*range(1, 36), 100])
def test_every_height_of_a_tile_of_bf16(products: list[Products], rows: int) -> None:
    """Sums of integers below 2^24 are exact in any order, hence also on AMX."""
    rng = np.random.default_rng(rows)
    left, weights = rng.integers(-127, 128, (rows, 192)), rng.integers(-127, 128, (192, COLUMNS))
    for one in products:
        got = one.multiply_bf16(left.astype(np.float32), weights.astype(np.float32))
        np.testing.assert_array_equal(got, left @ weights)


# Sums that grow, cancel, and lose bits: of numbers around 1, down to the least and far up.
_BF16 = st.builds(
    lambda sign, significand, exponent: sign * np.ldexp(np.float32(significand), exponent),
    st.sampled_from([-1, 0, 1]),
    st.integers(128, 255),
    st.one_of(st.integers(-57, -45), st.integers(-10, 3), st.integers(40, 48)),
)


@settings(max_examples=50)
@given(data=st.data())
def test_bf16_is_two_fused_steps_for_each_dword(
    products: list[Products], data: st.DataObject
) -> None:
    """The upper number first, on every instruction set but AMX: VDPBF16PS as well as FMAs."""
    k = 32 * data.draw(st.sampled_from([1, 2, 6]))
    pool = data.draw(arrays.arrays(np.float32, 256, elements=_BF16))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    left, weights = rng.choice(pool, (15, k)), rng.choice(pool, (k, COLUMNS))
    sums = np.zeros((len(left), COLUMNS), np.float32)
    for upper in range(1, k, 2):
        for at in (upper, upper - 1):
            sums = fuse(left[:, at : at + 1], weights[at], sums)
    for one in products:
        if "amx" not in one.name:
            np.testing.assert_array_equal(one.multiply_bf16(left, weights), sums)


def fuse(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The sum a * b + c, rounded once, of bf16 a and b and float32 c."""
    product, c = a.astype(float) * b.astype(float), c.astype(float)  # the product is exact
    total = product + c
    rest = total - product
    error = (product - (total - rest)) + (c - rest)
    # The last bit is set where something was lost, so that the second rounding sees it.
    is_even = total.view(np.int64) & 1 == 0
    toward = np.copysign(np.inf, error)
    total = np.where((error != 0) & is_even, np.nextafter(total, toward), total)
    return total.astype(np.float32)


@settings(max_examples=50)
@given(
    numbers=arrays.arrays(
        np.float32, 64, elements=st.floats(-(2.0**120), 2.0**120, width=32) | _BF16
    )
)
def test_rounding_to_bf16(products: list[Products], numbers: np.ndarray) -> None:
    """To the nearest, halves to the even one, and to 0 below 2^-50; in export and everywhere."""
    halves = (numbers.view(np.uint32) & 0xFFFF0000 | 0x8000).view(np.float32)
    for exact in (numbers, halves):
        wanted = to_bf16(exact)
        back = (wanted.astype(np.uint32) << 16).view(np.float32)
        assert (np.abs(back - exact) <= np.maximum(np.abs(exact) * 2.0**-8, 2.0**-50)).all()
        for one in products:
            np.testing.assert_array_equal(one.round_bf16(exact), wanted)


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
