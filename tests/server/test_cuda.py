"""CUDA, as far as it goes without a GPU: what is missing is named, and only then is it used.

The library of the driver and the parts of onnxruntime-gpu that look for CUDA are stood in for;
with onnxruntime-gpu itself they behave as here.
"""

from __future__ import annotations

import ctypes
import logging
import re
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from unitvec_protos.installation import install_command
from unitvec_server.errors import ProviderError
from unitvec_server.model.cuda import why_no_cuda
from unitvec_server.model.encoder import Encoder, EncoderOptions, installed_providers


class Driver:
    """libcuda.so.1: how it starts, and the CUDA it is for."""

    def __init__(self, *, status: int = 0, version: int = 13_000) -> None:
        self.status = status
        self.version = version

    def cuInit(self, flags: int) -> int:
        return self.status

    def cuDriverGetVersion(self, pointer: Any) -> int:
        ctypes.cast(pointer, ctypes.POINTER(ctypes.c_int))[0] = self.version
        return 0


class Onnxruntime:
    """A build with CUDA that finds its libraries, but for some."""

    def __init__(self, *missing: str, cuda_version: str = "13.0") -> None:
        self.missing = missing
        self.cuda_version = cuda_version
        self.preloads = 0

    def preload_dlls(self) -> None:
        self.preloads += 1
        for name in self.missing:
            print(f"Failed to load {name}: {name}: cannot open shared object file: No such file")
        if self.missing:
            print("Please follow https://onnxruntime.ai/docs/install/ to install CUDA.")


def no_driver() -> Any:
    raise OSError("libcuda.so.1: cannot open shared object file: No such file or directory")


class TestWhyNoCuda:
    """One line, or none."""

    @pytest.mark.parametrize(("version", "cuda_version"), [(13_000, "13.0"), (13_020, "12.8")])
    def test_nothing_is_missing(
        self, version: int, cuda_version: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        runtime = Onnxruntime(cuda_version=cuda_version)
        assert why_no_cuda(runtime, open_driver=lambda: Driver(version=version)) == ""
        assert runtime.preloads == 1
        assert capsys.readouterr().out == ""

    def test_the_driver_is_missing(self) -> None:
        runtime = Onnxruntime("libcudart.so.13")
        assert why_no_cuda(runtime, open_driver=no_driver).startswith(
            "the NVIDIA driver is missing (libcuda.so.1 is not found); "
        )
        assert runtime.preloads == 0  # hundreds of megabytes that nobody could use

    def test_the_driver_finds_no_device(self) -> None:
        fault = why_no_cuda(Onnxruntime(), open_driver=lambda: Driver(status=100))
        assert fault == "the NVIDIA driver finds no GPU that it can use (cuInit returned 100)"

    def test_the_driver_is_too_old(self) -> None:
        fault = why_no_cuda(Onnxruntime(), open_driver=lambda: Driver(version=12_040))
        assert fault == (
            "the NVIDIA driver is for CUDA 12.4, and this onnxruntime needs CUDA 13.0; "
            "update the driver"
        )

    def test_libraries_are_missing(self, capsys: pytest.CaptureFixture[str]) -> None:
        runtime = Onnxruntime("libcublasLt.so.13", "libcudart.so.13")
        assert why_no_cuda(runtime, open_driver=Driver) == (
            "libcublasLt.so.13, libcudart.so.13 cannot be loaded; in a fresh environment: "
            + install_command("server-cuda")
        )
        assert capsys.readouterr().out == ""


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """This onnxruntime claims to have CUDA, and no driver is here. Holds who asked for one."""
    names: list[str] = []
    real = ctypes.CDLL

    def open_library(name: str, *args: Any, **kwargs: Any) -> Any:
        if name != "libcuda.so.1":
            return real(name, *args, **kwargs)
        names.append(name)
        return no_driver()

    monkeypatch.setattr(ctypes, "CDLL", open_library)
    monkeypatch.setattr(
        onnxruntime,
        "get_available_providers",
        lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
    )
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0")
    return names


class TestEncoder:
    """Before the first session on CUDA."""

    def test_asked_for_without_a_driver(self, graph_path: Path, opened: list[str]) -> None:
        with pytest.raises(ProviderError, match="provider cuda: the NVIDIA driver is missing"):
            Encoder(graph_path, EncoderOptions(provider="cuda"))

    def test_auto_says_so_and_goes_on(
        self, opened: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            assert installed_providers(try_cuda=True) == {"cpu"}
        (line,) = caplog.messages
        assert "no CUDA, although this onnxruntime has it: the NVIDIA driver is missing" in line

    def test_nobody_looks_for_cuda_where_another_was_asked_for(
        self, graph_path: Path, opened: list[str]
    ) -> None:
        assert installed_providers(try_cuda=False) == {"cpu"}
        Encoder(graph_path, EncoderOptions())
        assert opened == []

    def test_a_session_that_falls_back_to_cpu(
        self, graph_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As where a library is missing that preload_dlls does not know."""
        real = onnxruntime.InferenceSession
        monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
        monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
        monkeypatch.setattr(
            onnxruntime,
            "InferenceSession",
            lambda path, options, providers: real(path, options, ["CPUExecutionProvider"]),
        )
        with pytest.raises(ProviderError, match="fell back to CPUExecutionProvider"):
            Encoder(graph_path, EncoderOptions(provider="cuda"))


@pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="needs onnxruntime-gpu[cuda,cudnn] in place of onnxruntime",
)
def test_the_libraries_of_pip_are_loaded() -> None:
    """With onnxruntime-gpu itself, which needs no GPU for that."""
    assert why_no_cuda(onnxruntime, open_driver=Driver) == ""
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8")
    for name in ("cudart", "cublas", "cublasLt", "cudnn", "curand", "cufft", "nvrtc"):
        assert re.search(rf"/nvidia/.*/lib{name}\.so", mapped), name
