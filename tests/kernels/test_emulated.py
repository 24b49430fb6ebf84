"""Instruction sets that this machine lacks, in an emulator: their bits are those of all others."""

from __future__ import annotations

import hashlib
import shutil
import struct
import subprocess
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper

from tests.artifacts import REPOSITORY
from tests.kernels.reference import random_texts
from tests.kernels.running import fused
from tests.kernels.test_promise import HASHES, fixed_model, fixed_texts
from tests.kernels.test_vectors import LEAST_COSINE, SHAPES
from unitvec_export.quantize.fused import FusedPrecision

pytestmark = pytest.mark.deep
ARM = "aarch64-linux-gnu"
ARM_TOOLS = (f"{ARM}-g++", f"{ARM}-ld", f"{ARM}-objcopy", "qemu-aarch64-static")
# In the order in which run_model.cpp reads them.
ATTRIBUTES = (
    *("layout", "hidden", "heads", "ffn", "group", "layers", "positions", "pad_position"),
    *("relative", "precision", "gelu", "pooling", "normalize"),
)


def build_run_model(build: Path, settings: dict[str, str | None]) -> Path:
    """The program that runs a model on the instruction set that it is told."""
    options = [f"-D{name}={value}" for name, value in settings.items()]
    configure = [
        "-S",
        str(REPOSITORY / "kernels"),
        "-B",
        str(build),
        "-DUNITVEC_TESTS=ON",
        *options,
    ]
    for command in (configure, ["--build", str(build), "--target", "run_model"]):
        subprocess.run(["cmake", *command], check=True, capture_output=True)
    return build / "run_model"


def need(*tools: str) -> None:
    """Skips where one is not there."""
    if missing := [tool for tool in ("cmake", *tools) if not shutil.which(tool)]:
        pytest.skip(f"needs {', '.join(missing)}")


@pytest.fixture(scope="session")
def run_neon(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command for ARM."""
    need(*ARM_TOOLS)
    system = {
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": "aarch64",
        "CMAKE_CXX_COMPILER": f"{ARM}-g++",
        "CMAKE_LINKER": shutil.which(f"{ARM}-ld"),
        "CMAKE_OBJCOPY": shutil.which(f"{ARM}-objcopy"),
    }
    program = build_run_model(tmp_path_factory.mktemp("arm"), system)
    return ["qemu-aarch64-static", "-cpu", "max", str(program), "neon"]


@pytest.fixture(scope="session")
def run_amx(kernels: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command for AMX, whose tiles are C++ and whose other instructions are this machine's."""
    need()
    here = {backend.name for backend in kernels.backends() if backend.is_supported}
    if "avx512" not in here:
        pytest.skip("needs AVX-512")
    return [str(build_run_model(tmp_path_factory.mktemp("amx"), {})), "amx_emulated"]


@pytest.mark.parametrize("precision", list(HASHES))
def test_neon_has_the_bits_of_all_others(run_neon: list[str], precision: FusedPrecision) -> None:
    assert hash_of_vectors(run_neon, precision) == HASHES[precision]


@pytest.mark.parametrize("precision", ["fp32", "int16", "int8"])
def test_amx_has_the_bits_of_all_others(run_amx: list[str], precision: FusedPrecision) -> None:
    """Where a CPU would refuse the shapes of tiles, the program ends with an error."""
    assert hash_of_vectors(run_amx, precision) == HASHES[precision]


@pytest.mark.parametrize("name", list(SHAPES))
@pytest.mark.parametrize("precision", ["int16", "int8"])
def test_amx_agrees_on_every_shape(
    run_amx: list[str], name: str, precision: FusedPrecision
) -> None:
    """Alone and in company, with few rows and with many: int16 is cut in bytes from 9 rows on."""
    program, _ = run_amx
    model = fused(SHAPES[name], precision)
    for lengths in ([1], [8], [9], [23], [1, 0, 7, 15, 16, 33, 70]):
        given = flatten(model, random_texts(11, lengths))
        vectors = vectors_of(run_amx, given)
        assert len(vectors) == 4 * SHAPES[name].hidden * len(lengths)
        assert vectors == vectors_of([program, "avx512"], given)


def test_amx_sums_bf16_in_an_order_of_its_own(run_amx: list[str]) -> None:
    """Its vectors are near those of all others, and a text's do not depend on its company."""
    run_others = [run_amx[0], "avx512_alone"]
    rows = fixed_texts()
    together, elsewhere = (run_fixed(command, rows) for command in (run_amx, run_others))
    assert hashlib.sha256(elsewhere.tobytes()).hexdigest()[:16] == HASHES["bf16"]
    assert not np.array_equal(together, elsewhere)
    assert np.einsum("nd,nd->n", together, elsewhere).min() >= LEAST_COSINE["bf16"]
    alone = [run_fixed(run_amx, [row])[0] for row in rows]
    np.testing.assert_array_equal(together, alone)


def run_fixed(command: list[str], rows: list[np.ndarray]) -> npt.NDArray[np.float32]:
    """Vectors of texts by the model of `test_promise` in bf16."""
    vectors = vectors_of(command, flatten(fixed_model("bf16"), rows))
    return np.frombuffer(vectors, np.float32).reshape(len(rows), -1)


def hash_of_vectors(command: list[str], precision: FusedPrecision) -> str:
    """The hash as `test_promise` has it."""
    given = flatten(fixed_model(precision), fixed_texts())
    return hashlib.sha256(vectors_of(command, given)).hexdigest()[:16]


def vectors_of(command: list[str], given: bytes) -> bytes:
    """What run_model makes of a model and texts."""
    return subprocess.run(command, input=given, check=True, capture_output=True).stdout


def flatten(model: onnx.ModelProto, rows: list[np.ndarray]) -> bytes:
    """What run_model reads."""
    values = {
        attribute.name: onnx.helper.get_attribute_value(attribute)
        for attribute in model.graph.node[0].attribute
    }
    constants = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    starts = np.cumsum([0, *map(len, rows)])
    arrays = [*constants, np.concatenate(rows).astype(np.int64), starts.astype(np.int64)]
    integers = [values[name] for name in ATTRIBUTES]
    counts = [array.size for array in arrays]
    head = struct.pack(f"<{len(integers)}qf{len(counts)}q", *integers, values["epsilon"], *counts)
    return head + b"".join(array.tobytes() for array in arrays)
