"""What CUDA needs of a machine: the NVIDIA driver, a device, and the libraries that pip brings.

onnxruntime finds none of these libraries by itself, and where one of the three is missing it goes
on without CUDA and logs lines that name files. So they are checked and loaded before its first
session, and what is missing is said in words.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import re
import sys
from collections.abc import Callable
from typing import Any

from unitvec_protos.installation import install_command

_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def _open_driver() -> Any:
    return ctypes.CDLL(_DRIVER)


def device_name(*, open_driver: Callable[[], Any] = _open_driver) -> str:
    """Name of the first device, such as ``NVIDIA H200``; empty where the driver tells none."""
    name = ctypes.create_string_buffer(256)
    with contextlib.suppress(OSError):
        driver = open_driver()
        driver.cuInit(0)
        driver.cuDeviceGetName(name, len(name), 0)
    return name.value.decode(errors="replace")


def why_no_cuda(onnxruntime: Any, *, open_driver: Callable[[], Any] = _open_driver) -> str:
    """Loads the CUDA libraries, unless the driver already rules CUDA out.

    Args:
        onnxruntime: The module, built with CUDA.
        open_driver: Returns the library of the NVIDIA driver, or raises OSError.

    Returns:
        What is missing, as words that go after a colon; empty if nothing is.
    """
    wanted = str(onnxruntime.cuda_version)
    return _driver_fault(wanted, open_driver) or _library_fault(onnxruntime)


def _driver_fault(wanted: str, open_driver: Callable[[], Any]) -> str:
    try:
        driver = open_driver()
    except OSError:
        return (
            f"the NVIDIA driver is missing ({_DRIVER} is not found); install it, or start the "
            "container with its GPUs"
        )
    if status := driver.cuInit(0):
        return f"the NVIDIA driver finds no GPU that it can use (cuInit returned {status})"
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    major, minor = version.value // 1000, version.value % 1000 // 10
    if major < int(wanted.partition(".")[0]):
        return (
            f"the NVIDIA driver is for CUDA {major}.{minor}, and this onnxruntime needs "
            f"CUDA {wanted}; update the driver"
        )
    return ""


def _library_fault(onnxruntime: Any) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):  # which is how it tells what it did not find
        onnxruntime.preload_dlls()
    failed = re.findall(r"^Failed to load (\S+):", printed.getvalue(), re.MULTILINE)
    if not failed:
        return ""
    names = ", ".join(dict.fromkeys(failed))
    return f"{names} cannot be loaded; in a fresh environment: {install_command('server-cuda')}"
