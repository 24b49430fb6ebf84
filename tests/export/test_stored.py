"""Without torch: the same bits, from the files, a stored graph and stored vectors."""

from __future__ import annotations

import dataclasses
import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.models import TinyModel, edit_json
from unitvec_export.errors import InputError, ParityError
from unitvec_export.export import STEPS, ExportOptions, export
from unitvec_export.graph.opsets import DEFAULT_OPSET
from unitvec_export.graph.tracing import export_body, trace_body
from unitvec_export.progress import Progress
from unitvec_export.prove.known import KnownVectors
from unitvec_export.prove.reference import Reference, load_reference
from unitvec_export.prove.verification import compare, hash_texts, load_sample, make_groups
from unitvec_export.quantize.graphs import Graphs
from unitvec_export.source import DEFAULT_MODEL_ID, Request, Source, resolve_source
from unitvec_export.stored import minilm
from unitvec_export.stored.checkpoint import Checkpoint
from unitvec_export.stored.skeleton import give_weights, take_weights
from unitvec_server.model.artifact import load_artifact
from unitvec_server.model.manifest import Manifest

PROMPTED = TinyModel(
    pooling="cls", prompts=(("query", "query: "), ("other", "")), default_prompt_name="query"
)
MINILM_SPACE = "s1-066b2c492bb5743498e0"
"""A change here is a change of the space of every index that anyone has filled."""
SPECS = [
    TinyModel(),
    PROMPTED,
    TinyModel(architecture="roberta", normalize=False),
    TinyModel(architecture="mpnet"),
    TinyModel(architecture="distilbert"),
]


def export_quietly(folder: Path, **options: Any) -> Manifest:
    """Exports to `folder` without a word."""
    request = options.pop("request", Request())
    made = ExportOptions(request, folder, **options)
    return export(made, Progress(io.StringIO(), steps=STEPS))


@pytest.fixture(scope="module")
def packaged() -> Source:
    """The packaged model."""
    return resolve_source(Request())


def test_neither_torch_nor_sympy_is_imported(tmp_path: Path) -> None:
    """Nor what infers shapes, which are stored: `make serve` installs neither."""
    program = f"""
import sys
hidden = ("torch", "transformers", "sentence_transformers", "optimum", "sympy")
sys.modules.update(dict.fromkeys(hidden))
from unitvec_export.cli import main
out = {str(tmp_path / "out")!r}
sys.exit(main(["--without-torch", "--precision", "fp32,int8", "--out", out]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=280, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    manifest = load_artifact(tmp_path / "out").manifest
    assert manifest.identity is not None
    assert manifest.identity.space == MINILM_SPACE
    parity = manifest.graphs["fp32"].parity
    assert parity.texts > 256
    assert parity.cosine_min > 0.9999999


@pytest.mark.deep
@pytest.mark.timeout(900)
def test_what_is_stored_is_what_the_libraries_give_today(packaged: Source) -> None:
    """Vectors but for rounding, graphs and tokenizer to the bit; else run `stored.rewrite`."""
    reference = load_reference(packaged)
    stored, groups = minilm.load_stored(packaged)
    assert stored.facts == reference.facts
    assert sorted(stored.special_tokens) == sorted(reference.special_tokens)
    assert stored.tokenizer_json() == reference.tokenizer_json()
    for group in groups:
        expected = reference.encode(group.texts, prompt_name=group.prompt_name)
        parity = compare(stored.encode(group.texts, prompt_name=group.prompt_name), expected)
        assert parity.max_abs_diff < 1e-6
    built = Graphs(minilm.build_body(stored, opset=DEFAULT_OPSET), stored, verbose=False)
    traced = Graphs(export_body(reference, opset=DEFAULT_OPSET), reference, verbose=False)
    for name in (*built.plan(None), "int8"):
        assert content(built.make(name)) == content(traced.make(name)), name


def content(model: onnx.ModelProto) -> bytes:
    """The bytes of a graph's file."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def test_only_the_model_that_is_stored(
    packaged: Source, tiny_model: Callable[[TinyModel], Path], tmp_path: Path
) -> None:
    folder = tiny_model(TinyModel())
    with pytest.raises(InputError, match=rf"only {DEFAULT_MODEL_ID} .* has other weights: pip"):
        minilm.load_stored(Source(folder, "tiny"))
    shorter = shutil.copytree(packaged.folder, tmp_path / "shorter")
    edit_json(shorter / "sentence_bert_config.json", {"max_seq_length": 128})
    with pytest.raises(InputError, match=r"settings, prompts or tokenizer of .*shorter are others"):
        minilm.load_stored(Source(shorter, "shorter"))
    with pytest.raises(InputError, match="of opset 18: another needs a full export"):
        minilm.build_body(minilm.load_stored(packaged)[0], opset=17)


