"""Models with routes: what is written of each, proved of each, and part of their fingerprint."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.artifacts import keep_pipeline, keep_pipeline_artifact, needs_kernels
from tests.models import edit_json
from unitvec_export.cli import main
from unitvec_export.errors import InputError
from unitvec_export.export import STEPS, ExportOptions, export
from unitvec_export.progress import Progress
from unitvec_export.source import Request
from unitvec_server.model.artifact import MANIFEST_FILE, describe_file, load_artifact
from unitvec_server.model.fingerprints import checked_space

STATIC, DENSE = "Router, static queries", "Router of Dense, prompts"
ROUTE = "route-document"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of an artifact with two routes, to be changed."""
    return shutil.copytree(keep_pipeline_artifact(DENSE), tmp_path / "copy")


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    """Exit code and what is printed."""
    code = main([str(arg) for arg in args])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def titles(out: str) -> list[str]:
    return [line for line in out.splitlines() if line.startswith("texts with the prompt ")]


@pytest.mark.parametrize("how", [(), ("--without-torch",)], ids=["model", "stored"])
def test_all_routes_are_verified(
    capsys: pytest.CaptureFixture[str], copy: Path, how: tuple[str, ...]
) -> None:
    source = () if how else (keep_pipeline(DENSE),)
    code, out, err = run(capsys, "--verify", copy, *source, *how)
    assert (code, err) == (0, "")
    assert titles(out) == [
        "texts with the prompt none, query:",
        "texts with the prompt document, passage:",
    ]
    artifact = load_artifact(copy)
    for part in (artifact, *artifact.routes.values()):
        parity = part.manifest.graphs["fp32"].parity
        assert f"{'fp32':<10} {parity.texts:>6} {parity.cosine_mean:>12.7f}" in out


@pytest.mark.parametrize("how", [(), ("--without-torch",)], ids=["model", "stored"])
def test_a_route_of_wrong_weights_does_not_pass(
    capsys: pytest.CaptureFixture[str], copy: Path, how: tuple[str, ...]
) -> None:
    """The graph of the other route, under a manifest that says that this is right."""
    route = copy / ROUTE
    shutil.copy(copy / "model.fp32.onnx", route)
    graphs = json.loads((route / MANIFEST_FILE).read_text())["graphs"]
    graphs["fp32"]["file"] = vars(describe_file(route / "model.fp32.onnx"))
    edit_json(route / MANIFEST_FILE, {"graphs": graphs})
    source = () if how else (keep_pipeline(DENSE),)
    code, _, err = run(capsys, "--verify", copy, *source, *how)
    assert code == 1
    assert f"{ROUTE}: fp32 reaches only cosine" in err


def test_given_vectors_are_those_of_the_default_route(
    capsys: pytest.CaptureFixture[str], copy: Path, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    texts, vectors = tmp_path / "texts.txt", tmp_path / "vectors.npy"
    texts.write_text("a cat\na dog")
    given = ("--texts", texts, "--vectors", vectors)
    model = SentenceTransformer(str(keep_pipeline(DENSE)), device="cpu")
    np.save(vectors, model.encode(["a cat", "a dog"]))
    code, out, _ = run(capsys, "--verify", copy, *given)
    assert (code, len(titles(out))) == (0, 1)
    assert f"{ROUTE} is not verified" in out
    code, _, err = run(
        capsys, "--verify", keep_pipeline_artifact("Router without a default"), *given
    )
    assert code == 2
    assert "has routes and none by default" in err


def test_the_source_of_another_model_is_refused(
    capsys: pytest.CaptureFixture[str], copy: Path
) -> None:
    code, _, err = run(capsys, "--verify", copy, keep_pipeline("mean, Normalize"))
    assert code == 2
    assert "has other routes than" in err


def edit_identity(route: Path, **changes: Any) -> None:
    identity = json.loads((route / MANIFEST_FILE).read_text())["identity"]
    edit_json(route / MANIFEST_FILE, {"identity": {**identity, **changes}})


def test_what_moves_vectors_of_any_route_changes_the_space(copy: Path) -> None:
    artifact = load_artifact(copy)
    assert artifact.manifest.identity is not None
    former = checked_space(artifact)
    assert former == artifact.manifest.identity.space
    edit_identity(copy / ROUTE, weights="0" * 64)
    assert checked_space(load_artifact(copy)) != former
    edit_json(copy / ROUTE / MANIFEST_FILE, {"identity": None})
    assert checked_space(load_artifact(copy)) == ""


def test_which_prompt_takes_which_route_counts(copy: Path) -> None:
    former = checked_space(load_artifact(copy))
    routes = load_artifact(copy).manifest.routes
    edit_json(copy / MANIFEST_FILE, {"routes": {**routes, "passage": ""}})
    assert checked_space(load_artifact(copy)) != former


@needs_kernels
def test_a_route_without_products_stays_in_fp32(tmp_path: Path) -> None:
    out, told = tmp_path / "out", io.StringIO()
    request = Request(str(keep_pipeline(STATIC)))
    asked = ExportOptions(request, out, ("fp32", "int8", "int16"), without_fp32=True)
    export(asked, Progress(told, steps=STEPS))
    artifact = load_artifact(out)
    found = [[*part.manifest.graphs] for part in (artifact, *artifact.routes.values())]
    assert found == [["int8", "int16", "int8-fused"], ["fp32"]]
    assert "int8 is left out: it has no products to quantize" in told.getvalue()
    assert "int16 is left out: the fused operator does not run this model" in told.getvalue()


def test_what_no_route_can_have_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    monkeypatch.setenv("UNITVEC_ISA", "none")
    request = Request(str(keep_pipeline(STATIC)))
    with pytest.raises(InputError, match="--precision int16: none of the routes can have it"):
        export(ExportOptions(request, out, ("fp32", "int16")), Progress(io.StringIO(), steps=STEPS))
    assert not out.exists()
