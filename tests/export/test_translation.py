"""Folders written by transformers 5 and sentence-transformers 6 mean what they meant there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.models import TinyModel, edit_json, sample_texts
from unitvec_export.errors import InputError
from unitvec_export.prove.reference import load_reference
from unitvec_export.source import Source

MODERNBERT = TinyModel(architecture="modernbert")
LAYERS = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
ROPES = {
    "full_attention": {"rope_theta": 500.0, "rope_type": "default"},
    "sliding_attention": {"rope_theta": 20.0, "rope_type": "default"},
}


def encode(folder: Path) -> npt.NDArray[np.float32]:
    """Vectors of a few texts."""
    return load_reference(Source(folder, "model")).encode(sample_texts()[:10])


def rewrite_as_newer(folder: Path, **config: Any) -> None:
    """Writes the files of the tokenizer and the modules as the newer versions do."""
    (folder / "special_tokens_map.json").unlink()
    former = json.loads((folder / "tokenizer_config.json").read_text())
    kept = ("model_input_names", "model_max_length")
    tokens = {key: value for key, value in former.items() if key.endswith("_token")}
    newer = {
        "backend": "tokenizers",
        "extra_special_tokens": ["[MASK]"],
        "is_local": True,
        "local_files_only": False,
        "tokenizer_class": "TokenizersBackend",
    }
    content = {**newer, **tokens, **{key: former[key] for key in kept}}
    (folder / "tokenizer_config.json").write_text(json.dumps(content))
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["type"] = "sentence_transformers.base.modules.normalize.Normalize"
    (folder / "modules.json").write_text(json.dumps(modules))
    names = ("module_input_name", "module_output_name")
    (folder / "2_Normalize").mkdir(exist_ok=True)
    settings = json.dumps(dict.fromkeys(names, "sentence_embedding"))
    (folder / "2_Normalize" / "config.json").write_text(settings)
    edit_json(folder / "config.json", {"transformers_version": "5.24.0", **config})


@pytest.fixture
def copy_of(tiny_model: Callable[[TinyModel], Path], tmp_path: Path) -> Callable[..., Path]:
    """A copy of a tiny model under a name."""

    def build(spec: TinyModel, name: str) -> Path:
        return shutil.copytree(tiny_model(spec), tmp_path / name)

    return build


def test_a_bert_of_transformers_5(copy_of: Callable[..., Path]) -> None:
    former, newer = copy_of(TinyModel(), "former"), copy_of(TinyModel(), "newer")
    rewrite_as_newer(newer)
    np.testing.assert_array_equal(encode(newer), encode(former))


def test_the_modernbert_of_transformers_5_keeps_its_positions(copy_of: Callable[..., Path]) -> None:
    former, newer = copy_of(MODERNBERT, "former"), copy_of(MODERNBERT, "newer")
    plain = encode(former)
    edit_json(former / "config.json", {"global_rope_theta": 500.0, "local_rope_theta": 20.0})
    content = json.loads((newer / "config.json").read_text())
    own = ("global_rope_theta", "local_rope_theta", "global_attn_every_n_layers")
    kept = {key: value for key, value in content.items() if key not in own}
    (newer / "config.json").write_text(json.dumps(kept))
    rewrite_as_newer(newer, rope_parameters=ROPES, layer_types=LAYERS)
    expected = encode(former)
    assert np.abs(expected - plain).max() > 0.01
    np.testing.assert_array_equal(encode(newer), expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"layer_types": ["sliding_attention", *LAYERS[1:]]},
        {"rope_parameters": {**ROPES, "full_attention": {"rope_type": "yarn", "rope_theta": 9.0}}},
        {"rope_parameters": {"full_attention": ROPES["full_attention"]}},
        {"model_type": "bert"},
    ],
)
def test_what_has_no_counterpart_is_named(
    changes: dict[str, Any], copy_of: Callable[..., Path]
) -> None:
    folder = copy_of(MODERNBERT, "newer")
    rewrite_as_newer(folder, **{"rope_parameters": ROPES, "layer_types": LAYERS, **changes})
    with pytest.raises(InputError, match="rope_parameters") as refusal:
        encode(folder)
    assert "\n" not in str(refusal.value)


def test_flat_rotary_positions_keep_their_base() -> None:
    from unitvec_export.layout.translation import translate_config

    plain = {"model_type": "qwen3", "rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}
    assert translate_config(plain) == {"model_type": "qwen3", "rope_theta": 7.0}
    yarn = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 7.0}
    assert translate_config({"model_type": "qwen3", "rope_parameters": yarn}) == {
        "model_type": "qwen3",
        "rope_theta": 7.0,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0},
    }
