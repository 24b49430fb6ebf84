"""Instruction sets that this machine lacks, in an emulator: their bits are those of all others."""

from __future__ import annotations

import hashlib
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.artifacts import REPOSITORY
from tests.kernels.test_promise import HASHES, fixed_model, fixed_texts
from unitvec_export.quantize.fused import FusedPrecision

ARM = "aarch64-linux-gnu"
TOOLS = ("cmake", f"{ARM}-g++", f"{ARM}-ld", f"{ARM}-objcopy", "qemu-aarch64-static")
MISSING = [tool for tool in TOOLS if not shutil.which(tool)]
pytestmark = [
    pytest.mark.deep,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
]
# In the order in which run_model.cpp reads them.
ATTRIBUTES = (
    *("layout", "hidden", "heads", "ffn", "group", "layers", "positions", "pad_position"),
    *("relative", "precision", "gelu", "pooling", "normalize"),
)


@pytest.fixture(scope="session")
def run_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program for ARM."""
    build = tmp_path_factory.mktemp("arm")
    system = {
        "UNITVEC_TESTS": "ON",
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": "aarch64",
        "CMAKE_CXX_COMPILER": f"{ARM}-g++",
        "CMAKE_LINKER": shutil.which(f"{ARM}-ld"),
        "CMAKE_OBJCOPY": shutil.which(f"{ARM}-objcopy"),
    }
    settings = [f"-D{name}={value}" for name, value in system.items()]
    configure = ["-S", str(REPOSITORY / "kernels"), "-B", str(build), *settings]
    for command in (configure, ["--build", str(build), "--target", "run_model"]):
        subprocess.run(["cmake", *command], check=True, capture_output=True)
    return build / "run_model"


@pytest.mark.parametrize("precision", list(HASHES))
def test_neon_has_the_bits_of_all_others(run_model: Path, precision: FusedPrecision) -> None:
    command = ["qemu-aarch64-static", "-cpu", "max", str(run_model), "neon"]
    given = flatten(fixed_model(precision), fixed_texts())
    vectors = subprocess.run(command, input=given, check=True, capture_output=True).stdout
    assert hashlib.sha256(vectors).hexdigest()[:16] == HASHES[precision]


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