def test_wrong_vectors_do_not_pass(
    monkeypatch: pytest.MonkeyPatch, packaged: Source, tmp_path: Path
) -> None:
    """Other pooling leaves weights, texts and ids as they are: the vectors tell."""
    changed = shutil.copytree(packaged.folder, tmp_path / "changed")
    pooling = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    edit_json(changed / "1_Pooling" / "config.json", pooling)
    with pytest.raises(ParityError, match="fp32 reaches only cosine"):
        export_quietly(
            tmp_path / "out",
            request=Request(str(changed)),
            precisions=("fp32",),
            without_torch=True,
        )
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module", params=SPECS, ids=lambda spec: spec.architecture)
def loaded(
    request: pytest.FixtureRequest, tiny_model: Callable[[TinyModel], Path]
) -> tuple[Path, Reference]:
    """A tiny model, and what sentence-transformers makes of it."""
    folder = tiny_model(request.param)
    return folder, load_reference(Source(folder, folder.name))


class TestCheckpoint:
    """Files say what sentence-transformers says."""

    def test_facts(self, loaded: tuple[Path, Reference]) -> None:
        folder, reference = loaded
        assert Checkpoint(folder).facts == reference.facts

    def test_token_ids(self, loaded: tuple[Path, Reference]) -> None:
        folder, reference = loaded
        texts = [*load_sample()[::7], " ".join(load_sample())[:2000], "a <mask> b [SEP] c"]
        found = Checkpoint(folder).token_ids(texts, prompt="query: ")
        assert found == reference.token_ids(texts, prompt="query: ")

    def test_weights(self, loaded: tuple[Path, Reference]) -> None:
        folder, reference = loaded
        found = Checkpoint(folder).tensors
        for name, expected in reference.tensors.items():
            if "pooler" not in name and "position_ids" not in name:
                np.testing.assert_array_equal(found[name], expected)

    @pytest.mark.parametrize(
        ("file", "changes", "message"),
        [
            ("sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case .* alone"),
            ("tokenizer_config.json", {"pad_token": None}, "the padding token .* alone"),
            ("1_Pooling/config.json", {"pooling_mode": "max"}, "pooling max .* alone"),
            ("tokenizer.json", {"model": {}}, "tokenizer.json cannot be read"),
        ],
    )
    def test_what_files_alone_do_not_tell(
        self,
        tiny_model: Callable[[TinyModel], Path],
        tmp_path: Path,
        file: str,
        changes: dict[str, Any],
        message: str,
    ) -> None:
        folder = shutil.copytree(tiny_model(TinyModel()), tmp_path / "model")
        edit_json(folder / file, changes)
        with pytest.raises(InputError, match=message):
            Checkpoint(folder)


class TestSkeleton:
    """Weights leave and come back to the bit."""

    @pytest.fixture
    def traced(self, loaded: tuple[Path, Reference]) -> onnx.ModelProto:
        return trace_body(loaded[1], opset=DEFAULT_OPSET)

    def test_round_trip(self, loaded: tuple[Path, Reference], traced: onnx.ModelProto) -> None:
        tensors = Checkpoint(loaded[0]).tensors
        skeleton = take_weights(traced, tensors)
        assert skeleton.ByteSize() < traced.ByteSize() / 2
        back = give_weights(skeleton, tensors)
        assert back.SerializeToString(deterministic=True) == traced.SerializeToString(
            deterministic=True
        )

    def test_foreign_weights(self, loaded: tuple[Path, Reference], traced: onnx.ModelProto) -> None:
        tensors = dict(Checkpoint(loaded[0]).tensors)
        skeleton = take_weights(traced, tensors)
        name = next(name for name in tensors if name.endswith("word_embeddings.weight"))
        lost = tensors.pop(name)
        with pytest.raises(InputError, match=f"has no {name} of the stored graph's shape"):
            give_weights(skeleton, tensors)
        with pytest.raises(InputError, match="of the graph is not in the checkpoint"):
            take_weights(traced, {**tensors, name: lost + 1})


def test_vectors_are_of_their_texts(tiny_model: Callable[[TinyModel], Path]) -> None:
    checkpoint = Checkpoint(tiny_model(PROMPTED))
    groups = make_groups(checkpoint.facts, load_sample()[:32])
    count = sum(len(group.texts) for group in groups)
    vectors = np.arange(count * 32, dtype=np.float32).reshape(count, 32)
    stored = KnownVectors(groups, vectors, dim=32)
    found = [stored.encode(group.texts, prompt_name=group.prompt_name) for group in groups]
    np.testing.assert_array_equal(np.concatenate(found), vectors)
    for wrong in (vectors[:, :16], vectors[1:]):
        with pytest.raises(InputError, match=rf"{len(wrong)} vectors of .*{count} texts"):
            KnownVectors(groups, wrong, dim=32)


def test_the_record_changes_with_texts_and_prompts(packaged: Source) -> None:
    """Texts of another sample, or with another prompt, are not taken for the stored ones."""
    record = minilm.load_record()
    _, groups = minilm.load_stored(packaged)
    assert hash_texts(groups) == record.texts_sha256
    first = groups[0]
    for other in (
        dataclasses.replace(first, texts=first.texts[1:]),
        dataclasses.replace(first, prompt="query: "),
    ):
        assert hash_texts([other, *groups[1:]]) != record.texts_sha256
