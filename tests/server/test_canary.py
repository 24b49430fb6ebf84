"""A model that computes other vectors than at its export is found out before it serves."""

from __future__ import annotations

import base64
import dataclasses
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from tests.artifacts import needs_kernels
from unitvec_server.engine.loading import LoadedModel, load_model
from unitvec_server.errors import ArtifactError, SelfTestError
from unitvec_server.flags import parse_config
from unitvec_server.model.artifact import MANIFEST_FILE, describe_file, load_artifact
from unitvec_server.model.canary import (
    CANARY_TEXTS,
    MIN_COSINES,
    Canary,
    closeness,
    read_canary,
    write_canary,
)
from unitvec_server.model.manifest import PRECISIONS

FUSED_PRECISIONS = [pytest.param(name, marks=needs_kernels) for name in ("int16", "bf16", "int8")]

Floats = np.ndarray[Any, np.dtype[np.float32]]


class TestCloseness:
    """The cosine of vectors of like length, and less of others."""

    @given(st.integers(0, 2**32 - 1), st.floats(0, 2))
    def test_is_the_cosine_of_unit_vectors(self, seed: int, noise: float) -> None:
        rng = np.random.default_rng(seed)
        one = rng.normal(size=(3, 8))
        other = one + noise * rng.normal(size=(3, 8))
        one, other = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (one, other))
        found = closeness(one.astype(np.float32), other.astype(np.float32))
        np.testing.assert_allclose(found, (one * other).sum(axis=1), atol=1e-6)

    def test_sees_a_wrong_length(self) -> None:
        vectors = np.ones((2, 4), np.float32)
        assert (closeness(2 * vectors, vectors) < 0.6).all()

    def test_of_zero_vectors(self) -> None:
        """Static embeddings have none for a text of unknown tokens."""
        zero, one = np.zeros((1, 4), np.float32), np.ones((1, 4), np.float32)
        assert closeness(zero, zero) == 1.0
        assert closeness(one, zero) < 0.0

    def test_what_is_not_finite_never_passes(self) -> None:
        vectors = np.ones((2, 4), np.float32)
        damaged = vectors.copy()
        damaged[1, 2] = np.nan
        with pytest.raises(SelfTestError, match="'b' has cosine nan"):
            Canary(["a", "b"], vectors, 0.5).check(damaged)


def test_every_graph_has_its_bound() -> None:
    assert set(MIN_COSINES) == set(PRECISIONS)


@pytest.fixture
def copy(fused_artifact: Path, tmp_path: Path) -> Path:
    return shutil.copytree(fused_artifact, tmp_path / "copy")


def load(folder: Path, *flags: str) -> LoadedModel:
    config = parse_config(["--model", str(folder), "--provider", "cpu", *flags], {})
    return load_model(config.model[0], config)


def seal(folder: Path) -> None:
    """Makes the manifest agree with all files, so that only the vectors can tell."""
    path = folder / MANIFEST_FILE
    content = json.loads(path.read_text())
    content["canary"] = dataclasses.asdict(describe_file(folder / "canary.json"))
    for graph in content["graphs"].values():
        graph["file"] = dataclasses.asdict(describe_file(folder / graph["file"]["name"]))
    path.write_text(json.dumps(content))


def edit_canary(folder: Path, graph: str, change: Callable[[Floats], Floats]) -> None:
    path = folder / "canary.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    values = np.frombuffer(base64.b64decode(content["vectors"][graph]), np.float32)
    changed = change(values.reshape(len(content["texts"]), -1).copy())
    content["vectors"][graph] = base64.b64encode(changed.tobytes()).decode()
    path.write_text(json.dumps(content), encoding="utf-8")
    seal(folder)


def move_last_bit(vectors: Floats) -> Floats:
    vectors[0, 0] = np.nextafter(vectors[0, 0], np.float32(2))
    return vectors


@pytest.mark.parametrize("precision", ["fp32", *FUSED_PRECISIONS])
def test_what_was_exported_passes(fused_artifact: Path, precision: str) -> None:
    canary = load(fused_artifact, "--precision", precision).model.canary
    assert canary is not None
    assert canary.texts == list(CANARY_TEXTS)
    assert canary.is_exact == (precision != "fp32")


