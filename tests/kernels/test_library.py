"""The library itself: what it shows, what it needs, and what the compiler made of its loops."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

needs_objdump = pytest.mark.skipif(not shutil.which("objdump"), reason="needs objdump")

# Multiply-adds of all kinds that products are made of.
_PRODUCT = re.compile(r"vpdpbusd|vpdpwssd|vdpbf16|vpmaddwd|vpmaddubsw|vfmadd231ps|sdot|smlal|fmla")
_BACKWARD = re.compile(r"^j\w+\s+([0-9a-f]+)")
_SPILL = re.compile(r"%[xyz]mm\d+.*\(%r[sb]p|\(%r[sb]p.*%[xyz]mm")
_LEAST_PRODUCTS, _LEAST_SHARE = 8, 0.2
"""Of a loop that is a tile's, and of its instructions: what polynomials are made of is sparser."""


def objdump(*arguments: object) -> str:
    """What objdump prints."""
    command = ["objdump", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@needs_objdump
def test_only_the_entry_points_are_exported(library: Path) -> None:
    """Anything else could be taken for a symbol of the same name in another library."""
    symbols = [line.split() for line in objdump("-T", library).splitlines()]
    shown = {words[-1] for words in symbols if len(words) > 5 and "*UND*" not in words}
    assert shown == {"RegisterCustomOps", "unitvec_backends"}


@needs_objdump
def test_needs_nothing_beyond_the_c_library(library: Path) -> None:
    needed = re.findall(r"NEEDED\s+(\S+)", objdump("-p", library))
    assert all(re.match(r"(libc|libm|ld-linux[-\w]*)\.so", name) for name in needed)


def test_lists_what_this_cpu_has(kernels: ModuleType) -> None:
    backends = kernels.backends()
    assert len({backend.name for backend in backends}) == len(backends) > 0
    described = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    flags = set(re.findall(r"^(?:flags|Features)\s*:(.*)$", described, re.MULTILINE)[0].split())
    for backend in backends:
        assert backend.is_supported == (set(backend.needs) <= flags)


def test_the_fastest_is_chosen_and_another_can_be_forced(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UNITVEC_ISA", raising=False)
    here = [backend for backend in kernels.backends() if backend.is_supported]
    assert kernels.choose() == here[0]
    monkeypatch.setenv("UNITVEC_ISA", here[-1].name)
    assert kernels.choose() == here[-1]


def test_what_cannot_run_is_refused(kernels: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNITVEC_ISA", "sse9")
    with pytest.raises(kernels.Unsupported, match=r"UNITVEC_ISA is sse9; it can be \w+"):
        kernels.choose()


@needs_objdump
@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads the assembly of x86-64")
def test_product_loops_keep_their_sums_in_registers(library: Path) -> None:
    """A sum that a compiler keeps in memory makes a product several times as slow."""
    loops = list(innermost_loops(objdump("-d", "--no-show-raw-insn", library), is_product))
    assert len(loops) > 50
    spilled = [line for loop in loops for line in loop if _SPILL.search(line)]
    assert spilled == []


@needs_objdump
@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads the assembly of x86-64")
def test_loops_of_tiles_multiply_what_is_meant(library: Path) -> None:
    """Instructions of AMX, which other tests replace. objdump prints: weights, left side, sum."""
    loops = list(innermost_loops(objdump("-d", "--no-show-raw-insn", library), multiplies_tiles))
    found = {frozenset(" ".join(line.split()) for line in loop if "tdp" in line) for loop in loops}
    int8 = {
        *("tdpbusd %tmm6,%tmm4,%tmm0", "tdpbusd %tmm7,%tmm4,%tmm1"),
        *("tdpbusd %tmm6,%tmm5,%tmm2", "tdpbusd %tmm7,%tmm5,%tmm3"),
    }
    int16 = {
        *("tdpbuud %tmm6,%tmm4,%tmm0", "tdpbusd %tmm7,%tmm4,%tmm1"),
        *("tdpbsud %tmm6,%tmm5,%tmm2", "tdpbssd %tmm7,%tmm5,%tmm3"),
    }
    bf16 = {line.replace("tdpbusd", "tdpbf16ps") for line in int8}
    assert {frozenset(int8), frozenset(int16), frozenset(bf16)} <= found
    slow = re.compile(r"\(%r[sb]p|call|ldtilecfg")
    assert [line for loop in loops for line in loop if slow.search(line)] == []


def is_product(loop: list[str]) -> bool:
    """Of a tile in registers."""
    products = sum(bool(_PRODUCT.match(line)) for line in loop)
    return products >= max(_LEAST_PRODUCTS, _LEAST_SHARE * len(loop))


def multiplies_tiles(loop: list[str]) -> bool:
    """Those of AMX."""
    return any(line.startswith("tdp") for line in loop)


def innermost_loops(assembly: str, is_meant: Callable[[list[str]], bool]) -> Iterator[list[str]]:
    """Instructions of each loop that is meant and has no such loop inside."""
    lines = re.findall(r"^\s+([0-9a-f]+):\s+(\S.*)$", assembly, re.MULTILINE)
    addresses = [int(address, 16) for address, _ in lines]
    index = {address: number for number, address in enumerate(addresses)}
    loops = []
    for number, (_, text) in enumerate(lines):
        jump = _BACKWARD.match(text)
        if jump and (start := index.get(int(jump[1], 16), number + 1)) <= number:
            loops.append((start, number))
    inner: list[tuple[int, int]] = []
    for start, end in sorted(loops, key=lambda loop: loop[1] - loop[0]):
        body = [text for _, text in lines[start : end + 1]]
        is_outer = any(start <= first and last <= end for first, last in inner)
        if not is_outer and is_meant(body):
            inner.append((start, end))
            yield body
