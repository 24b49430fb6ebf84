"""Every supported kind of model, exported and compared with sentence-transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.models import TinyModel, sample_texts
from unitvec_export.prove.reference import Reference, load_reference
from unitvec_export.source import Source
from unitvec_server.model.artifact import Artifact, load_artifact, verify_file
from unitvec_server.model.encoder import Encoder, EncoderOptions
from unitvec_server.model.tokenizer import Tokenizer

PROMPTS = (("query", "Find this: "), ("passage", "Passage: "))
KINDS = {
    "bert mean normalize": TinyModel(),
    "bert cls": TinyModel(pooling="cls"),
    "no normalize": TinyModel(normalize=False),
    "prompts": TinyModel(prompts=PROMPTS),
    "default prompt": TinyModel(pooling="cls", prompts=PROMPTS, default_prompt_name="query"),
    "distilbert": TinyModel(architecture="distilbert"),
    "mpnet": TinyModel(architecture="mpnet", dim=48),
    "roberta cls no normalize": TinyModel(architecture="roberta", pooling="cls", normalize=False),
    "lower case": TinyModel(lower_case=True),
    "one token type": TinyModel(token_types=1),
    "modernbert": TinyModel(architecture="modernbert"),
    "t5 encoder": TinyModel(architecture="t5"),
    "long": TinyModel(max_seq_length=400),
}


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def spec(request: pytest.FixtureRequest) -> TinyModel:
    """A kind of model."""
    return request.param


@pytest.fixture
def exported(spec: TinyModel, tiny_artifact: Callable[[TinyModel], Path]) -> Artifact:
    """What was exported from it."""
    return load_artifact(tiny_artifact(spec))


@pytest.fixture
def reference(spec: TinyModel, tiny_model: Callable[[TinyModel], Path]) -> Reference:
    """The model itself."""
    folder = tiny_model(spec)
    return load_reference(Source(folder, folder.name))


def embed(artifact: Artifact, texts: list[str], *, prompt: str = "") -> np.ndarray:
    """(n, D) float32 from the fp32 graph, all texts in one batch."""
    manifest = artifact.manifest
    tokenizer = Tokenizer(artifact.tokenizer_path, max_seq_length=manifest.max_seq_length)
    options = EncoderOptions(pad_token_id=manifest.pad_token_id)
    encoder = Encoder(artifact.graph_path("fp32"), options)
    return encoder.encode([row.input_ids for row in tokenizer.encode(texts, prompt=prompt)])


def test_vectors_are_those_of_sentence_transformers(
    exported: Artifact, reference: Reference
) -> None:
    texts = ["", "One cat", *sample_texts()[:40]]
    prompt = dict(exported.manifest.prompts).get(exported.manifest.default_prompt_name or "", "")
    expected = reference.encode(texts)
    np.testing.assert_allclose(embed(exported, texts, prompt=prompt), expected, atol=2e-5)
    # Else any constant would pass.
    units = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.median(units @ units.T) < 0.95


def test_named_prompts_are_those_of_sentence_transformers(
    exported: Artifact, reference: Reference, spec: TinyModel
) -> None:
    named = {"query": "", "document": "", **dict(spec.prompts)} if spec.prompts else {}
    assert exported.manifest.prompts == named
    texts = sample_texts()[:10]
    for name, prompt in spec.prompts:
        expected = reference.encode(texts, prompt_name=name)
        np.testing.assert_allclose(embed(exported, texts, prompt=prompt), expected, atol=2e-5)


def test_manifest_states_the_model(exported: Artifact, spec: TinyModel) -> None:
    manifest = exported.manifest
    assert manifest.dim == spec.dim
    assert manifest.max_seq_length == spec.max_seq_length
    assert manifest.pooling == spec.pooling
    assert manifest.normalized is spec.normalize
    assert manifest.default_prompt_name == spec.default_prompt_name
    for graph in manifest.graphs.values():
        verify_file(exported, graph.file)
        assert graph.parity.texts > 200
    assert manifest.graphs["fp32"].parity.cosine_min >= 0.99999
    assert 0 < manifest.graphs["int8"].parity.cosine_mean <= 1


def test_graph_has_the_artifact_signature(exported: Artifact, spec: TinyModel) -> None:
    for precision in exported.manifest.graphs:
        graph = onnx.load(str(exported.graph_path(precision))).graph
        assert [value.name for value in graph.input] == ["input_ids", "attention_mask"]
        assert [value.name for value in graph.output] == ["embeddings"]
        assert graph.output[0].type.tensor_type.shape.dim[1].dim_value == spec.dim
        assert not [tensor.name for tensor in graph.initializer if "pooler" in tensor.name]


def test_a_vector_is_the_same_under_any_padding(exported: Artifact) -> None:
    texts = ["a cat", *sample_texts()[:12]]
    together = embed(exported, texts)
    for index, text in enumerate(texts):
        np.testing.assert_allclose(embed(exported, [text])[0], together[index], atol=2e-5)