def test_a_plain_int8_graph_passes(artifact: Path) -> None:
    canary = load(artifact, "--precision", "int8").model.canary
    assert canary is not None
    assert canary.min_cosine == MIN_COSINES["int8"]
    assert not canary.is_exact


@pytest.mark.parametrize("precision", ["fp32", *FUSED_PRECISIONS])
def test_wrong_vectors_are_refused_with_the_reason(copy: Path, precision: str) -> None:
    for graph in load_artifact(copy).manifest.graphs:
        edit_canary(copy, graph, lambda vectors: vectors[::-1])
    with pytest.raises(SelfTestError, match=r"model copy computes wrong vectors here: .* cosine"):
        load(copy, "--precision", precision)
    load(copy, "--precision", precision, "--self-test", "false")


def test_changed_weights_are_refused(copy: Path) -> None:
    """Though every hash is that of the file as it is now."""
    path = copy / "model.fp32.onnx"
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim == 2:
            changed = np.ascontiguousarray(values[::-1])
            tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    onnx.save(model, path)
    seal(copy)
    with pytest.raises(SelfTestError, match="computes wrong vectors here"):
        load(copy, "--precision", "fp32")


@pytest.mark.parametrize("precision", FUSED_PRECISIONS)
def test_a_last_bit_counts_where_bits_are_promised(copy: Path, precision: str) -> None:
    graph = {"int8": "int8-fused"}.get(precision, precision)
    edit_canary(copy, graph, move_last_bit)
    with pytest.raises(SelfTestError, match="last bits"):
        load(copy, "--precision", precision)
    manifest = json.loads((copy / MANIFEST_FILE).read_text())
    manifest["identity"]["bits"] = {}  # as if another version of the operator had exported it
    (copy / MANIFEST_FILE).write_text(json.dumps(manifest))
    load(copy, "--precision", precision)


def test_a_last_bit_of_a_plain_graph_is_nobodys_promise(copy: Path) -> None:
    edit_canary(copy, "fp32", move_last_bit)
    load(copy, "--precision", "fp32")


def test_an_artifact_without_one_is_served(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = copy / MANIFEST_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "canary": None}))
    with caplog.at_level(logging.INFO):
        assert load(copy, "--precision", "fp32").model.canary is None
    [line] = [message for message in caplog.messages if "self-test" in message]
    assert "exported anew" in line


def test_texts_that_are_cut_do_not_count(copy: Path) -> None:
    """A longest text that was edited by hand is another space, and no fault of the machine."""
    path = copy / MANIFEST_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "max_seq_length": 8}))
    canary = load(copy, "--precision", "fp32").model.canary
    assert canary is not None
    assert 0 < len(canary.texts) < len(CANARY_TEXTS)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"texts": "cat", "vectors": {}},
        {"texts": ["cat"], "vectors": {"int16": ""}},
        {"texts": ["cat"], "vectors": {"fp32": "?"}},
        {"texts": ["cat"], "vectors": {"fp32": "AAAA"}},
        {"texts": [1], "vectors": {"fp32": ""}},
    ],
)
def test_a_damaged_one_is_refused(copy: Path, content: object) -> None:
    (copy / "canary.json").write_text(json.dumps(content))
    artifact = load_artifact(copy)
    with pytest.raises(ArtifactError, match="export it again"):
        read_canary(artifact, "fp32", is_exact=False)
    seal(copy)
    with pytest.raises(ArtifactError, match=r"canary\.json is damaged"):
        read_canary(load_artifact(copy), "fp32", is_exact=False)


def test_is_read_as_it_was_written(copy: Path) -> None:
    dim = load_artifact(copy).manifest.dim
    vectors = np.random.default_rng(0).normal(size=(2, dim)).astype(np.float32)
    (copy / "canary.json").write_text(write_canary(["ä", "\n"], {"fp32": vectors}), "utf-8")
    seal(copy)
    canary = read_canary(load_artifact(copy), "fp32", is_exact=True)
    assert canary is not None
    assert canary.texts == ["ä", "\n"]
    np.testing.assert_array_equal(canary.vectors, vectors)
