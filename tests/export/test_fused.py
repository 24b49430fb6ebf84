"""Graphs of the fused operator: which models have them, and that they are the model's."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.artifacts import KERNELS, keep_fused_artifact, keep_model, needs_kernels
from tests.models import FUSED_BERT, TinyModel
from unitvec_export.errors import InputError, ParityError
from unitvec_export.export import STEPS, ExportOptions, export
from unitvec_export.progress import Progress
from unitvec_export.source import Request
from unitvec_server.model.artifact import load_artifact
from unitvec_server.model.encoder import Encoder, EncoderOptions
from unitvec_server.model.manifest import Manifest

MODELS = {
    "bert": FUSED_BERT,
    "roberta": replace(FUSED_BERT, architecture="roberta", pooling="cls"),
    "distilbert": replace(FUSED_BERT, architecture="distilbert", normalize=False),
    "mpnet": replace(FUSED_BERT, architecture="mpnet"),
    "heads of 64": replace(FUSED_BERT, architecture="mpnet", dim=256),
}
UNSUPPORTED = TinyModel()


def export_model(
    spec: TinyModel, out: Path, precisions: tuple[str, ...] | None
) -> tuple[Manifest, str]:
    """The manifest, and what was told."""
    options = ExportOptions(Request(str(keep_model(spec))), out, precisions)
    told = io.StringIO()
    return export(options, Progress(told, steps=STEPS)), told.getvalue()


@needs_kernels
@pytest.mark.deep
@pytest.mark.parametrize("kind", list(MODELS))
def test_every_architecture_has_fused_graphs_near_the_model(kind: str) -> None:
    graphs = load_artifact(keep_fused_artifact(MODELS[kind])).manifest.graphs
    assert list(graphs) == ["fp32", "int16", "bf16", "int8", "int8-fused"]
    assert graphs["int16"].parity.cosine_min >= 0.99999
    assert graphs["bf16"].parity.cosine_min >= 0.9999
    assert graphs["int8-fused"].parity.cosine_mean > graphs["int8"].parity.cosine_mean - 1e-3


@needs_kernels
@pytest.mark.parametrize("kind", ["roberta", "mpnet"])
def test_a_padding_token_inside_a_text_has_the_place_that_the_model_gives_it(kind: str) -> None:
    """Models of RoBERTa's kind do not count it, wherever it stands."""
    artifact = load_artifact(keep_fused_artifact(MODELS[kind]))
    pad = artifact.manifest.pad_token_id
    row = np.array([0, 50, pad, 60, pad, pad, 70, 2])
    plain = Encoder(artifact.graph_path("fp32"), EncoderOptions(pad_token_id=pad))
    fused = Encoder(artifact.graph_path("int16"), EncoderOptions(operators=KERNELS.library))
    np.testing.assert_allclose(fused.encode([row]), plain.encode([row]), atol=3e-3)


@needs_kernels
def test_a_model_that_the_operator_does_not_run(tmp_path: Path) -> None:
    why = "the fused operator does not run this model: its sizes 32 and 64 are no multiples of 64"
    manifest, told = export_model(UNSUPPORTED, tmp_path / "default", None)
    assert list(manifest.graphs) == ["fp32"]
    assert f"int16 is left out: {why}" in told
    with pytest.raises(InputError, match=f"--precision int16: {why}"):
        export_model(UNSUPPORTED, tmp_path / "asked", ("fp32", "int16"))
    manifest, _ = export_model(UNSUPPORTED, tmp_path / "int8", ("fp32", "int8"))
    assert list(manifest.graphs) == ["fp32", "int8"]


@needs_kernels
def test_int16_is_written_by_default(tmp_path: Path) -> None:
    manifest, _ = export_model(MODELS["bert"], tmp_path / "out", None)
    assert list(manifest.graphs) == ["fp32", "int16"]


@needs_kernels
@pytest.mark.deep
def test_int16_that_is_not_the_models_is_left_out(tmp_path: Path) -> None:
    """Of weights so large that attention jumps from one token to another at a last bit."""
    wild = replace(FUSED_BERT, architecture="mpnet", initializer_range=0.5)
    manifest, told = export_model(wild, tmp_path / "default", None)
    assert list(manifest.graphs) == ["fp32"]
    assert "int16 is left out: int16 reaches only cosine 0.99" in told
    assert not (tmp_path / "default" / "model.int16.onnx").exists()
    for precision in ("int16", "bf16"):
        with pytest.raises(ParityError, match=f"{precision} reaches only cosine"):
            export_model(wild, tmp_path / "asked", ("fp32", precision))
    assert not (tmp_path / "asked").exists()
