"""Random runs of the operator, right and wrong ones: `python -m tests.kernels.fuzzing [CASES]`.

For a library built with sanitizers, which end the process where it reads or writes beyond what it
may; `make fuzz-kernels` builds one and preloads what it needs. UNITVEC_LIBRARY is the file. It has
AMX in C++ as well, of which few cases are run: each takes some hundred times as long.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

from tests.kernels.reference import VOCABULARY, Shape
from tests.kernels.running import PRECISIONS, Runner, fused, run

SHAPES = (
    Shape(ffn=320),
    Shape(hidden=128, head=64, relative=True, pad_position=1, pooling="cls"),
    Shape(hidden=192, gelu="tanh", normalized=False),
)
WRONG_STARTS = (-(2**63), -1, 1, 511, 2**31, 2**62, 2**63 - 1)
WRONG_IDS = (-(2**63), -1, VOCABULARY, 2**31, 2**62, 2**63 - 1)


def main() -> None:
    """Runs so many cases on every instruction set, precision and shape."""
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    library = Path(os.environ["UNITVEC_LIBRARY"])
    rng = np.random.default_rng()
    for backend in supported(library):
        count = -(-cases // 25) if backend == "amx_emulated" else cases
        for shape in SHAPES:
            for precision in PRECISIONS:
                session = Runner(library, backend).open(fused(shape, precision))
                refused = sum(not runs(session, rng) for _ in range(count))
                print(f"{backend} {precision} {shape}: {count} runs, {refused} refused", flush=True)


def supported(library: Path) -> list[str]:
    """The instruction sets that the library has and this CPU can run."""
    describe = ctypes.CDLL(str(library)).unitvec_backends
    describe.restype = ctypes.c_char_p
    lines = [line.split("\t") for line in describe().decode().splitlines()]
    return [name for name, answer, _ in lines if answer == "yes"]


def runs(session: ort.InferenceSession, rng: np.random.Generator) -> bool:
    """One random run; False if it was refused."""
    lengths = rng.choice([0, 1, 2, 13, 15, 33, 64, 200, 512, 513], rng.integers(0, 7))
    starts = np.cumsum([0, *lengths])
    ids = rng.integers(0, VOCABULARY, starts[-1])
    if rng.random() < 0.2:
        starts[rng.integers(len(starts))] = rng.choice(WRONG_STARTS)
    if len(ids) and rng.random() < 0.2:
        ids[rng.integers(len(ids))] = rng.choice(WRONG_IDS)
    try:
        vectors = run(session, ids, starts)
    except Exception as exc:
        if any(part in str(exc) for part in ("starts must", "too long", "not in the vocabulary")):
            return False
        raise
    assert np.isfinite(vectors).all()
    return True


if __name__ == "__main__":
    main()
