"""A wrong artifact does not pass."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from tests.models import TinyModel
from unitvec_export.cli import main
from unitvec_export.errors import ParityError
from unitvec_export.graph.tracing import export_body, finish
from unitvec_export.pipeline.norms import Normalize
from unitvec_export.pipeline.pooling import Pooling
from unitvec_export.pipeline.tail import Step
from unitvec_export.prove.batches import make_batches
from unitvec_export.prove.reference import Reference, load_reference
from unitvec_export.prove.verification import (
    Verification,
    check_fp32,
    compare,
    load_sample,
    make_groups,
)
from unitvec_export.source import Source
from unitvec_server.model.artifact import MANIFEST_FILE, describe_file, load_artifact
from unitvec_server.model.manifest import Parity


@pytest.fixture(scope="module")
def reference(tiny_model: Callable[[TinyModel], Path]) -> Reference:
    """The tiny BERT model itself."""
    folder = tiny_model(TinyModel())
    return load_reference(Source(folder, folder.name))


@pytest.fixture(scope="module")
def verification(reference: Reference) -> Verification:
    """Its verification on the bundled sample."""
    groups = make_groups(reference.facts, load_sample())
    return Verification(reference, groups, tokens=reference)


@pytest.fixture(scope="module")
def body(reference: Reference) -> onnx.ModelProto:
    """Its graph before pooling."""
    return export_body(reference, opset=18)


@pytest.fixture
def copy(artifact: Path, tmp_path: Path) -> Path:
    """A copy of its artifact, to be changed."""
    return shutil.copytree(artifact, tmp_path / "copy")


def reseal(folder: Path) -> None:
    """Makes the manifest agree with the files, so that only the vectors can give it away."""
    path = folder / MANIFEST_FILE
    content = json.loads(path.read_text())
    content["tokenizer"] = dataclasses.asdict(describe_file(folder / "tokenizer.json"))
    graph = content["graphs"]["fp32"]
    graph["file"] = dataclasses.asdict(describe_file(folder / "model.fp32.onnx"))
    path.write_text(json.dumps(content))


def test_sample_covers_the_lengths() -> None:
    texts = load_sample()
    assert len(texts) >= 256
    assert len(set(texts)) == len(texts)
    words = sorted(len(text.split()) for text in texts)
    assert words[0] == 0
    assert words.count(1) >= 5
    assert words[-1] > 150
    assert any(not text.isascii() for text in texts)


def test_the_artifact_passes(verification: Verification, artifact: Path) -> None:
    measured = verification.measure(artifact, "fp32").parity
    stored = load_artifact(artifact).manifest.graphs["fp32"].parity
    assert measured.texts == stored.texts
    for parity in (measured, stored):
        assert 0.999999 < parity.cosine_min <= parity.cosine_mean < 1.000001
        assert 0 <= parity.max_abs_diff < 1e-5


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((Pooling(("cls",)), Normalize()), "fp32 reaches only cosine"),
        ((Pooling(("mean",)),), "fp32 differs by"),
    ],
)
def test_a_wrong_graph_fails(
    steps: tuple[Step, ...],
    message: str,
    verification: Verification,
    reference: Reference,
    body: onnx.ModelProto,
    copy: Path,
) -> None:
    wrong = finish(body, dataclasses.replace(reference.facts, steps=steps))
    onnx.save(wrong, str(copy / "model.fp32.onnx"))
    reseal(copy)
    with pytest.raises(ParityError, match=message):
        verification.measure(copy, "fp32")


def test_a_graph_that_ignores_the_mask_fails(
    verification: Verification, reference: Reference, body: onnx.ModelProto, copy: Path
) -> None:
    wrong = finish(body, reference.facts)
    pooling = [
        node
        for node in wrong.graph.node
        if node.name.startswith("unitvec/") and "attention_mask" in node.input
    ]
    assert pooling
    ones = onnx.helper.make_tensor("value", onnx.TensorProto.INT64, [1], [1])
    make = onnx.helper.make_node
    wrong.graph.node.insert(0, make("ConstantOfShape", ["shape"], ["ones"], value=ones))
    wrong.graph.node.insert(0, make("Shape", ["input_ids"], ["shape"]))
    for node in pooling:
        node.input[list(node.input).index("attention_mask")] = "ones"
    onnx.save(wrong, str(copy / "model.fp32.onnx"))
    reseal(copy)
    with pytest.raises(ParityError, match="fp32 reaches only cosine"):
        verification.measure(copy, "fp32")


def test_a_wrong_tokenizer_fails(verification: Verification, copy: Path) -> None:
    path = copy / "tokenizer.json"
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=False)
    tokenizer.save(str(path))
    reseal(copy)
    with pytest.raises(ParityError, match="tokenizer"):
        verification.measure(copy, "fp32")


def test_a_wrong_max_seq_length_fails(verification: Verification, copy: Path) -> None:
    path = copy / MANIFEST_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "max_seq_length": 63}))
    with pytest.raises(ParityError, match="tokenizer"):
        verification.measure(copy, "fp32")


def test_a_failing_export_leaves_nothing(
    tiny_model: Callable[[TinyModel], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("unitvec_export.prove.verification.MIN_FP32_COSINE", 1.1)
    out = tmp_path / "model"
    assert main([str(tiny_model(TinyModel())), "--out", str(out)]) == 1
    assert "fp32 reaches only cosine 1.0" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_compare_counts_what_it_says() -> None:
    expected = np.array([[1, 0], [0, 2], [3, 4]], np.float32)
    actual = np.array([[1, 0], [2, 0], [3, 4]], np.float32)
    parity = compare(actual, expected)
    assert parity == Parity(3, pytest.approx(2 / 3), pytest.approx(0.0), pytest.approx(2.0))


def test_vectors_of_length_zero_have_no_direction() -> None:
    zero = np.zeros((1, 3), np.float32)
    tiny = np.array([[1e-20, -1e-20, 0]], np.float32)
    unit = np.array([[1, 0, 0]], np.float32)
    assert compare(zero, tiny).cosine_min == 1.0
    assert compare(unit, tiny).cosine_min < 0.99
    assert compare(unit * 1e-6, unit).cosine_min == pytest.approx(1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_finite_fail(value: float) -> None:
    expected = np.ones((2, 3), np.float32)
    with pytest.raises(ParityError, match="not finite"):
        compare(np.where(np.eye(2, 3) > 0, value, expected).astype(np.float32), expected)


def test_vectors_of_another_shape_fail() -> None:
    with pytest.raises(ParityError, match="shape"):
        compare(np.ones((2, 3), np.float32), np.ones((2, 4), np.float32))


@pytest.mark.parametrize(
    ("cosine_min", "max_abs_diff", "passes"),
    [(0.99999, 0.001, True), (0.999989, 0.0, False), (1.0, 0.00101, False), (1.0, 0.0, True)],
)
def test_fp32_bounds(cosine_min: float, max_abs_diff: float, passes: bool) -> None:
    parity = Parity(9, 1.0, cosine_min, max_abs_diff)
    if passes:
        check_fp32(parity, 1.0)
        return
    with pytest.raises(ParityError):
        check_fp32(parity, 1.0)


@pytest.mark.parametrize("max_tokens", [64, 1024, 2048, 8192, 32_768])
def test_texts_are_as_long_as_the_model_reads(verification: Verification, max_tokens: int) -> None:
    """Up to 8,192 tokens, a word counting as one; long ones are in a group of their own."""
    facts = dataclasses.replace(verification._reference.facts, max_seq_length=max_tokens)
    groups = make_groups(facts, load_sample())
    words = len(groups[-1].texts[-1].split())
    assert words >= min(max_tokens, 8192) / 2
    assert (len(groups[-1].texts) == 1) is (max_tokens > 1024)


@given(st.lists(st.integers(0, 1500) | st.sampled_from([1024, 1025, 8192]), max_size=400))
def test_each_text_is_in_one_batch_and_long_ones_are_alone(lengths: list[int]) -> None:
    batches = make_batches(lengths)
    assert sorted(index for batch in batches for index in batch) == [*range(len(lengths))]
    assert all(len(batch) == 1 for batch in batches if max(lengths[i] for i in batch) > 1024)


def test_some_texts_run_beside_any_and_most_beside_their_like() -> None:
    lengths = [len(text.split()) + 2 for text in load_sample()]
    batches = make_batches(lengths)
    shapes = [(len(batch), [lengths[index] for index in batch]) for batch in batches]
    assert {size for size, _ in shapes} >= {1, 2, 3, 4, 8, 16}
    mixed = [found for _, found in shapes if min(found) < max(found) / 3]
    assert {len(found) for found in mixed} >= {3, 4, 8, 16}
    padded = [found for size, found in shapes if min(found) < max(found)]
    assert len(padded) > len(batches) / 2
    assert sum(size * max(found) for size, found in shapes) < 1.5 * sum(lengths)
