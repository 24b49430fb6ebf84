"""The operator as this machine has built it."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import pytest


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
