"""`UnitvecEmbeddings` passes LangChain's own tests and serves its vector store."""

from __future__ import annotations

import asyncio
import pickle

import numpy as np
import pytest
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from unitvec_client import Client, InputTypeError
from unitvec_client.integrations.langchain import UnitvecEmbeddings

TEXTS = ["a cat on a mat", "a bank loan", "the stock exchange", "a feline on a rug"]


class TestUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self) -> type[UnitvecEmbeddings]:
        return UnitvecEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, object]:
        return {"target": "localhost:1", "model": "m", "dimensions": 64}


class TestIntegration(EmbeddingsIntegrationTests):
    @pytest.fixture(autouse=True)
    def _server(self, target: str) -> None:
        self.target = target

    @property
    def embeddings_class(self) -> type[UnitvecEmbeddings]:
        return UnitvecEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, object]:
        return {"target": self.target, "model": "all-MiniLM-L6-v2"}


def test_vectors_are_those_of_the_client(target: str, client: Client) -> None:
    embeddings = UnitvecEmbeddings(target, dimensions=64)
    expected = client.embed(TEXTS, dimensions=64)
    np.testing.assert_allclose(embeddings.embed_documents(TEXTS), expected, atol=1e-6)
    np.testing.assert_allclose(embeddings.embed_query(TEXTS[0]), expected[0], atol=1e-6)
    assert embeddings.embed_documents([]) == []
    embeddings.close()


async def test_prompts_of_queries_and_documents(target: str, client: Client) -> None:
    options = {"model": "prompted", "prompt_name": ""}
    query, passage = client.embed(["query: a cat", "passage: a cat"], **options)  # type: ignore[arg-type]
    embeddings = UnitvecEmbeddings(target, model="prompted", document_prompt_name="passage")
    np.testing.assert_allclose(embeddings.embed_query("a cat"), query, atol=1e-6)
    np.testing.assert_allclose(await embeddings.aembed_query("a cat"), query, atol=1e-6)
    np.testing.assert_allclose(embeddings.embed_documents(["a cat"])[0], passage, atol=1e-6)
    np.testing.assert_allclose(await embeddings.aembed_documents(["a cat"]), [passage], atol=1e-6)
    swapped = UnitvecEmbeddings(
        target, model="prompted", query_prompt_name="passage", document_prompt_name="query"
    )
    np.testing.assert_allclose(swapped.embed_query("a cat"), passage, atol=1e-6)
    np.testing.assert_allclose(swapped.embed_documents(["a cat"])[0], query, atol=1e-6)
    await embeddings.aclose()
    swapped.close()


def test_a_vector_store_finds(target: str) -> None:
    embeddings = UnitvecEmbeddings(target)
    store = InMemoryVectorStore.from_texts(TEXTS, embeddings)
    found = store.as_retriever(search_kwargs={"k": 2}).invoke("a kitten on a carpet")
    assert {document.page_content for document in found} == {TEXTS[0], TEXTS[3]}

    async def search() -> str:
        return (await store.asimilarity_search("shares and bonds", k=1))[0].page_content

    assert asyncio.run(search()) == asyncio.run(search()) == "the stock exchange"
    embeddings.close()


def test_pickle_and_errors(target: str) -> None:
    embeddings = UnitvecEmbeddings(target)
    expected = embeddings.embed_query("a cat")
    again = pickle.loads(pickle.dumps(embeddings))
    assert again.embed_query("a cat") == pytest.approx(expected, abs=1e-6)
    with pytest.raises(InputTypeError):
        again.embed_documents("a cat")
    with pytest.raises(InputTypeError):
        again.embed_query(None)
    again.close()
    embeddings.close()
