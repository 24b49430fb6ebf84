"""The space of a model: equal however it is saved and exported, another where vectors move."""

from __future__ import annotations

import importlib.util
import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.artifacts import REPOSITORY, keep_pipeline, keep_pipeline_artifact
from tests.models import TinyModel, edit_json
from unitvec_export.export import STEPS, ExportOptions, export
from unitvec_export.graph.opsets import DEFAULT_OPSET
from unitvec_export.progress import Progress
from unitvec_export.prove import architecture as code
from unitvec_export.prove.identity import identify
from unitvec_export.prove.reference import load_reference
from unitvec_export.source import Request, Source, resolve_source
from unitvec_server.model.artifact import load_artifact
from unitvec_server.model.identity import Identity
from unitvec_server.model.manifest import Manifest

MINILM_WEIGHTS = "8ca9613d138f2cff1ee808fb283824c286219ed8e74313c1936af51aecf0b848"
MINILM_TOKENIZER = "5267b97ac3c8f3c517853ee1e7965a86a96831642940701b473a81f9b4f6a97e"


def space_program() -> Any:
    """docs/space.py, which shares no code with unitvec."""
    module = importlib.util.spec_from_file_location("space", REPOSITORY / "docs" / "space.py")
    assert module is not None
    assert module.loader is not None
    program = importlib.util.module_from_spec(module)
    module.loader.exec_module(program)
    return program


def identity_of(folder: Path) -> Identity:
    return identify(load_reference(Source(folder, folder.name)))


@pytest.fixture
def copy_of(tiny_model: Callable[[TinyModel], Path], tmp_path: Path) -> Callable[[TinyModel], Path]:
    return lambda spec: shutil.copytree(tiny_model(spec), tmp_path / "copy")


def test_minilm_is_what_it_was() -> None:
    """A change here is a change of the space of every index that anyone has filled."""
    found = identity_of(resolve_source(Request()).folder)
    assert found.weights == MINILM_WEIGHTS
    assert found.tokenizer == MINILM_TOKENIZER
    assert found.architecture == {
        "model_type": "bert",
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "intermediate_size": 1536,
    }


@pytest.mark.parametrize(
    "spec",
    [
        TinyModel(),
        TinyModel(architecture="roberta"),
        TinyModel(architecture="t5", normalize=False),
        TinyModel(architecture="modernbert", prompts=(("query", "query: "), ("document", ""))),
    ],
    ids=lambda spec: spec.architecture,
)
def test_another_program_computes_the_same(
    spec: TinyModel,
    tiny_model: Callable[[TinyModel], Path],
    tiny_artifact: Callable[[TinyModel], Path],
) -> None:
    manifest = load_artifact(tiny_artifact(spec)).manifest
    assert manifest.identity is not None
    assert space_program().space(tiny_model(spec), tiny_artifact(spec)) == manifest.identity.space


def test_the_page_lists_the_settings_that_do_not_count() -> None:
    page = (REPOSITORY / "docs" / "identity.md").read_text(encoding="utf-8")
    for what, names in code.SETTINGS_WITHOUT_EFFECT.items():
        [line] = re.findall(rf"^- of {what}: (.*)$", page, re.MULTILINE)
        assert re.findall(r"`(\w+)`", line) == names.split()
    [line] = re.findall(
        r"^- all that begin with `_`, or have (.*) in their name$", page, re.MULTILINE
    )
    assert tuple(re.findall(r"`(\w+)`", line)) == code.WORDS_WITHOUT_EFFECT


Edit = Callable[[Path], object]


