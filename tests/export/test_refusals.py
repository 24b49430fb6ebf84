"""What cannot be exported is named in one clear line, and nothing is left behind."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from tests.models import TinyModel, edit_json
from tests.pipelines import PIPELINES
from unitvec_export.cli import main
from unitvec_export.errors import InputError
from unitvec_export.graph.tracing import trim
from unitvec_export.layout.modules import Module, check_modules
from unitvec_export.prove.reference import load_reference
from unitvec_export.source import (
    DEFAULT_MODEL_ID,
    Request,
    Source,
    check_weights,
    model_name,
    resolve_source,
)

ST = "sentence_transformers.models."


class Terminal:
    """Runs the command in this process and reads what it prints."""

    def __init__(self, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.out = out
        self._capsys = capsys

    def fails(self, *args: str) -> str:
        """The one line that a failing export prints; it must leave nothing behind."""
        assert main([*args, "--out", str(self.out)]) == 2
        return self.only_line()

    def only_line(self) -> str:
        """What is on stderr, which must be one line."""
        line = self._capsys.readouterr().err
        assert line.startswith("unitvec-export: error: ")
        assert line.count("\n") == 1
        assert list(self.out.parent.iterdir()) == []
        return line


@pytest.fixture
def terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """A terminal whose --out is a new folder in an empty one."""
    (tmp_path / "out").mkdir()
    return Terminal(tmp_path / "out" / "model", capsys)


@pytest.fixture
def broken(tiny_model: Callable[[TinyModel], Path], tmp_path: Path) -> Path:
    """A copy of a tiny model, to be damaged."""
    return shutil.copytree(tiny_model(TinyModel()), tmp_path / "broken")


@pytest.mark.parametrize(
    ("types", "named"),
    [
        (["Transformer", "CNN", "Pooling"], "CNN"),
        (["Transformer", "LSTM", "Pooling"], "LSTM"),
        (["WordEmbeddings", "Pooling"], "WordEmbeddings"),
        (["Transformer", "WeightedLayerPooling", "Pooling"], "WeightedLayerPooling"),
        (["Router"], "Router"),
        (["StaticEmbedding", "Pooling"], "StaticEmbedding -> Pooling"),
        (["CLIPModel"], "CLIPModel"),
        (["Transformer"], "Transformer"),
        (["Transformer", "Normalize", "Pooling"], "Normalize -> Pooling"),
        (["Transformer", "Pooling", "Pooling"], "Pooling -> Pooling"),
        (["Pooling", "Transformer"], "Pooling -> Transformer"),
        (["Transformer", "Dense"], "Transformer -> Dense"),
    ],
)
def test_other_modules_are_named(types: list[str], named: str) -> None:
    with pytest.raises(InputError, match=named):
        check_modules(of_types(ST + name for name in types))


def of_types(types: Iterable[str]) -> list[Module]:
    """Modules of these classes."""
    return [Module(each, str(place)) for place, each in enumerate(types)]


def test_custom_code_is_named() -> None:
    with pytest.raises(InputError, match=r"custom_st\.Transformer"):
        check_modules(of_types(["custom_st.Transformer", ST + "Pooling"]))


def test_both_module_path_styles_are_known() -> None:
    base = "sentence_transformers."
    check_modules(of_types([ST + "Transformer", ST + "Pooling"]))
    check_modules(
        of_types(
            [
                base + "base.modules.transformer.Transformer",
                base + "sentence_transformer.modules.pooling.Pooling",
                base + "sentence_transformer.modules.normalize.Normalize",
            ]
        )
    )


def test_an_unsupported_module_in_a_folder(terminal: Terminal, broken: Path) -> None:
    path = broken / "modules.json"
    path.write_text(path.read_text().replace("Normalize", "WordWeights"))
    assert "module WordWeights" in terminal.fails(str(broken))


def test_an_activation_of_someone_else_is_named(
    terminal: Terminal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = PIPELINES["Dense gelu"](tmp_path / "dense")
    capsys.readouterr()  # transformers shows how it loads what this is made of
    for name in ("torch.nn.modules.activation.Softmin", "mine.Gelu"):
        edit_json(folder / "2_Dense" / "config.json", {"activation_function": name})
        assert f'activation_function = "{name}" is not supported' in terminal.fails(str(folder))


@pytest.mark.parametrize(
    "name", ["modules.json", "config.json", "1_Pooling/config.json", "model.safetensors"]
)
def test_missing_files_are_named(name: str, terminal: Terminal, broken: Path) -> None:
    (broken / name).unlink()
    assert name in terminal.fails(str(broken))


def test_a_missing_tokenizer(terminal: Terminal, broken: Path) -> None:
    for path in broken.glob("*token*"):
        path.unlink()
    assert "has no tokenizer: none of tokenizer.json, " in terminal.fails(str(broken))


@pytest.mark.parametrize("name", ["modules.json", "config.json", "tokenizer.json"])
def test_damaged_json(name: str, terminal: Terminal, broken: Path) -> None:
    (broken / name).write_text('[{"type": ')
    assert str(broken) in terminal.fails(str(broken))


def test_truncated_weights(terminal: Terminal, broken: Path) -> None:
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert f"{broken} cannot be loaded: its weights are damaged" in terminal.fails(str(broken))


def test_weights_of_another_shape(terminal: Terminal, broken: Path) -> None:
    edit_json(broken / "config.json", {"hidden_size": 64})
    assert "its weights have other shapes than config.json asks for" in terminal.fails(str(broken))


def test_an_unknown_architecture(terminal: Terminal, broken: Path) -> None:
    edit_json(broken / "config.json", {"model_type": "nonsense"})
    assert "nonsense" in terminal.fails(str(broken))


def rewrite_weights(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Changes the tensors of a model's folder."""
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def test_incomplete_weights(terminal: Terminal, broken: Path) -> None:
    lost = "encoder.layer.1.attention.self.query.weight"
    rewrite_weights(broken, lambda weights: {k: v for k, v in weights.items() if k != lost})
    line = terminal.fails(str(broken))
    assert lost in line
    assert "1 of 37 tensors" in line


