"""A server is given the name of a model that nobody has exported."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.models import TinyModel
from tests.serving import ServerProcess, serving
from unitvec_protos.v1 import embedding_pb2 as pb

pytestmark = pytest.mark.deep


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """An empty cache."""
    return {"UNITVEC_MODEL_CACHE": str(tmp_path / "cache")}


def test_a_model_is_exported_once(
    tiny_model: Callable[[TinyModel], Path], variables: dict[str, str]
) -> None:
    from sentence_transformers import SentenceTransformer

    model = tiny_model(TinyModel())
    expected = SentenceTransformer(str(model), device="cpu").encode(["a cat"])
    for times, exporting in enumerate((True, False)):
        with serving(f"--model=tiny={model}", variables=variables) as server:
            reply = server.stub.Embed(pb.EmbedRequest(texts=["a cat"], model="tiny"), timeout=60)
            said = [str(entry["message"]) for entry in server.process.logs]
        vector = np.frombuffer(reply.embeddings.data, np.float32)
        np.testing.assert_allclose(vector, expected[0], atol=1e-5)
        assert any(line.startswith("exporting ") for line in said) is exporting, times


def test_a_stop_amid_the_export_leaves_nothing(
    tiny_model: Callable[[TinyModel], Path], variables: dict[str, str]
) -> None:
    process = ServerProcess(f"--model={tiny_model(TinyModel())}", variables=variables)
    try:
        process.wait_for_log("export: [1/6]")
        assert process.stop(signal.SIGTERM) == 0
    finally:
        process.stop(signal.SIGKILL)
    left = [path for path in Path(variables["UNITVEC_MODEL_CACHE"]).iterdir() if path.is_dir()]
    assert left == []


def test_what_is_missing_is_named_in_one_line(tmp_path: Path, variables: dict[str, str]) -> None:
    """The exporter finds no torch where only the server is installed."""
    blocked = tmp_path / "site"
    blocked.mkdir()
    hidden = ["onnx", "optimum", "sentence_transformers", "sympy", "torch"]
    (blocked / "sitecustomize.py").write_text(
        f"import sys\nfrom importlib import util\nfound = util.find_spec\n"
        f"util.find_spec = lambda name, *rest: None if name in {hidden} else found(name, *rest)\n"
    )
    process = ServerProcess(
        "--model=someone/tiny", variables={**variables, "PYTHONPATH": str(blocked)}
    )
    assert process.wait() == 2
    last = process.output[-1]
    assert last.startswith("unitvec-serve: someone/tiny is no exported model, and cannot be")
    assert "unitvec-export needs onnx, which is not installed: pip install" in last
