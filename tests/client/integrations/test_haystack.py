"""The embedders in pipelines of Haystack: written, found, stored, awaited."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.components.embedders.types import DocumentEmbedder, TextEmbedder
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.core.errors import PipelineRuntimeError
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import Secret

from tests.client.integrations.conftest import TOKEN
from unitvec_client import Client, ConnectionOptions, InputError, InputTypeError, ModelNotFoundError
from unitvec_client.integrations.haystack import UnitvecDocumentEmbedder, UnitvecTextEmbedder

TEXTS = ["a cat on a mat", "a bank loan", "the stock exchange", "a feline on a rug"]


@pytest.fixture
def store(target: str) -> InMemoryDocumentStore:
    """`TEXTS` and their embeddings, as a pipeline has written them."""
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    pipeline = Pipeline()
    pipeline.add_component("documents", UnitvecDocumentEmbedder(target))
    pipeline.add_component("writer", DocumentWriter(store))
    pipeline.connect("documents.documents", "writer.documents")
    documents = [Document(content=text) for text in TEXTS]
    found = pipeline.run(
        {"documents": {"documents": documents}}, include_outputs_from={"documents"}
    )
    meta = found["documents"]["meta"]
    assert meta["model"] == "all-MiniLM-L6-v2"
    assert meta["usage"]["total_tokens"] > 4 * len(TEXTS)
    assert meta["truncated"] == []
    assert found["writer"]["documents_written"] == len(TEXTS)
    pipeline.close()
    return store


def query_pipeline(store: InMemoryDocumentStore, embedder: UnitvecTextEmbedder) -> Pipeline:
    pipeline = Pipeline()
    pipeline.add_component("query", embedder)
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=2))
    pipeline.connect("query.embedding", "retriever.query_embedding")
    return pipeline


def contents(found: dict[str, Any]) -> set[str]:
    return {document.content for document in found["retriever"]["documents"]}


def test_a_pipeline_finds(store: InMemoryDocumentStore, target: str, client: Client) -> None:
    pipeline = query_pipeline(store, UnitvecTextEmbedder(target))
    found = pipeline.run({"query": {"text": "a kitten on a carpet"}})
    assert contents(found) == {TEXTS[0], TEXTS[3]}
    best = found["retriever"]["documents"][0]
    scores = client.similarity("a kitten on a carpet", TEXTS)
    assert best.score == pytest.approx(float(scores.max()), abs=1e-5)
    pipeline.close()


def test_a_pipeline_is_awaited_in_event_loops_of_their_own(
    store: InMemoryDocumentStore, target: str
) -> None:
    pipeline = query_pipeline(store, UnitvecTextEmbedder(target))

    async def ask() -> dict[str, Any]:
        await pipeline.warm_up_async()
        return await pipeline.run_async({"query": {"text": "a kitten on a carpet"}})

    for _ in range(2):
        assert contents(asyncio.run(ask())) == {TEXTS[0], TEXTS[3]}
    asyncio.run(pipeline.close_async())


def test_a_pipeline_is_stored_without_the_token(
    guarded_target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_TOKEN", TOKEN)
    options: Any = {
        "token": Secret.from_env_var("SOME_TOKEN"),
        "connection": ConnectionOptions(compression="gzip", extra_options=(("grpc.x", 1),)),
        "dimensions": 16,
    }
    pipeline = Pipeline()
    pipeline.add_component("query", UnitvecTextEmbedder(guarded_target, **options))
    documents = UnitvecDocumentEmbedder(
        guarded_target, meta_fields_to_embed=["title"], embedding_separator=" - ", **options
    )
    pipeline.add_component("documents", documents)
    stored = pipeline.dumps()
    assert TOKEN not in stored
    again = Pipeline.loads(stored, allowed_modules=[UnitvecTextEmbedder.__module__])
    assert again.to_dict() == pipeline.to_dict()
    assert again.get_component("query").connection == options["connection"]
    inputs = {"query": {"text": "a cat"}, "documents": {"documents": [Document(content="x")]}}
    found, expected = again.run(inputs), pipeline.run(inputs)
    assert len(found["query"]["embedding"]) == 16
    wanted = expected["query"]["embedding"]
    assert found["query"]["embedding"] == pytest.approx(wanted, abs=1e-6)
    again.close()
    pipeline.close()


def test_what_is_not_storable(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="token"):
        UnitvecTextEmbedder(token=Secret.from_token(TOKEN)).to_dict()
    with pytest.raises(InputError, match="Secret"):
        UnitvecTextEmbedder(connection=ConnectionOptions(token=TOKEN))
    pem = ConnectionOptions(tls=True, root_certificates=b"PEM")
    with pytest.raises(InputError, match="root_certificates"):
        UnitvecTextEmbedder(connection=pem).to_dict()
    named = UnitvecTextEmbedder(
        connection=ConnectionOptions(tls=True, root_certificates=tmp_path / "ca.pem"), token=None
    )
    again = UnitvecTextEmbedder.from_dict(named.to_dict())
    assert again.connection == ConnectionOptions(
        tls=True, root_certificates=str(tmp_path / "ca.pem")
    )
    assert again.token is None


async def test_metadata_prompts_prefix_and_suffix(target: str, client: Client) -> None:
    embedder = UnitvecDocumentEmbedder(
        target,
        model="prompted",
        prompt_name="passage",
        meta_fields_to_embed=["title", "missing", "year"],
        embedding_separator=" | ",
        prefix="<",
        suffix=">",
    )
    documents = [
        Document(content="a cat", meta={"title": "Cats", "year": 2020}),
        Document(content=None, meta={"title": None}),
    ]
    texts = ["passage: <Cats | 2020 | a cat>", "passage: <>"]
    expected = client.embed(texts, model="prompted", prompt_name="")
    found = embedder.run(documents)
    np.testing.assert_allclose([d.embedding for d in found["documents"]], expected, atol=1e-6)
    assert await embedder.run_async(documents) == found
    assert all(document.embedding is None for document in documents)
    assert embedder.run([])["documents"] == []
    query = UnitvecTextEmbedder(target, model="prompted", prefix="<", suffix=">")
    asked = query.run("a cat")
    wanted = client.embed("query: <a cat>", model="prompted", prompt_name="")
    np.testing.assert_allclose(asked["embedding"], wanted, atol=1e-6)
    assert await query.run_async("a cat") == asked
    await query.close_async()
    await embedder.close_async()


def test_what_was_cut_is_told(target: str) -> None:
    long = Document(content="word " * 1000)
    embedder = UnitvecDocumentEmbedder(target)
    meta = embedder.run([Document(content="a cat"), long])["meta"]
    assert meta["truncated"] == [long.id]
    assert UnitvecTextEmbedder(target).run("word " * 1000)["meta"]["truncated"] is True
    embedder.close()


def test_errors(target: str) -> None:
    pipeline = Pipeline()
    pipeline.add_component("query", UnitvecTextEmbedder(target, model="none"))
    with pytest.raises(PipelineRuntimeError) as caught:
        pipeline.run({"query": {"text": "a cat"}})
    assert isinstance(caught.value.__cause__, ModelNotFoundError)
    with pytest.raises(InputTypeError, match="list of Documents"):
        UnitvecDocumentEmbedder(target).run(["a cat"])
    with pytest.raises(InputTypeError, match="must be a str"):
        UnitvecTextEmbedder(target).run([Document(content="a cat")])


def test_they_fit_the_protocols_of_embedders(target: str) -> None:
    text: TextEmbedder = UnitvecTextEmbedder(target)
    documents: DocumentEmbedder = UnitvecDocumentEmbedder(target)
    text.warm_up()
    documents.warm_up()
    assert text.run("a cat").keys() == {"embedding", "meta"}
    text.close()
    documents.close()


def test_numbers_may_be_numpy_s(target: str) -> None:
    embedder = UnitvecTextEmbedder(target, dimensions=np.int64(16))  # type: ignore[arg-type]
    pipeline = Pipeline()
    pipeline.add_component("query", embedder)
    again = Pipeline.loads(
        pipeline.dumps(), allowed_modules=["unitvec_client.integrations.haystack"]
    )
    assert len(again.run({"query": {"text": "a cat"}})["query"]["embedding"]) == 16
    for each in (embedder, again.get_component("query")):
        each.close()