def test_names_that_do_not_fit_whatever_the_library_logs(terminal: Terminal, broken: Path) -> None:
    # What the environment variable TRANSFORMERS_VERBOSITY=error does at import.
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        rewrite_weights(broken, lambda w: {f"auto_model.{k}": v for k, v in w.items()})
        line = terminal.fails(str(broken))
    finally:
        transformers_logging.set_verbosity(before)
    assert "37 of 37 tensors are missing, such as embeddings." in line
    assert "the file has auto_model.embeddings." in line


def test_shapes_that_a_library_was_told_to_ignore(terminal: Terminal, broken: Path) -> None:
    name = "encoder.layer.0.output.dense.weight"
    rewrite_weights(broken, lambda w: {**w, name: w[name][:, :8].contiguous()})
    settings = {"model_args": {"ignore_mismatched_sizes": True}}
    edit_json(broken / "sentence_bert_config.json", settings)
    line = terminal.fails(str(broken))
    assert f"{name} has shape (32, 8), but config.json asks for (32, 64)" in line


@pytest.mark.parametrize("spelling", ["bert.", "torch", "shards", "gamma"])
def test_names_that_fit_in_another_spelling(
    spelling: str, tiny_model: Callable[[TinyModel], Path], broken: Path
) -> None:
    import torch

    path = broken / "model.safetensors"
    weights = load_file(path)
    if spelling == "bert.":
        rewrite_weights(broken, lambda w: {f"bert.{k}": v for k, v in w.items()})
    elif spelling == "gamma":
        rewrite_weights(broken, lambda w: {k.replace("Norm.weight", "Norm.gamma"): w[k] for k in w})
    elif spelling == "torch":
        path.unlink()
        torch.save(weights, broken / "pytorch_model.bin")
    else:
        path.unlink()
        parts = {name: f"model-{index % 2}.safetensors" for index, name in enumerate(weights)}
        for part in set(parts.values()):
            held = {name: tensor for name, tensor in weights.items() if parts[name] == part}
            save_file(held, broken / part, metadata={"format": "pt"})
        index = {"metadata": {}, "weight_map": parts}
        (broken / "model.safetensors.index.json").write_text(json.dumps(index))
    whole = tiny_model(TinyModel())
    expected = load_reference(Source(whole, "whole")).encode(["a cat"])
    np.testing.assert_array_equal(
        load_reference(Source(broken, "broken")).encode(["a cat"]), expected
    )


