"""Each provider keeps to the space that it was given, and refuses a server of another one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from chromadb.utils.embedding_functions import config_to_embedding_function
from haystack import Document
from llama_index.core.base.embeddings.base import BaseEmbedding
from sklearn.base import clone

from unitvec_client import Client, IdentityMismatchError, InputError
from unitvec_client.integrations.chroma import UnitvecEmbeddingFunction
from unitvec_client.integrations.haystack import UnitvecDocumentEmbedder, UnitvecTextEmbedder
from unitvec_client.integrations.langchain import UnitvecEmbeddings
from unitvec_client.integrations.llama_index import UnitvecEmbedding
from unitvec_client.integrations.scikit_learn import UnitvecTransformer
from unitvec_client.integrations.sentence_transformer import RemoteSentenceTransformer

OTHER = "s1-00000000000000000000"

# What is put before documents is not the question here.
pytestmark = pytest.mark.filterwarnings("ignore::unitvec_client.PromptWarning")


def langchain(target: str, expect: str) -> Any:
    return UnitvecEmbeddings(target, model="prompted", expect=expect).embed_query("a")


def llama_index(target: str, expect: str) -> Any:
    made = UnitvecEmbedding(target=target, model_name="prompted", expect=expect)
    again: BaseEmbedding = UnitvecEmbedding.from_dict(made.to_dict())
    return again.get_query_embedding("a")


def haystack_text(target: str, expect: str) -> Any:
    made = UnitvecTextEmbedder(target, model="prompted", token=None, expect=expect)
    return UnitvecTextEmbedder.from_dict(made.to_dict()).run("a")


def haystack_documents(target: str, expect: str) -> Any:
    made = UnitvecDocumentEmbedder(target, model="prompted", token=None, expect=expect)
    return made.run([Document(content="a")])


def chroma(target: str, expect: str) -> Any:
    made = UnitvecEmbeddingFunction(target, model="prompted", expect=expect)
    stored = json.loads(json.dumps(made.get_config()))
    again = config_to_embedding_function({"name": made.name(), "config": stored})
    return again(["a"])


def scikit_learn(target: str, expect: str) -> Any:
    made = clone(UnitvecTransformer(target, model="prompted", expect=expect))
    return made.transform(["a"])


def sentence_transformer(target: str, expect: str) -> Any:
    return RemoteSentenceTransformer("prompted", target=target, expect=expect).encode("a")


PROVIDERS = [
    langchain,
    llama_index,
    haystack_text,
    haystack_documents,
    chroma,
    scikit_learn,
    sentence_transformer,
]


@pytest.mark.parametrize("embed", PROVIDERS)
@pytest.mark.parametrize("name", ["space", "bits"])
def test_what_is_expected_is_embedded(
    embed: Callable[[str, str], Any], name: str, target: str, client: Client
) -> None:
    [model] = [model for model in client.models().models if model.name == "prompted"]
    assert embed(target, getattr(model, name)) is not None


@pytest.mark.parametrize("embed", PROVIDERS)
def test_another_space_is_refused(embed: Callable[[str, str], Any], target: str) -> None:
    with pytest.raises(IdentityMismatchError, match=f"vectors of space {OTHER} are expected"):
        embed(target, OTHER)


def test_a_collection_of_chroma_may_come_to_expect_but_not_to_expect_another() -> None:
    free = UnitvecEmbeddingFunction("localhost:1").get_config()
    bound = {**free, "expect": OTHER}
    function = UnitvecEmbeddingFunction("localhost:1")
    function.validate_config_update(free, bound)
    function.validate_config_update(bound, bound)
    for expect in (None, "s1-11111111111111111111"):
        with pytest.raises(InputError, match="expect of a collection cannot change"):
            function.validate_config_update(bound, {**bound, "expect": expect})
