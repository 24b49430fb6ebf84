"""A sentence encoder as one operator of ONNX Runtime, compiled for several instruction sets.

    options.register_custom_ops_library(str(library_path()))

makes a session accept graphs with the operator `unitvec:Encoder`. Which instruction set runs is
decided when the session is created: the fastest of this CPU, or the one that the environment
variable UNITVEC_ISA names.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import os
from pathlib import Path

__all__ = ["ARITHMETIC", "Backend", "Unsupported", "backends", "choose", "library_path"]

ARITHMETIC = 1
"""Version of what the operator computes, to the last bit. It goes up with the hashes in
`tests/kernels/test_promise.py`, and is a part of the fingerprint `bits` of every vector."""


class Unsupported(Exception):
    """This machine cannot run the operator, or not as asked for; says why."""


@dataclasses.dataclass(frozen=True)
class Backend:
    """Code for one instruction set.

    Attributes:
        name: As UNITVEC_ISA names it.
        is_supported: Whether this CPU has what it needs.
        needs: Features of the CPU, as in /proc/cpuinfo.
    """

    name: str
    is_supported: bool
    needs: tuple[str, ...]


def library_path() -> Path:
    """The compiled library.

    Raises:
        Unsupported: It was not built.
    """
    path = Path(__file__).parent / "libunitvec_kernels.so"
    if not path.is_file():
        raise Unsupported(f"{path} is missing; install unitvec-kernels again")
    return path


@functools.cache
def backends() -> tuple[Backend, ...]:
    """All instruction sets that there is code for, the fastest first.

    Raises:
        Unsupported: The library is missing or cannot be loaded.
    """
    try:
        library = ctypes.CDLL(str(library_path()))
    except OSError as exc:
        raise Unsupported(f"the library cannot be loaded: {exc}") from exc
    library.unitvec_backends.restype = ctypes.c_char_p
    lines: list[str] = library.unitvec_backends().decode().splitlines()
    return tuple(map(_parse, lines))


def choose() -> Backend:
    """The instruction set that a session created now would use.

    Raises:
        Unsupported: There is none.
    """
    asked = os.environ.get("UNITVEC_ISA", "")
    known = {backend.name: backend for backend in backends()}
    if asked:
        if asked not in known:
            raise Unsupported(f"UNITVEC_ISA is {asked}; it can be {', '.join(known)}")
        if not known[asked].is_supported:
            needs = " ".join(known[asked].needs)
            raise Unsupported(f"UNITVEC_ISA is {asked}, and this CPU lacks some of: {needs}")
        return known[asked]
    found = [backend for backend in known.values() if backend.is_supported]
    if not found:
        raise Unsupported(f"this CPU can run none of {', '.join(known)}")
    return found[0]


def _parse(line: str) -> Backend:
    name, supported, needs = line.split("\t")
    return Backend(name, supported == "yes", tuple(needs.split()))
