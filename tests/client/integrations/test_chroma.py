"""`UnitvecEmbeddingFunction` in collections of Chroma, also those that are opened again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest
from chromadb.api import ClientAPI
from chromadb.api.client import SharedSystemClient
from chromadb.utils.embedding_functions import (
    config_to_embedding_function,
    known_embedding_functions,
)

from tests.client.integrations.conftest import TOKEN
from tests.serving import serving
from unitvec_client import (
    Client,
    ConnectionOptions,
    InputError,
    UnauthenticatedError,
    UnavailableError,
)
from unitvec_client.errors import FillingWarning
from unitvec_client.integrations.chroma import (
    MetricWarning,
    UnitvecEmbeddingFunction,
    to_similarities,
)

TEXTS = ["a cat on a mat", "a bank loan", "the stock exchange", "a feline on a rug"]
IDS = ["0", "1", "2", "3"]


def open_store(path: Path) -> ClientAPI:
    return chromadb.PersistentClient(str(path))


def test_a_collection_finds(target: str, client: Client) -> None:
    store = chromadb.EphemeralClient()
    collection = store.create_collection(
        "texts", embedding_function=UnitvecEmbeddingFunction(target)
    )
    collection.add(ids=IDS, documents=TEXTS)
    found: Any = collection.query(query_texts=["a kitten on a carpet"], n_results=2)
    assert set(found["ids"][0]) == {"0", "3"}
    scores = client.similarity("a kitten on a carpet", found["documents"][0])[0]
    np.testing.assert_allclose(1 - np.array(found["distances"][0]), scores, atol=1e-5)
    assert collection.configuration["hnsw"]["space"] == "cosine"


def test_a_stored_collection_is_opened_by_its_name_alone(
    guarded_target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_TOKEN", TOKEN)
    function = UnitvecEmbeddingFunction(guarded_target, token_env_var="SOME_TOKEN", dimensions=16)
    made = open_store(tmp_path).create_collection("texts", embedding_function=function)
    made.add(ids=IDS, documents=TEXTS)
    function.close()
    SharedSystemClient.clear_system_cache()

    again = open_store(tmp_path).get_collection("texts")
    found: Any = again.query(
        query_texts=[TEXTS[2]], n_results=1, include=["embeddings", "distances"]
    )
    assert found["ids"] == [["2"]]
    assert found["distances"][0][0] == pytest.approx(0, abs=1e-5)
    assert found["embeddings"][0][0].shape == (16,)
    again.add(ids=["4"], documents=["a dog"])
    assert again.count() == 5
    assert all(
        TOKEN.encode() not in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()
    )


def test_a_config_makes_an_equal_function(target: str) -> None:
    function = UnitvecEmbeddingFunction(
        target,
        model="prompted",
        connection=ConnectionOptions(tls=True, root_certificates=Path("ca.pem")),
        token_env_var="SOME_TOKEN",
        query_prompt_name="query",
        document_prompt_name="passage",
        dimensions=16,
        timeout_s=5,
    )
    config = json.loads(json.dumps(function.get_config()))
    assert known_embedding_functions["unitvec"] is UnitvecEmbeddingFunction
    again = config_to_embedding_function({"name": function.name(), "config": config})
    assert again.get_config() == config
    assert not function.is_legacy()


def test_prompts_of_queries_and_documents(target: str, client: Client) -> None:
    query, passage = client.embed(
        ["query: a cat", "passage: a cat"], model="prompted", prompt_name=""
    )
    function = UnitvecEmbeddingFunction(target, model="prompted", document_prompt_name="passage")
    [found] = function(["a cat"])
    [asked] = function.embed_query(["a cat"])
    assert found.dtype == asked.dtype == np.float32
    np.testing.assert_allclose(found, passage, atol=1e-6)
    np.testing.assert_allclose(asked, query, atol=1e-6)
    function.close()


def test_a_token_is_not_taken_where_it_would_be_lost() -> None:
    with pytest.raises(InputError, match="not stored"):
        UnitvecEmbeddingFunction(connection=ConnectionOptions(token=TOKEN))
    with pytest.raises(InputError, match="client_key"):
        UnitvecEmbeddingFunction(
            connection=ConnectionOptions(tls=True, client_key=b"PEM", client_chain="chain.pem")
        )


def test_vectors_of_a_collection_stay_what_they_are(target: str) -> None:
    function = UnitvecEmbeddingFunction(target)
    config = function.get_config()
    function.validate_config_update(config, {**config, "target": "elsewhere:50051"})
    for change in ({"model": "other"}, {"dimensions": 64}, {"document_prompt_name": "passage"}):
        with pytest.raises(InputError, match="cannot change"):
            function.validate_config_update(config, {**config, **change})


def test_errors_keep_their_type(guarded_target: str) -> None:
    store = chromadb.EphemeralClient()
    function = UnitvecEmbeddingFunction(guarded_target)
    collection = store.create_collection("errors", embedding_function=function)
    with pytest.raises(UnauthenticatedError) as caught:
        collection.add(ids=["0"], documents=["a cat"])
    assert caught.value.request_id
    function.close()


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_a_collection_that_was_made_before_is_looked_at(
    target: str, client: Client, metric: str
) -> None:
    """Chroma lets a function be used with it, and goes on with its own metric."""
    store = chromadb.EphemeralClient()
    made: Any = {"embedding_function": None}
    if metric != "l2":  # which is what Chroma takes by itself
        made["configuration"] = {"hnsw": {"space": metric}}
    store.create_collection("before", **made)
    function = UnitvecEmbeddingFunction(target)
    collection = store.get_or_create_collection("before", embedding_function=function)
    if metric == "cosine":
        function.check(collection)
    else:
        with pytest.warns(MetricWarning, match=f"'before' compares by {metric}, not by cosine"):
            function.check(collection)
    collection.add(ids=IDS, documents=TEXTS)
    found: Any = collection.query(query_texts=[TEXTS[0], "a kitten"], n_results=4)
    expected = [
        client.similarity(text, documents)[0]
        for text, documents in zip([TEXTS[0], "a kitten"], found["documents"], strict=True)
    ]
    similarities = to_similarities(collection, found["distances"])
    np.testing.assert_allclose(similarities, expected, atol=1e-5)
    assert max(map(max, similarities)) <= 1
    function.close()


def test_a_collection_is_told_from_what_another_server_makes(
    guarded_target: str,
    prompted_artifact: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The variable UNITVEC_TARGET names another server, whose vectors have the same width."""
    monkeypatch.setenv("SOME_TOKEN", TOKEN)
    monkeypatch.setenv("UNITVEC_TARGET", guarded_target)
    function = UnitvecEmbeddingFunction(token_env_var="SOME_TOKEN")
    made = open_store(tmp_path).create_collection("texts", embedding_function=function)
    made.add(ids=IDS, documents=TEXTS)
    function.close()
    SharedSystemClient.clear_system_cache()

    again = open_store(tmp_path).get_collection("texts")
    assert again.query(query_texts=TEXTS[:1], n_results=1)["ids"] == [["0"]]
    with serving("--model", str(prompted_artifact)) as other:
        monkeypatch.setenv("UNITVEC_TARGET", other.target)
        with pytest.warns(FillingWarning, match="was filled with space 's1-.*' and not 's1-.*'"):
            again.query(query_texts=TEXTS[:1], n_results=1)


