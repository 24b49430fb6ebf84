"""The operator as this machine has built it."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import pytest

from tests.kernels.running import Runner


@pytest.fixture(scope="session")
def kernels() -> ModuleType:
    """The package, skipped only where it cannot be built."""
    try:
        import unitvec_kernels
    except ImportError:
        if shutil.which("c++") or shutil.which("g++"):
            pytest.fail("unitvec-kernels is not installed: pip install ./kernels")
        pytest.skip("there is no C++ compiler to build unitvec-kernels with")
    return unitvec_kernels


@pytest.fixture(scope="session")
def library(kernels: ModuleType) -> Path:
    """The compiled library."""
    path: Path = kernels.library_path()
    return path


@pytest.fixture(scope="session")
def runners(kernels: ModuleType, library: Path) -> dict[str, Runner]:
    """One for each instruction set of this machine."""
    names = [backend.name for backend in kernels.backends() if backend.is_supported]
    return {name: Runner(library, name) for name in names}


@pytest.fixture(scope="session")
def runner(runners: dict[str, Runner]) -> Runner:
    """The fastest."""
    return next(iter(runners.values()))
