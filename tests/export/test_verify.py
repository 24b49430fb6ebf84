"""Parity proved again: against the model, its stored vectors, or vectors that are given."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import TinyModel, edit_json
from unitvec_export.cli import main
from unitvec_server.model.artifact import MANIFEST_FILE, describe_file, load_artifact

PROMPTED = TinyModel(
    pooling="cls",
    prompts=(("query", "query: "), ("passage", "passage: ")),
    default_prompt_name="query",
)
TEXTS = ["a cat", "a dog on a mat, and a much longer text beside it", "", "wörter"]


@pytest.fixture
def copy(prompted_artifact: Path, tmp_path: Path) -> Path:
    """A copy of an artifact with prompts, to be changed."""
    return shutil.copytree(prompted_artifact, tmp_path / "copy")


@pytest.fixture
def model(tiny_model: Callable[[TinyModel], Path]) -> Path:
    """Its source."""
    return tiny_model(PROMPTED)


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    """Exit code and what is printed."""
    code = main([str(arg) for arg in args])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def measured(out: str) -> dict[str, tuple[int, float]]:
    """Texts and lowest cosine of each graph."""
    rows = [line.split() for line in out.partition("precision ")[2].splitlines()[1:]]
    return {row[0]: (int(row[1]), float(row[3])) for row in rows if row}


def test_against_the_model(
    capsys: pytest.CaptureFixture[str], copy: Path, model: Path, tmp_path: Path
) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(TEXTS))
    code, out, err = run(capsys, "--verify", copy, model, "--texts", texts)
    assert (code, err) == (0, "")
    assert "by sentence-transformers" in out
    # The texts, one as long as the model reads, and one with each prompt: the two, and `document`,
    # which sentence-transformers adds.
    assert measured(out)["fp32"] == (len(TEXTS) + 1 + 3, 1.0)
    assert "int8" in measured(out)


def test_against_the_stored_vectors(capsys: pytest.CaptureFixture[str], copy: Path) -> None:
    stored = load_artifact(copy).manifest
    code, out, err = run(capsys, "--verify", copy, "--without-torch")
    assert (code, err) == (0, "")
    found = measured(out)
    assert found.keys() == {"fp32", "int8"}
    assert found["fp32"] == (stored.graphs["fp32"].parity.texts, 1.0)
    assert found["int8"][1] == pytest.approx(stored.graphs["int8"].parity.cosine_min, abs=1e-4)


def test_against_given_vectors(
    capsys: pytest.CaptureFixture[str], copy: Path, model: Path, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    texts, vectors = tmp_path / "texts.jsonl", tmp_path / "vectors.npy"
    lines: list[Any] = [{"text": TEXTS[0]}, *TEXTS[1:]]
    texts.write_text("\n".join(map(json.dumps, lines)))
    expected = SentenceTransformer(str(model), device="cpu").encode(TEXTS)
    np.save(vectors, expected)
    given = ("--verify", copy, "--texts", texts, "--vectors", vectors)
    code, out, _ = run(capsys, *given)
    assert (code, measured(out)["fp32"]) == (0, (len(TEXTS), 1.0))
    np.save(vectors, expected[::-1])
    code, _, err = run(capsys, *given)
    assert code == 1
    assert "fp32 reaches only cosine" in err


def test_where_only_the_server_is_installed(copy: Path) -> None:
    program = f"""
import sys
hidden = ("torch", "transformers", "sentence_transformers", "optimum", "onnx", "sympy")
sys.modules.update(dict.fromkeys(hidden))
from unitvec_export.cli import main
sys.exit(main(["--verify", {str(copy)!r}, "--without-torch"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert measured(done.stdout)["fp32"][1] == 1.0


def test_another_model_does_not_pass(
    capsys: pytest.CaptureFixture[str], copy: Path, tiny_artifact: Callable[[TinyModel], Path]
) -> None:
    other = tiny_artifact(TinyModel())  # of other pooling, and no prompts
    shutil.copy(other / "model.fp32.onnx", copy)
    manifest = json.loads((copy / MANIFEST_FILE).read_text())
    manifest["graphs"]["fp32"]["file"] = vars(describe_file(copy / "model.fp32.onnx"))
    edit_json(copy / MANIFEST_FILE, {"graphs": manifest["graphs"]})
    code, _, err = run(capsys, "--verify", copy, "--without-torch")
    assert code == 1
    assert "fp32 reaches only cosine" in err


def forget_vectors(copy: Path) -> None:
    edit_json(copy / MANIFEST_FILE, {"expected": None, "provenance": None})


def change_texts(copy: Path) -> None:
    manifest = json.loads((copy / MANIFEST_FILE).read_text())
    provenance = {**manifest["provenance"], "texts_sha256": "0" * 64}
    edit_json(copy / MANIFEST_FILE, {"provenance": provenance})


def damage_vectors(copy: Path) -> None:
    path = copy / "vectors.npy"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")


@pytest.mark.parametrize(
    ("damage", "args", "message"),
    [
        (forget_vectors, (), "holds no vectors of its model: export it again, or pip install"),
        (change_texts, (), "are of other texts (it was made by"),
        (damage_vectors, (), "vectors.npy is damaged"),
        (None, ("--texts", "no.txt"), "no.txt cannot be read"),
        (None, ("--vectors", "v.npy"), "--vectors needs --texts"),
    ],
)
def test_nothing_to_hold_it_against(
    capsys: pytest.CaptureFixture[str],
    copy: Path,
    damage: Callable[[Path], None] | None,
    args: tuple[str, ...],
    message: str,
) -> None:
    if damage is not None:
        damage(copy)
    code, _, err = run(capsys, "--verify", copy, "--without-torch", *args)
    assert code in (1, 2)
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("texts", "vectors", "message"),
    [
        ('"a cat"\n{"txt": "a dog"}', None, "texts.jsonl:2: neither a string nor an object with"),
        ('"a cat"\na dog', None, "texts.jsonl:2: Expecting value"),
        ("", None, "texts.jsonl holds no text"),
        (
            '"a cat"',
            np.zeros((2, 32), np.float32),
            "2 vectors of 32 dimensions, and 1 texts for a model",
        ),
        ('"a cat"', np.zeros((1, 16), np.float32), "1 vectors of 16 dimensions"),
        ('"a cat"', np.zeros(32, np.float32), "holds no matrix of floats"),
    ],
)
def test_files_that_are_wrong(
    capsys: pytest.CaptureFixture[str],
    copy: Path,
    tmp_path: Path,
    texts: str,
    vectors: Any,
    message: str,
) -> None:
    (tmp_path / "texts.jsonl").write_text(texts)
    np.save(tmp_path / "v.npy", np.zeros((1, 32), np.float32) if vectors is None else vectors)
    files = ("--texts", tmp_path / "texts.jsonl", "--vectors", tmp_path / "v.npy")
    code, _, err = run(capsys, "--verify", copy, *files)
    assert code == 2
    assert message in err