def test_a_slow_tokenizer(terminal: Terminal, broken: Path) -> None:
    (broken / "tokenizer.json").unlink()
    edit_json(broken / "tokenizer_config.json", {"tokenizer_class": "CanineTokenizer"})
    assert "CanineTokenizer has no fast version" in terminal.fails(str(broken))


def test_a_git_lfs_pointer(terminal: Terminal, broken: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 90868376\n"
    (broken / "model.safetensors").write_text(pointer)
    line = terminal.fails(str(broken))
    assert f"{broken / 'model.safetensors'} is a git-lfs pointer" in line
    assert "git lfs pull" in line


@pytest.mark.parametrize("has_modules", [True, False])
def test_an_adapter(has_modules: bool, terminal: Terminal, broken: Path) -> None:
    (broken / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (broken / "config.json").unlink()
    if not has_modules:
        (broken / "modules.json").unlink()
    assert "merge_and_unload()" in terminal.fails(str(broken))


def test_a_module_is_named_before_files_that_it_lacks(terminal: Terminal, tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    folder.mkdir()
    types = [ST + "CLIPModel", ST + "Normalize"]
    modules = [{"idx": i, "name": str(i), "path": "", "type": t} for i, t in enumerate(types)]
    (folder / "modules.json").write_text(json.dumps(modules))
    assert "module CLIPModel" in terminal.fails(str(folder))


def test_custom_code_of_the_model(terminal: Terminal, broken: Path) -> None:
    code = {"AutoConfig": "configuration_new.NewConfig", "AutoModel": "modeling_new.NewModel"}
    edit_json(broken / "config.json", {"model_type": "new", "auto_map": code})
    assert "custom code is not run" in terminal.fails(str(broken))


def test_a_tokenizer_that_needs_a_package(
    terminal: Terminal, broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)  # as if it were not installed
    (broken / "tokenizer.json").rename(broken / "sentencepiece.bpe.model")
    line = terminal.fails(str(broken))
    assert "sentencepiece.bpe.model" in line
    assert "pip install 'sentencepiece==0.2.1'" in line


def test_a_vocabulary_beyond_the_embedding_table(terminal: Terminal, broken: Path) -> None:
    name = "embeddings.word_embeddings.weight"
    rewrite_weights(broken, lambda w: {**w, name: w[name][:300].contiguous()})
    edit_json(broken / "config.json", {"vocab_size": 300})
    line = terminal.fails(str(broken))
    assert "its tokenizer has 600 entries, but its embedding table only 300" in line
    assert "the model itself fails" in line


def test_no_pad_token(terminal: Terminal, broken: Path) -> None:
    edit_json(broken / "tokenizer_config.json", {"pad_token": None})
    assert "no pad token" in terminal.fails(str(broken))


def test_weights_that_are_no_numbers(terminal: Terminal, broken: Path) -> None:
    name = "encoder.layer.0.output.dense.weight"
    rewrite_weights(broken, lambda w: {**w, name: w[name] * float("nan")})
    line = terminal.fails(str(broken))
    assert (
        f"the model itself gives vectors that are not finite: so are its weights, such as {name}"
        in line
    )


@pytest.mark.parametrize("length", [1, 2])
def test_no_room_for_a_text(length: int, terminal: Terminal, broken: Path) -> None:
    edit_json(broken / "sentence_bert_config.json", {"max_seq_length": length})
    line = terminal.fails(str(broken))
    assert f"max_seq_length {length} leaves no room for a text beside 2 special tokens" in line


def test_a_model_that_depends_on_padding(terminal: Terminal, broken: Path) -> None:
    # Without a mask the model takes padding for a part of the text.
    edit_json(broken / "tokenizer_config.json", {"model_input_names": ["input_ids"]})
    assert "the model's vectors depend on padding" in terminal.fails(str(broken))


def test_absolute_positions_that_padding_shifts(terminal: Terminal, broken: Path) -> None:
    edit_json(broken / "tokenizer_config.json", {"padding_side": "left"})
    assert "the model's vectors depend on padding" in terminal.fails(str(broken))


def test_an_error_that_nobody_foresaw(
    terminal: Terminal, broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("float division\nby zero")

    monkeypatch.setattr("unitvec_export.origins.export_body", fail)
    assert main([str(broken), "--out", str(terminal.out)]) == 1
    assert "unexpected ZeroDivisionError: float division" in terminal.only_line()


def test_packaged_weights_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"other weights")
    with pytest.raises(InputError, match="is not the published file: its sha256 is"):
        check_weights(path, sha256="0" * 64)


def test_the_packaged_default_is_the_published_model() -> None:
    source = resolve_source(Request())
    assert source.model_id == DEFAULT_MODEL_ID
    assert (source.folder / "modules.json").is_file()


@pytest.mark.parametrize(
    "name",
    [
        "all-MiniLM-L6-v2",
        "all-minilm-l6-v2",
        "all_MiniLM_L6_v2",
        "sentence-transformers/all-MiniLM-L6-v2",
        "Sentence-Transformers/all-MiniLM-L6-v2",
    ],
)
def test_names_of_the_packaged_default(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_source(Request(name)) == resolve_source(Request())
    assert model_name(name) == "all-MiniLM-L6-v2"


def test_a_folder_of_the_defaults_name_is_that_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "all-minilm-l6-v2").mkdir()
    found = resolve_source(Request("all-minilm-l6-v2"))
    assert found == Source(tmp_path / "all-minilm-l6-v2", "all-minilm-l6-v2")
    assert model_name("all-minilm-l6-v2") == "all-minilm-l6-v2"


@pytest.mark.parametrize("model", ["./nowhere", "/nowhere/at/all", "a/b/c"])
def test_no_such_folder(model: str, terminal: Terminal) -> None:
    assert f"{model}: no such folder" in terminal.fails(model)


def test_a_file_is_not_a_model(terminal: Terminal, broken: Path) -> None:
    assert "is a file" in terminal.fails(str(broken / "config.json"))


def test_offline_and_not_in_the_cache(terminal: Terminal) -> None:
    assert "local hub cache" in terminal.fails("nobody/nothing", "--offline")


def test_a_revision_of_a_folder(terminal: Terminal, broken: Path) -> None:
    assert "--revision" in terminal.fails(str(broken), "--revision", "main")


@pytest.mark.parametrize(
    "args", [["--precision", "fp8"], ["--precision", ","], ["--opset", "9"], ["--opset", "x"]]
)
def test_bad_flags(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as failure:
        main(args)
    assert failure.value.code == 2
    assert args[0] in capsys.readouterr().err


def test_a_graph_that_needs_other_inputs() -> None:
    import onnx
    from onnx import TensorProto, helper

    def values(name: str, kind: int, rank: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, [None] * rank)

    inputs = [values("input_ids", 7, 2), values("position_ids", 7, 2)]
    nodes = [
        helper.make_node("Add", ["input_ids", "position_ids"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["float", "axis"], ["tokens"]),
    ]
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [-1])
    graph = helper.make_graph(nodes, "g", inputs, [values("tokens", 1, 3)], [axis])
    with pytest.raises(InputError, match="position_ids"):
        trim(helper.make_model(graph))
