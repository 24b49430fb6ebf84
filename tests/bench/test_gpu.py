"""Without a GPU there is nothing to measure: one line, at once."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

from bench.cli import main
from unitvec_server.model.cuda import why_no_cuda


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    and not why_no_cuda(onnxruntime),
    reason="has a GPU",
)
def test_a_machine_without_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results"
    assert main(["gpu", "--results", str(results)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bench: gpu: ")
    assert not results.exists()
