"""`UnitvecEmbedding` in an index of LlamaIndex: retrieved, awaited, stored, pickled."""

from __future__ import annotations

import asyncio
import pickle

import numpy as np
import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import MetadataMode, TextNode
from pydantic import ValidationError

from tests.client.integrations.conftest import TOKEN
from unitvec_client import Client, ConnectionOptions, ModelNotFoundError
from unitvec_client.integrations.llama_index import UnitvecEmbedding

TEXTS = ["a cat on a mat", "a bank loan", "the stock exchange", "a feline on a rug"]
NODES = [TextNode(text=text, id_=str(i)) for i, text in enumerate(TEXTS)]


def test_an_index_retrieves(target: str, client: Client) -> None:
    embedding = UnitvecEmbedding(target=target)
    index = VectorStoreIndex(NODES, embed_model=embedding)
    found = index.as_retriever(similarity_top_k=2).retrieve("a kitten on a carpet")
    assert {hit.node.node_id for hit in found} == {"0", "3"}
    [query] = client.embed(["a kitten on a carpet"])
    for hit in found:
        document = client.embed(hit.node.get_content(MetadataMode.EMBED))
        assert hit.score == pytest.approx(float(query @ document), abs=1e-5)
    embedding.close()


def test_an_index_is_built_and_asked_in_event_loops_of_their_own(target: str) -> None:
    embedding = UnitvecEmbedding(target=target)
    index = VectorStoreIndex(NODES, embed_model=embedding, use_async=True)
    retriever = index.as_retriever(similarity_top_k=1)
    for _ in range(2):
        [hit] = asyncio.run(retriever.aretrieve("shares and bonds"))
        assert hit.node.text == "the stock exchange"
    embedding.close()


def test_batches_keep_the_order(target: str, client: Client) -> None:
    embedding = UnitvecEmbedding(target=target, embed_batch_size=7, num_workers=3, dimensions=64)
    texts = [f"text number {i}" for i in range(40)]
    expected = client.embed(texts, dimensions=64)
    found = embedding.get_text_embedding_batch(texts)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    awaited = asyncio.run(embedding.aget_text_embedding_batch(texts))
    np.testing.assert_allclose(awaited, expected, atol=1e-6)
    embedding.close()


async def test_prompts_of_queries_and_texts(target: str, client: Client) -> None:
    query, passage = client.embed(
        ["query: a cat", "passage: a cat"], model="prompted", prompt_name=""
    )
    embedding = UnitvecEmbedding(
        target=target, model_name="prompted", document_prompt_name="passage"
    )
    np.testing.assert_allclose(embedding.get_query_embedding("a cat"), query, atol=1e-6)
    np.testing.assert_allclose(embedding.get_text_embedding("a cat"), passage, atol=1e-6)
    np.testing.assert_allclose(await embedding.aget_query_embedding("a cat"), query, atol=1e-6)
    np.testing.assert_allclose(await embedding.aget_text_embedding("a cat"), passage, atol=1e-6)
    embedding.document_prompt_name = "query"
    np.testing.assert_allclose(embedding.get_text_embedding("a cat"), query, atol=1e-6)
    await embedding.aclose()


def test_stored_without_what_is_secret(
    guarded_target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = UnitvecEmbedding(target=guarded_target, connection=ConnectionOptions(token=TOKEN))
    assert len(secret.get_query_embedding("a cat")) == 32
    assert TOKEN not in secret.to_json() + repr(secret) + str(secret.to_payload())
    monkeypatch.setenv("SOME_TOKEN", TOKEN)
    named = UnitvecEmbedding(target=guarded_target, token_env_var="SOME_TOKEN", dimensions=8)
    again = UnitvecEmbedding.from_json(named.to_json())
    expected = named.get_query_embedding("a cat")
    assert again.get_query_embedding("a cat") == pytest.approx(expected, abs=1e-6)
    for embedding in (secret, named, again):
        embedding.close()


def test_pickle(target: str) -> None:
    embedding = UnitvecEmbedding(target=target, dimensions=32)
    expected = embedding.get_query_embedding("a cat")
    again = pickle.loads(pickle.dumps(embedding))
    assert again.get_query_embedding("a cat") == pytest.approx(expected, abs=1e-6)
    assert again.dimensions == 32
    again.close()
    embedding.close()


def test_fields_may_be_assigned_later(target: str) -> None:
    embedding = UnitvecEmbedding(target=target)
    assert len(embedding.get_query_embedding("a cat")) == 384
    embedding.model_name = "prompted"
    assert len(embedding.get_query_embedding("a cat")) == 32
    embedding.close()


def test_errors(target: str) -> None:
    with pytest.raises(ModelNotFoundError):
        UnitvecEmbedding(target=target, model_name="none").get_query_embedding("a cat")
    with pytest.raises(ValidationError):
        UnitvecEmbedding(connection="tls")
