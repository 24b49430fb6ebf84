"""Pipelines of modules, exported and held against sentence-transformers, prompt by prompt."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.artifacts import keep_pipeline, keep_pipeline_artifact
from tests.models import sample_texts
from tests.pipelines import encode, prompt_names
from unitvec_export.prove.verification import compare
from unitvec_server.model.artifact import Artifact, load_artifact
from unitvec_server.model.encoder import Encoder, EncoderOptions
from unitvec_server.model.kernels import find_kernels
from unitvec_server.model.manifest import FUSED
from unitvec_server.model.tokenizer import mark_unpooled, open_tokenizer

LONG = " ".join(sample_texts()[:30])
TEXTS = ["a", "One cat on two mats", LONG, "[SEP] a [CLS]b", *sample_texts()[:20]]
PIPELINES = ("all poolings without prompts", "Dropout, Dense, LayerNorm, Normalize", "Asym")
"""They stand for all kinds of nodes; `test_architectures` has every one."""
PRECISIONS = ("fp32", "int16", "int8", "int8-fused")
Floats = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Exported:
    """An artifact as the server embeds with it."""

    artifact: Artifact
    precision: str

    def rows(self, texts: Sequence[str], name: str | None) -> list[npt.NDArray[np.int64]]:
        """Token ids of texts with a prompt."""
        manifest, route = self.artifact.manifest, self.route(name)
        chosen = manifest.default_prompt_name or "" if name is None else name
        prompt = manifest.prompts.get(chosen, "")
        encodings = open_tokenizer(route).encode(texts, prompt=prompt)
        count = route.manifest.unpooled_tokens.get(chosen, 0)
        return [each.input_ids for each in mark_unpooled(encodings, count)]

    def route(self, name: str | None) -> Artifact:
        """The artifact that embeds with this prompt."""
        folder = self.artifact.manifest.routes.get(name or "", "")
        return self.artifact.routes[folder] if folder else self.artifact

    def encoder(self, name: str | None) -> Encoder:
        """What runs its graph."""
        route = self.route(name)
        operators = find_kernels().library if self.precision in FUSED else None
        options = EncoderOptions(pad_token_id=route.manifest.pad_token_id, operators=operators)
        return Encoder(route.graph_path(self.precision), options)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_vectors_are_those_of_sentence_transformers_alone_and_together(pipeline: str) -> None:
    folder = keep_pipeline(pipeline)
    exported = Exported(load_artifact(keep_pipeline_artifact(pipeline)), "fp32")
    for name in prompt_names(exported.artifact.manifest):
        expected = encode(folder, TEXTS, name)
        encoder, rows = exported.encoder(name), exported.rows(TEXTS, name)
        alone = np.concatenate([encoder.encode([row]) for row in rows])
        for vectors in (alone, encoder.encode(rows)):
            assert compare(vectors, expected).cosine_min >= 0.99999, name
            np.testing.assert_allclose(vectors, expected, rtol=1e-3, atol=1e-4)
        assert are_different(expected)


def are_different(vectors: Floats) -> bool:
    """Whether texts have vectors of their own: else any constant would pass."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.where(norms > 0, norms, 1)
    return bool(np.median(units @ units.T) < 0.995)


@pytest.mark.deep
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("pipeline", ["Dense tanh, Normalize", "max", "mean without prompts"])
def test_vectors_do_not_depend_on_batch_mates(pipeline: str, precision: str) -> None:
    artifact = load_artifact(keep_pipeline_artifact(pipeline, ("fp32", "int8")))
    if precision not in artifact.manifest.graphs:
        pytest.skip(f"{pipeline} has no {precision} graph")
    exported = Exported(artifact, precision)
    for name in prompt_names(artifact.manifest):
        encoder, rows = exported.encoder(name), exported.rows(TEXTS, name)
        together = encoder.encode(rows)
        for row, vector in zip(rows, together, strict=True):
            np.testing.assert_allclose(encoder.encode([row])[0], vector, rtol=1e-4, atol=2e-5)


@pytest.mark.deep
def test_dense_after_the_fused_operator() -> None:
    if find_kernels().library is None:
        pytest.skip("unitvec-kernels is not installed or cannot run here")
    name = "Dense tanh, Normalize"
    artifact = load_artifact(keep_pipeline_artifact(name, ("fp32", "int8", "int16")))
    expected = encode(keep_pipeline(name), TEXTS, None)
    for precision, least in (("int16", 0.99999), ("int8-fused", 0.98)):
        exported = Exported(artifact, precision)
        vectors = exported.encoder(None).encode(exported.rows(TEXTS, None))
        assert compare(vectors, expected).cosine_min >= least


@pytest.mark.deep
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_text_without_tokens_has_a_zero_vector(precision: str) -> None:
    """sentence-transformers raises on it alone; in a batch, mean pooling gives zeros, too."""
    name = "no special tokens"
    artifact = load_artifact(keep_pipeline_artifact(name, ("fp32", "int8", "int16")))
    if precision not in artifact.manifest.graphs:
        pytest.skip(f"no {precision} graph")
    exported = Exported(artifact, precision)
    rows = exported.rows(["", "a cat", ""], None)
    assert [len(row) for row in rows][::2] == [0, 0]
    vectors = exported.encoder(None).encode(rows)
    np.testing.assert_array_equal(vectors[::2], 0)
    assert np.linalg.norm(vectors[1]) == pytest.approx(1)
    np.testing.assert_array_equal(exported.encoder(None).encode(rows[:1]), 0)


def test_routes_say_which_prompts_they_take() -> None:
    artifact = load_artifact(keep_pipeline_artifact("Asym"))
    routes: Mapping[str, Any] = artifact.manifest.routes
    assert routes == {"": "", "query": "", "document": "route-document"}
    assert [*artifact.routes] == ["route-document"]
    assert artifact.routes["route-document"].manifest.prompts == {"document": ""}