def edit_tensors(change: Callable[[dict[str, Any]], object]) -> Edit:
    def edit(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        path = folder / "model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, metadata={"format": "pt"})

    return edit


def to_bin(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file

    path = folder / "model.safetensors"
    torch.save(load_file(path), folder / "pytorch_model.bin")
    path.unlink()


def with_prefix(tensors: dict[str, Any]) -> None:
    for name in list(tensors):
        tensors[f"bert.{name}"] = tensors.pop(name)


def without_pooler(tensors: dict[str, Any]) -> None:
    for name in [name for name in tensors if "pooler" in name]:
        del tensors[name]


def with_old_names(tensors: dict[str, Any]) -> None:
    for name in list(tensors):
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        tensors[old.replace("LayerNorm.bias", "LayerNorm.beta")] = tensors.pop(name)


SAME: dict[str, Edit] = {
    "as a torch file": to_bin,
    "under a prefix": edit_tensors(with_prefix),
    "without its pooler": edit_tensors(without_pooler),
    "with another head": edit_tensors(lambda t: t.update({"cls.bias": t["pooler.dense.bias"] + 1})),
    "with old names": edit_tensors(with_old_names),
    "of another program": lambda folder: edit_json(
        folder / "config.json",
        {
            "transformers_version": "5.1.0",
            "architectures": ["BertForMaskedLM"],
            "hidden_dropout_prob": 0.0,
            "position_embedding_type": "absolute",
            "torch_dtype": "float16",
            "pooler_fc_size": 768,
        },
    ),
}


@pytest.mark.parametrize("edit", SAME.values(), ids=SAME)
def test_how_it_is_saved_does_not_count(
    edit: Edit, copy_of: Callable[[TinyModel], Path], tiny_model: Callable[[TinyModel], Path]
) -> None:
    folder = copy_of(TinyModel())
    edit(folder)
    assert identity_of(folder) == identity_of(tiny_model(TinyModel()))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_its_own_values(
    dtype: str, copy_of: Callable[[TinyModel], Path], tiny_model: Callable[[TinyModel], Path]
) -> None:
    """Rounding moves vectors; storing what is rounded in twice the bytes does not."""
    import torch

    folder = copy_of(TinyModel())
    kind = getattr(torch, dtype)
    edit_tensors(lambda t: t.update({name: value.to(kind) for name, value in t.items()}))(folder)
    half = identity_of(folder).weights
    edit_tensors(lambda t: t.update({name: value.float() for name, value in t.items()}))(folder)
    assert identity_of(folder).weights == half
    assert half != identity_of(tiny_model(TinyModel())).weights


def swap(tensors: dict[str, Any]) -> None:
    at = "encoder.layer.0.attention.self"
    query, key = f"{at}.query.weight", f"{at}.key.weight"
    tensors[query], tensors[key] = tensors[key], tensors[query]


def move_last_bit(tensors: dict[str, Any]) -> None:
    import torch

    bias = tensors["encoder.layer.1.output.dense.bias"]
    bias[7] = torch.nextafter(bias[7], bias[7] + 1)


OTHER: dict[str, Edit] = {
    "a last bit": edit_tensors(move_last_bit),
    "two tensors for each other": edit_tensors(swap),
    "heads": lambda folder: edit_json(folder / "config.json", {"num_attention_heads": 2}),
    "epsilon": lambda folder: edit_json(folder / "config.json", {"layer_norm_eps": 1e-5}),
    "activation": lambda folder: edit_json(folder / "config.json", {"hidden_act": "relu"}),
    "lower case": lambda folder: edit_json(folder / "tokenizer.json", {"normalizer": None}),
}


@pytest.mark.parametrize("edit", OTHER.values(), ids=OTHER)
def test_what_moves_vectors_counts(
    edit: Edit, copy_of: Callable[[TinyModel], Path], tiny_model: Callable[[TinyModel], Path]
) -> None:
    folder = copy_of(TinyModel())
    edit(folder)
    assert identity_of(folder) != identity_of(tiny_model(TinyModel()))


def export_again(folder: Path, out: Path, **options: Any) -> Manifest:
    made = ExportOptions(Request(str(folder)), out, ("fp32",), **options)
    return export(made, Progress(io.StringIO(), steps=STEPS))


def test_exporting_again_gives_the_same_space(
    tiny_model: Callable[[TinyModel], Path],
    tiny_artifact: Callable[[TinyModel], Path],
    tmp_path: Path,
) -> None:
    """Of another opset, the graph is another file, and the model the same."""
    first = load_artifact(tiny_artifact(TinyModel())).manifest
    again = export_again(tiny_model(TinyModel()), tmp_path / "again")
    older = export_again(tiny_model(TinyModel()), tmp_path / "older", opset=DEFAULT_OPSET - 1)
    assert older.graphs["fp32"].file.sha256 != first.graphs["fp32"].file.sha256
    assert first.identity is not None
    spaces = {each.identity.space for each in (first, again, older) if each.identity}
    assert spaces == {first.identity.space}


@pytest.mark.parametrize(
    "name",
    [
        "Dense tanh, Normalize",
        "Dense of tokens",
        "Dropout, Dense, LayerNorm, Normalize",
        "StaticEmbedding, Normalize",
        "truncate_dim",
        "Router, static queries",
        "Router of Dense, prompts",
        "Router without a default",
        "Asym",
    ],
)
def test_another_program_computes_the_same_of_pipelines(name: str) -> None:
    folder = keep_pipeline_artifact(name)
    manifest = load_artifact(folder).manifest
    assert manifest.identity is not None
    assert space_program().space(keep_pipeline(name), folder) == manifest.identity.space
