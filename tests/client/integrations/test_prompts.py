"""One rule of prompts for all providers, held to `encode_query` and `encode_document`.

Should a release of sentence-transformers find the prompt `passage`, the tests of its side fail.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unitvec_client import Client, InputError
from unitvec_client.errors import PromptWarning
from unitvec_client.integrations.chroma import UnitvecEmbeddingFunction
from unitvec_client.integrations.haystack import UnitvecDocumentEmbedder, UnitvecTextEmbedder
from unitvec_client.integrations.langchain import UnitvecEmbeddings
from unitvec_client.integrations.llama_index import UnitvecEmbedding
from unitvec_client.integrations.sentence_transformer import RemoteSentenceTransformer
from unitvec_client.providers.prompts import (
    Role,
    choose_prompt,
    describe_passed_over,
    place_prompt,
)

TEXTS = ["a cat on a mat", "a bank loan"]
E5 = {"query": "query: ", "passage": "passage: "}
Encode = Callable[[list[str]], Any]


@pytest.mark.parametrize("role", ["query", "document"])
@pytest.mark.parametrize(
    ("prompts", "default"),
    [
        ({}, None),
        (E5, None),
        (E5, "query"),
        (E5, "passage"),
        ({"query": "q: ", "document": "d: "}, None),
        ({"query": "q: ", "document": "", "passage": "p: "}, None),
        ({"passage": "p: ", "corpus": "c: "}, None),
        ({"retrieval": "r: "}, "retrieval"),
    ],
    ids=str,
)
def test_the_rule_is_that_of_sentence_transformers(
    client: Client, prompted_model: Any, role: Role, prompts: dict[str, str], default: str | None
) -> None:
    theirs = _with_prompts(prompted_model, prompts, default)
    written = theirs.prompts if any(theirs.prompts.values()) else {}  # as an export writes them
    model = replace(client.models().models[1], prompts=written, default_prompt_name=default or "")
    text = model.prompts.get(choose_prompt(model, role), "")
    expected = getattr(theirs, f"encode_{role}")(TEXTS)
    np.testing.assert_allclose(theirs.encode(TEXTS, prompt=text), expected, atol=1e-6)


def _with_prompts(model: Any, prompts: dict[str, str], default: str | None) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(
        modules=list(model), prompts=dict(prompts), default_prompt_name=default, device="cpu"
    )


@pytest.fixture(params=["langchain", "llama_index", "chroma", "haystack", "sentence_transformer"])
def provider(request: pytest.FixtureRequest, target: str) -> Iterator[tuple[Encode, Encode]]:
    """How each provider embeds queries, and documents."""
    made, queries, documents = _PROVIDERS[request.param](target)
    yield queries, documents
    for each in made:
        each.close()


def _langchain(target: str) -> Any:
    made = UnitvecEmbeddings(target, model="prompted")
    return [made], lambda texts: [made.embed_query(text) for text in texts], made.embed_documents


def _llama_index(target: str) -> Any:
    made = UnitvecEmbedding(target=target, model_name="prompted")
    queries = lambda texts: [made.get_query_embedding(text) for text in texts]  # noqa: E731
    return [made], queries, made.get_text_embedding_batch


def _chroma(target: str) -> Any:
    made = UnitvecEmbeddingFunction(target, model="prompted")
    return [made], made.embed_query, made


def _haystack(target: str) -> Any:
    from haystack import Document

    queries = UnitvecTextEmbedder(target, model="prompted")
    documents = UnitvecDocumentEmbedder(target, model="prompted")

    def embed(texts: list[str]) -> list[Any]:
        found = documents.run([Document(content=text) for text in texts])["documents"]
        return [each.embedding for each in found]

    ask = lambda texts: [queries.run(text)["embedding"] for text in texts]  # noqa: E731
    return [queries, documents], ask, embed


def _sentence_transformer(target: str) -> Any:
    made = RemoteSentenceTransformer("prompted", target=target)
    return [made], made.encode_query, made.encode_document


_PROVIDERS: dict[str, Callable[[str], Any]] = {
    "langchain": _langchain,
    "llama_index": _llama_index,
    "chroma": _chroma,
    "haystack": _haystack,
    "sentence_transformer": _sentence_transformer,
}


@pytest.mark.filterwarnings("ignore::unitvec_client.PromptWarning")
def test_each_provider_fills_an_index_as_sentence_transformers_does(
    provider: tuple[Encode, Encode], prompted_model: Any
) -> None:
    """The model has the prompts query and passage: nothing is put before documents."""
    queries, documents = provider
    np.testing.assert_allclose(queries(TEXTS), prompted_model.encode_query(TEXTS), atol=1e-5)
    expected = prompted_model.encode_document(TEXTS)
    np.testing.assert_allclose(documents(TEXTS), expected, atol=1e-5)
    np.testing.assert_allclose(prompted_model.encode(TEXTS, prompt=""), expected, atol=1e-6)


def test_a_prompt_that_is_passed_over_is_told_once(target: str, prompted_model: Any) -> None:
    made = UnitvecEmbeddings(target, model="prompted")
    with pytest.warns(PromptWarning, match=r"'passage' \('passage: '\).*name the prompt"):
        made.embed_documents(TEXTS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.embed_documents(TEXTS)
        made.embed_query(TEXTS[0])
    made.close()


@pytest.mark.parametrize(("name", "prompt"), [("passage", "passage: "), ("", "")])
def test_naming_a_prompt_gives_the_other_and_no_warning(
    target: str, prompted_model: Any, name: str, prompt: str
) -> None:
    made = UnitvecEmbeddings(target, model="prompted", document_prompt_name=name)
    expected = prompted_model.encode(TEXTS, prompt=prompt)
    np.testing.assert_allclose(made.embed_documents(TEXTS), expected, atol=1e-5)
    made.close()


@pytest.mark.parametrize(
    ("prompts", "default", "for_query", "for_document"),
    [
        ({}, "", [], []),
        (E5, "query", [], ["passage"]),
        ({"query": "q: "}, "", [], []),  # such models want nothing before documents
        ({"query": "q: ", "document": "d: ", "passage": "p: "}, "", [], []),
        ({"query": "q: ", "passage": ""}, "", [], []),
        ({"s2p_query": "a", "s2s_query": "b"}, "", ["s2p_query", "s2s_query"], []),
        ({"retrieval": "r: "}, "retrieval", ["retrieval"], ["retrieval"]),
        ({"retrieval": "r: "}, "", [], []),
        ({"search_document": "d: "}, "search_document", [], ["search_document"]),
    ],
    ids=str,
)
def test_which_prompts_are_told_of(
    client: Client,
    prompts: dict[str, str],
    default: str,
    for_query: list[str],
    for_document: list[str],
) -> None:
    model = replace(client.models().models[1], prompts=prompts, default_prompt_name=default)
    roles: tuple[tuple[Role, list[str]], ...] = (("query", for_query), ("document", for_document))
    for role, names in roles:
        told = describe_passed_over(model, role)
        assert bool(told) == bool(names)
        assert all(f"{name!r}" in told for name in names)


@pytest.mark.parametrize(
    ("facts", "prompt", "task", "expected"),
    [
        ({}, "query: ", "query", ("", "query: ")),
        ({}, "about: ", None, ("", "about: ")),
        ({"routed": True}, "query: ", "query", ("query", "")),
        ({"routed": True}, "query: ", None, ("", "query: ")),
        ({"routed": True}, "about: ", "document", ("document", "about: ")),
        ({"unpooled_prompts": True}, "query: ", None, ("query", "")),
        ({"unpooled_prompts": True}, "", "document", ("", "")),
    ],
    ids=str,
)
def test_who_puts_a_prompt_before_texts(
    client: Client, facts: Any, prompt: str, task: str | None, expected: tuple[str, str]
) -> None:
    model = replace(client.models().models[1], prompts={**E5, "document": ""}, **facts)
    assert place_prompt(model, prompt, task) == expected


@pytest.mark.parametrize("facts", [{"routed": True}, {"unpooled_prompts": True}], ids=str)
def test_what_the_server_cannot_do_for_a_prompt_is_refused(client: Client, facts: Any) -> None:
    model = replace(client.models().models[1], prompts=E5, **facts)
    with pytest.raises(InputError, match="alone"):
        place_prompt(model, "about: ", "query")
