"""What versions and types a model was saved in changes nothing of what is exported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.models import TinyModel, edit_json, sample_texts
from unitvec_export.noise import muted
from unitvec_export.prove.reference import load_reference
from unitvec_export.source import Request, Source, resolve_source

TEXTS = sample_texts()[:10]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def encode(folder: Path) -> npt.NDArray[np.float32]:
    """Vectors of a few texts by what an export compares with."""
    return load_reference(Source(folder, "model")).encode(TEXTS)


def rewrite_as_transformers_4(folder: Path) -> None:
    """Writes the files as transformers 4.57 and sentence-transformers 5 do."""
    former = json.loads((folder / "tokenizer_config.json").read_text())
    tokens = {key: value for key, value in former.items() if key.endswith("_token")}
    (folder / "special_tokens_map.json").write_text(json.dumps(tokens))
    kept = {key: former[key] for key in ("model_max_length",) if key in former}
    newer = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    content = {**newer, **tokens, **kept, "added_tokens_decoder": {}}
    (folder / "tokenizer_config.json").write_text(json.dumps(content))
    modules = json.loads((folder / "modules.json").read_text())
    for module in modules:
        module["type"] = f"sentence_transformers.models.{module['type'].rpartition('.')[2]}"
    (folder / "modules.json").write_text(json.dumps(modules))
    config = json.loads((folder / "config.json").read_text())
    ropes = config.pop("rope_parameters", None)
    if ropes:
        config["global_rope_theta"] = ropes["full_attention"]["rope_theta"]
        config["local_rope_theta"] = ropes["sliding_attention"]["rope_theta"]
        config["global_attn_every_n_layers"] = 3
        del config["layer_types"]
    config |= {"torch_dtype": config.pop("dtype", "float32"), "transformers_version": "4.57.6"}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture(params=["bert", "modernbert"])
def saved(
    request: pytest.FixtureRequest, tiny_model: Callable[[TinyModel], Path], tmp_path: Path
) -> Path:
    """A model saved by the installed versions; may be written to."""
    return shutil.copytree(tiny_model(TinyModel(architecture=request.param)), tmp_path / "model")


def test_saved_by_transformers_4(saved: Path) -> None:
    expected = encode(saved)
    rewrite_as_transformers_4(saved)
    np.testing.assert_array_equal(encode(saved), expected)


def test_in_the_hubs_cache(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links named after the model's files, to files named after what is in them."""
    root = tmp_path / "hub" / "models--someone--tiny"
    for path in [path for path in saved.rglob("*") if path.is_file()]:
        link = root / "snapshots" / COMMIT / path.relative_to(saved)
        blob = root / "blobs" / path.relative_to(saved).as_posix().replace("/", "-")
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blob)
        link.symlink_to(blob)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path / "hub"))
    source = resolve_source(Request("someone/tiny", offline=True))
    assert source.revision == COMMIT
    np.testing.assert_array_equal(encode(source.folder), encode(saved))


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_a_checkpoint_of_half_precision_is_computed_in_fp32(saved: Path, name: str) -> None:
    """Its stored weights, in fp32: not what sentence-transformers computes by default."""
    with muted():
        import torch
        from sentence_transformers import SentenceTransformer

        half = SentenceTransformer(str(saved), device="cpu", model_kwargs={"dtype": name})
        half.save(str(saved), create_model_card=False)
        full = SentenceTransformer(str(saved), device="cpu", model_kwargs={"dtype": torch.float32})
        default = SentenceTransformer(str(saved), device="cpu")
        assert default[0].auto_model.dtype == getattr(torch, name)
        by_default = default.encode(TEXTS, convert_to_tensor=True).float().numpy()
    found = encode(saved)
    np.testing.assert_allclose(found, full.encode(TEXTS, batch_size=16), atol=1e-6)
    cosines = (found * by_default).sum(1) / np.linalg.norm(by_default, axis=1)
    assert 0.9 < cosines.min() < 0.999999


def test_settings_of_another_version_are_not_passed_over(saved: Path) -> None:
    """The base of rotary positions counts: another one gives other vectors."""
    config = json.loads((saved / "config.json").read_text())
    if "rope_parameters" not in config:
        pytest.skip("it has no rotary positions")
    before = encode(saved)
    ropes = config["rope_parameters"]
    ropes["full_attention"]["rope_theta"] = 7.0
    edit_json(saved / "config.json", {"rope_parameters": ropes})
    assert np.abs(encode(saved) - before).max() > 1e-4
