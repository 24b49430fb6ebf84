"""Pipelines of other modules behind a real server: streamed, routed, and compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from tests.artifacts import keep_pipeline, keep_pipeline_artifact, needs_kernels
from tests.models import sample_texts
from tests.pipelines import encode
from tests.serving import Server, serving
from unitvec_client import Client
from unitvec_client.errors import InvalidArgumentError
from unitvec_client.integrations.sentence_transformer import RemoteSentenceTransformer
from unitvec_export.prove.verification import compare
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_server.model.artifact import load_artifact

PIPELINES = {
    "poolings": "all poolings without prompts",
    "router": "Router, static queries",
    "tasks": "Router without a default",
}
TEXTS = ["a cat", " ".join(sample_texts()[:30]), *sample_texts()[20:36]]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One model of each kind."""
    models = [f"--model={name}={keep_pipeline_artifact(p)}" for name, p in PIPELINES.items()]
    with serving(*models, "--http-port", "0") as server:
        yield server


@pytest.mark.parametrize(
    ("model", "prompt_name"),
    [
        ("poolings", None),
        ("poolings", "passage"),
        ("router", None),
        ("router", "query"),
        ("router", "document"),
        ("tasks", "query"),
        ("tasks", "two"),
    ],
)
def test_streamed_vectors_are_those_of_sentence_transformers(
    server: Server, model: str, prompt_name: str | None
) -> None:
    expected = encode(keep_pipeline(PIPELINES[model]), TEXTS, prompt_name)
    with Client(server.target) as client:
        how = {"model": model, "prompt_name": prompt_name, "normalize": False}
        streamed = np.stack([item.vector for item in client.embed_stream(TEXTS, **how)])
    assert compare(streamed, expected).cosine_min >= 0.99999


@pytest.mark.parametrize(
    ("model", "method", "options"),
    [
        ("poolings", "encode", {}),  # whose default prompt is not pooled
        ("poolings", "encode", {"prompt_name": "passage"}),
        ("poolings", "encode", {"prompt": "Passage: "}),
        ("poolings", "encode", {"prompt": ""}),
        ("poolings", "encode_query", {}),
        ("poolings", "encode_document", {}),
        ("router", "encode", {}),
        ("router", "encode_query", {}),
        ("router", "encode_document", {}),
        ("router", "encode_query", {"prompt": "about: "}),
        ("router", "encode", {"task": "query"}),
    ],
)
def test_the_stand_in_is_sentence_transformers(
    server: Server, model: str, method: str, options: Any
) -> None:
    theirs = SentenceTransformer(str(keep_pipeline(PIPELINES[model])), device="cpu")
    ours = RemoteSentenceTransformer(model, target=server.target)
    expected = getattr(theirs, method)(TEXTS, **options)
    assert compare(getattr(ours, method)(TEXTS, **options), expected).cosine_min >= 0.99999
    ours.close()


def test_the_stand_in_refuses_prompts_that_the_server_would_pool(server: Server) -> None:
    ours = RemoteSentenceTransformer("poolings", target=server.target)
    with pytest.raises(InvalidArgumentError, match=r"pools no prompt.*document, passage, query"):
        ours.encode(TEXTS, prompt="about: ")
    ours.close()


@needs_kernels
@pytest.mark.parametrize("precision", ["int8", "int16"])
def test_a_static_route_is_served_beside_a_quantized_one(precision: str) -> None:
    name = PIPELINES["router"]
    folder = keep_pipeline_artifact(name, ("fp32", "int8", "int16"))
    with (
        serving(f"--model=router={folder}", "--precision", precision) as server,
        Client(server.target) as client,
    ):
        for prompt, least in (("query", 0.99999), ("document", 0.98)):
            expected = encode(keep_pipeline(name), TEXTS, prompt)
            found = client.embed(TEXTS, prompt_name=prompt, normalize=False)
            assert compare(found, expected).cosine_min >= least
        [model] = client.models().models
        reply = client.embed_result(TEXTS[:1], prompt_name="document")
        assert (reply.space, reply.bits) == (model.space, model.bits)
        manifest = load_artifact(folder).manifest
        assert manifest.identity is not None
        assert model.space == manifest.identity.space


@pytest.mark.parametrize(
    ("model", "input_type", "method"),
    [
        ("router", "search_query", "encode_query"),  # a route without a text of its own
        ("router", "search_document", "encode_document"),
        ("poolings", "search_query", "encode_query"),
        ("poolings", "search_document", "encode_document"),
    ],
)
def test_queries_and_documents_of_cohere(
    server: Server, model: str, input_type: str, method: str
) -> None:
    body = {"model": model, "texts": TEXTS, "input_type": input_type}
    reply = httpx.post(f"{server.url}/v2/embed", json=body, timeout=60).json()
    theirs = SentenceTransformer(str(keep_pipeline(PIPELINES[model])), device="cpu")
    found = np.array(reply["embeddings"]["float"], np.float32)
    assert compare(found, getattr(theirs, method)(TEXTS)).cosine_min >= 0.99999


def test_both_sides_of_a_comparison_take_their_own_route(server: Server) -> None:
    folder = keep_pipeline(PIPELINES["router"])
    queries, documents = encode(folder, TEXTS[:3], "query"), encode(folder, TEXTS, "document")

    def side(texts: list[str], name: str) -> pb.Operand:
        options = pb.EncodeOptions(prompt_name=name)
        return pb.Operand(texts=pb.TextList(texts=texts), options=options)

    cross = pb.CrossComparison(queries=side(TEXTS[:3], "query"), documents=side(TEXTS, "document"))
    reply = server.stub.Similarity(pb.SimilarityRequest(model="router", cross=cross))
    scores = np.frombuffer(reply.scores.data, "<f4").reshape(3, -1)
    np.testing.assert_allclose(scores, queries @ documents.T, atol=1e-5)


def test_a_model_without_a_default_route_names_its_prompts(server: Server) -> None:
    with Client(server.target) as client:
        for options in ({}, {"prompt_name": ""}):
            with pytest.raises(InvalidArgumentError, match=r"name a prompt\. .*one, query, two"):
                client.embed(["a"], model="tasks", **options)
        with pytest.raises(InvalidArgumentError, match="no prompt 'three' in model tasks"):
            client.embed(["a"], model="tasks", prompt_name="three")


def test_what_the_server_says_of_them(server: Server) -> None:
    with Client(server.target) as client:
        models = {model.name: model for model in client.models().models}
    assert models["poolings"].pooling == "concatenated"
    assert models["poolings"].dim == 6 * 128
    assert models["router"].prompts == {"query": "", "document": ""}
    assert [name for name, model in models.items() if model.unpooled_prompts] == ["poolings"]
    assert sorted(name for name, model in models.items() if model.routed) == ["router", "tasks"]