def test_another_prompt_than_that_of_the_collection_is_told(target: str) -> None:
    store = chromadb.EphemeralClient()
    with_passage = UnitvecEmbeddingFunction(
        target, model="prompted", document_prompt_name="passage"
    )
    store.create_collection("prompts", embedding_function=with_passage)
    without = UnitvecEmbeddingFunction(target, model="prompted", document_prompt_name="")
    collection = store.get_collection("prompts", embedding_function=without)
    with pytest.warns(FillingWarning, match="document_prompt 'passage: ' and not ''"):
        without.check(collection)
    with_passage.check(collection)
    config = with_passage.get_config()
    changed = {**config, "filled_with": {**config["filled_with"], "space": "s1-other"}}
    with pytest.raises(InputError, match="was filled with space"):
        with_passage.validate_config_update(config, changed)
    for function in (with_passage, without):
        function.close()


def test_a_collection_may_be_made_before_its_server_runs() -> None:
    function = UnitvecEmbeddingFunction("127.0.0.1:1")
    store = chromadb.EphemeralClient()
    collection = store.create_collection("early", embedding_function=function)
    assert collection.configuration_json["embedding_function"]["config"]["filled_with"] is None
    with pytest.raises(UnavailableError):
        function.check(collection)
    function.close()


def test_numbers_may_be_numpy_s(target: str) -> None:
    function = UnitvecEmbeddingFunction(
        target,
        dimensions=np.int64(16),  # type: ignore[arg-type]  # numbers of a grid
        timeout_s=np.float32(9),  # type: ignore[arg-type]
        connection=ConnectionOptions(max_message_bytes=np.int64(1 << 20)),  # type: ignore[arg-type]
    )
    config = json.loads(json.dumps(function.get_config()))
    assert UnitvecEmbeddingFunction.build_from_config(config)(["a cat"])[0].shape == (16,)
    function.close()
