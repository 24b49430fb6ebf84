"""What `python -m bench gpu` adds to `run`: it needs a GPU, exports fp16, and chooses who runs."""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from bench.console import say
from unitvec_protos.installation import install_command
from unitvec_server.model.cuda import why_no_cuda

_VARIANT = "fp16@cuda"
_LAYERS = ("encoder", "grpc-unary-c1", "grpc-unary-c64", "grpc-stream-c64")

GPU_DEFAULTS = {
    "artifact": None,
    "variants": _VARIANT,
    "contenders": ",".join(["st-cuda*", *(f"{layer}-{_VARIANT}" for layer in _LAYERS)]),
    "workloads": "texts_short,texts_long,single",
    "rounds": 3,
    "lone_texts": 32,
}
"""Of the flags of `run`, so that all of it takes less than 8 minutes."""


def check_gpu() -> None:
    """Ends the command where there is nothing to measure on.

    Raises:
        ValueError: It says what is missing.
    """
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        command = install_command("server-cuda")
        raise ValueError(f"gpu: this onnxruntime has no CUDA; in place of it: {command}")
    if missing := why_no_cuda(onnxruntime):
        raise ValueError(f"gpu: {missing}")


def export_fp16(model: str | None, folder: Path) -> Path:
    """Exports a model with an fp16 graph.

    Args:
        model: Its folder; None for the packaged one.
        folder: Takes the artifact.

    Returns:
        The artifact.

    Raises:
        ValueError: It cannot be exported; export itself has said why.
    """
    from unitvec_export.cli import main

    say("exporting fp16")
    artifact = folder / "artifact"
    flags = ["--out", str(artifact), "--precision", "fp16"]
    if main([*flags, *([model] if model else [])]):
        raise ValueError("gpu: the model could not be exported")
    return artifact
