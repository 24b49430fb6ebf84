"""Cohere's embeddings: every form, input types as prompts, errors."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import numpy as np
import pytest
import sentence_transformers.util as theirs

from tests.e2e.http.test_tei import over_grpc
from tests.serving import Server

TEXTS = ["a cat on a mat", "", "word " * 200]
KINDS = ["float", "base64", "int8", "uint8", "binary", "ubinary"]


def embed(http: httpx.Client, **body: Any) -> Any:
    """The reply."""
    reply = http.post("/v2/embed", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_vectors_in_each_form(http: httpx.Client, http_server: Server) -> None:
    reply = embed(http, texts=TEXTS, input_type="search_query", embedding_types=KINDS)
    found, vectors = reply["embeddings"], over_grpc(http_server, TEXTS, prompt_name="query")
    assert set(found) == set(KINDS)
    assert np.array(found["float"], np.float32).tobytes() == vectors.tobytes()
    assert b"".join(map(base64.b64decode, found["base64"])) == vectors.tobytes()
    for kind in ("binary", "ubinary"):
        wanted = theirs.quantize_embeddings(vectors, kind)
        np.testing.assert_array_equal(found[kind], wanted)
    codes = np.array(found["int8"])
    np.testing.assert_array_equal(np.array(found["uint8"]) - 128, codes)
    cosines = theirs.pairwise_cos_sim(codes.astype(np.float32), vectors).numpy()
    assert (cosines > 0.9999).all()


def test_floats_are_the_default_and_replies_tell_the_cost(http: httpx.Client) -> None:
    reply = embed(http, texts=["a cat"])
    assert set(reply["embeddings"]) == {"float"}
    assert reply["texts"] == ["a cat"]
    assert reply["response_type"] == "embeddings_by_type"
    assert reply["meta"]["billed_units"]["input_tokens"] > 2


def test_texts_that_are_cut_are_warned_of(http: httpx.Client) -> None:
    [warning] = embed(http, texts=TEXTS)["meta"]["warnings"]
    assert warning.startswith("texts[2] is too long for the model: ")
    assert "warnings" not in embed(http, texts=["a cat"])["meta"]


@pytest.mark.parametrize(
    ("input_type", "prompt"),
    [
        ("search_query", "query"),
        ("search_document", ""),  # as `encode_document`: the model has no prompt document
        ("classification", ""),
        ("clustering", ""),
        (None, "query"),
    ],
)
def test_input_types_are_prompts(
    http: httpx.Client, http_server: Server, input_type: str | None, prompt: str
) -> None:
    """Those that the model has; without a type, the model's default."""
    found = embed(http, texts=TEXTS, input_type=input_type)["embeddings"]["float"]
    wanted = over_grpc(http_server, TEXTS, prompt_name=prompt)
    assert np.array(found, np.float32).tobytes() == wanted.tobytes()


def test_inputs_in_parts_are_texts(http: httpx.Client) -> None:
    parts = [{"type": "text", "text": "a cat"}, {"type": "text", "text": "on a mat"}]
    reply = embed(http, inputs=[{"content": parts}], output_dimension=7)
    assert reply["texts"] == ["a cat on a mat"]
    wanted = embed(http, texts=["a cat on a mat"], output_dimension=7)
    assert reply["embeddings"] == wanted["embeddings"]
    assert len(reply["embeddings"]["float"][0]) == 7


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, "texts is empty"),
        ({"texts": ["a"], "embedding_types": ["int4"]}, 400, "embedding_types[0]"),
        ({"texts": ["a"], "input_type": "image"}, 400, "input_type"),
        ({"texts": ["word " * 200], "truncate": "NONE"}, 400, "tokens"),
        ({"images": ["data:"]}, 400, "images are not embedded"),
        ({"inputs": [{"content": [{"type": "image_url"}]}]}, 400, "parts of text"),
        ({"texts": ["a"], "output_dimension": 0}, 400, "output_dimension"),
        ({"texts": ["a"], "model": "embed-v4.0"}, 404, "served: "),
    ],
)
def test_errors_are_theirs(http: httpx.Client, body: Any, status: int, words: str) -> None:
    reply = http.post("/v2/embed", json=body)
    assert reply.status_code == status, reply.text
    assert words in reply.json()["message"]
