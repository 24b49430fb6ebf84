"""Graphs that somebody else exported: taken where vectors prove them, else refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.models import TinyModel, sample_texts
from unitvec_export.cli import main
from unitvec_server.model.artifact import load_artifact

MEAN = TinyModel()
CLS = TinyModel(pooling="cls", normalize=False)
TEXTS = sample_texts()[1:40]
_OLD_OPSET = 14
"""As optimum and transformers.js write: older than any that our own graphs have."""


def export_onnx(model: Any, path: Path, *, output: str) -> None:
    """Writes the transformer alone, or the whole pipeline, as optimum lays it out."""
    import torch

    class Body(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any, mask: Any, types: Any) -> Any:
            features = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
            if output == "sentence_embedding":
                return self.model(features)[output]
            return self.model[0].auto_model(**features).last_hidden_state

    model[0].auto_model.set_attn_implementation("eager")
    example = torch.ones((2, 16), dtype=torch.int64)
    axes = {0: "batch_size", 1: "sequence_length"}
    inputs = ["input_ids", "attention_mask", "token_type_ids"]
    path.parent.mkdir(exist_ok=True)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Body().eval(),
            (example, example, 0 * example),
            str(path),
            opset_version=_OLD_OPSET,
            input_names=inputs,
            output_names=[output],
            dynamic_axes=dict.fromkeys(inputs, axes) | {output: {0: "batch_size"}},
            dynamo=False,
        )


@pytest.fixture
def exported(
    tiny_model: Callable[[TinyModel], Path], tmp_path: Path
) -> Callable[[TinyModel, str], Path]:
    """A model's folder with `onnx/model.onnx` in it, as repositories have it."""
    from sentence_transformers import SentenceTransformer

    def make(spec: TinyModel, output: str) -> Path:
        folder = shutil.copytree(tiny_model(spec), tmp_path / "model")
        model = SentenceTransformer(str(folder), device="cpu")
        export_onnx(model, folder / "onnx" / "model.onnx", output=output)
        np.save(tmp_path / "vectors.npy", model.encode(TEXTS))
        (tmp_path / "texts.jsonl").write_text("\n".join(map(json_line, TEXTS)))
        return folder

    return make


def json_line(text: str) -> str:
    return json.dumps({"text": text})


@pytest.mark.parametrize(
    ("spec", "output"),
    [
        (MEAN, "last_hidden_state"),
        (CLS, "sentence_embedding"),
        pytest.param(CLS, "last_hidden_state", marks=pytest.mark.deep),
        pytest.param(MEAN, "sentence_embedding", marks=pytest.mark.deep),
    ],
    ids=lambda value: value if isinstance(value, str) else value.pooling,
)
def test_against_the_model(
    exported: Callable[[TinyModel, str], Path], tmp_path: Path, spec: TinyModel, output: str
) -> None:
    folder, out = exported(spec, output), tmp_path / "out"
    args = ["--from-onnx", "onnx/model.onnx", "--out", str(out), "--precision", "fp32,int8"]
    assert main([str(folder), *args, "--texts", str(tmp_path / "texts.jsonl")]) == 0
    manifest = load_artifact(out).manifest
    assert (manifest.pooling, manifest.normalized) == (spec.pooling, spec.normalize)
    assert manifest.graphs["fp32"].parity.cosine_min > 0.999999
    # One more is as long as the model reads.
    assert manifest.graphs["fp32"].parity.texts == len(TEXTS) + 1
    assert manifest.graphs["int8"].parity.cosine_mean > 0.9


def test_without_torch_and_without_weights(
    exported: Callable[[TinyModel, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = exported(MEAN, "last_hidden_state"), tmp_path / "out"
    (folder / "model.safetensors").unlink()
    given = ["--texts", str(tmp_path / "texts.jsonl"), "--vectors", str(tmp_path / "vectors.npy")]
    args = [str(folder), "--from-onnx", "onnx/model.onnx", "--out", str(out), *given]
    program = f"""
import sys
sys.modules.update(dict.fromkeys(("torch", "transformers", "sentence_transformers", "optimum")))
from unitvec_export.cli import main
sys.exit(main({[*args, "--without-torch"]!r}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    manifest = load_artifact(out).manifest
    assert list(manifest.graphs) == ["fp32"]
    assert manifest.identity is None  # no space is claimed for weights that nobody saw
    assert manifest.graphs["fp32"].parity.texts == len(TEXTS)
    # The vectors stay in it, for their own texts and no others.
    assert main(["--verify", str(out), "--without-torch", *given[:2]]) == 0
    capsys.readouterr()
    assert main(["--verify", str(out), "--without-torch"]) == 2
    assert "are of other texts" in capsys.readouterr().err


def test_nothing_that_is_not_proved(
    exported: Callable[[TinyModel, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = exported(MEAN, "last_hidden_state"), tmp_path / "out"
    args = [str(folder), "--from-onnx", "onnx/model.onnx", "--out", str(out)]
    assert main([*args, "--without-torch"]) == 2
    assert "there is nothing to prove the graph by: give" in capsys.readouterr().err
    path = tmp_path / "vectors.npy"
    np.save(path, np.roll(np.load(path), 1, axis=0))
    given = ["--texts", str(tmp_path / "texts.jsonl"), "--vectors", str(path)]
    assert main([*args, *given]) == 1
    assert "fp32 reaches only cosine" in capsys.readouterr().err
    assert not out.exists()


def graph_with(output: str, shape: list[int | str]) -> bytes:
    """A graph that gives ids back as floats."""
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "s"])
    floats = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
    node = helper.make_node("Cast", ["input_ids"], [output], to=TensorProto.FLOAT)
    model = helper.make_model(helper.make_graph([node], "g", [ids], [floats]))
    data: bytes = model.SerializeToString()
    return data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file model.onnx, neither here nor in"),
        (b"no graph", "model.onnx cannot be read as ONNX"),
        (graph_with("logits", ["b", "s"]), "has the outputs logits, and none of last_hidden_state"),
        (graph_with("last_hidden_state", ["b", "s"]), "has no token vectors"),
    ],
)
def test_files_that_are_none(
    tiny_model: Callable[[TinyModel], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
    message: str,
) -> None:
    folder = shutil.copytree(tiny_model(MEAN), tmp_path / "model")
    if content is not None:
        (folder / "model.onnx").write_bytes(content)
    (tmp_path / "texts.txt").write_text("a cat")
    np.save(tmp_path / "v.npy", np.ones((1, 32), np.float32))
    given = ["--texts", str(tmp_path / "texts.txt"), "--vectors", str(tmp_path / "v.npy")]
    out = ["--out", str(tmp_path / "out"), "--without-torch"]
    assert main([str(folder), "--from-onnx", "model.onnx", *out, *given]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_weights_in_a_file_that_is_missing(
    exported: Callable[[TinyModel, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = exported(MEAN, "last_hidden_state") / "onnx" / "model.onnx"
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location="model.onnx_data")
    path.with_name("model.onnx_data").unlink()
    given = ["--texts", str(tmp_path / "texts.jsonl"), "--vectors", str(tmp_path / "vectors.npy")]
    args = ["--from-onnx", str(path), "--out", str(tmp_path / "out"), "--without-torch"]
    assert main([str(path.parents[1]), *args, *given]) == 2
    err = capsys.readouterr().err
    assert "model.onnx cannot be read as ONNX" in err
    assert "model.onnx_data" in err
