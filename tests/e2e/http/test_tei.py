"""The HTTP API of text-embeddings-inference: its forms, defaults and errors."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from tests.serving import Server
from unitvec_protos.v1 import embedding_pb2 as pb

TEXTS = ["a cat on a mat", "é 猫 🙂", "word " * 200]


def over_grpc(server: Server, texts: list[str], **options: Any) -> Any:
    """The vectors, to the last bit."""
    request = pb.EmbedRequest(texts=texts, options=pb.EncodeOptions(**options))
    matrix = server.stub.Embed(request, timeout=60).embeddings
    return np.frombuffer(matrix.data, "<f4").reshape(matrix.rows, matrix.dim)


def post(http: httpx.Client, path: str, **body: Any) -> Any:
    """The reply."""
    reply = http.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.mark.parametrize("path", ["/embed", "/"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalize": False},
        {"dimensions": 5},
        {"prompt_name": "passage"},
        {"prompt_name": ""},
    ],
)
def test_vectors_are_those_of_grpc(
    http: httpx.Client, http_server: Server, path: str, options: dict[str, Any]
) -> None:
    found = np.array(post(http, path, inputs=TEXTS, **options), np.float32)
    assert found.tobytes() == over_grpc(http_server, TEXTS, **options).tobytes()


def test_one_text_is_a_list_of_one_vector(http: httpx.Client, http_server: Server) -> None:
    found = np.array(post(http, "/embed", inputs="a cat"), np.float32)
    assert found.tobytes() == over_grpc(http_server, ["a cat"]).tobytes()


def test_either_side_can_be_cut(http: httpx.Client, http_server: Server) -> None:
    for side, truncate in (("Right", pb.TRUNCATE_END), ("left", pb.TRUNCATE_START)):
        body = {"inputs": TEXTS, "truncate": True, "truncation_direction": side}
        found = np.array(post(http, "/embed", **body), np.float32)
        assert found.tobytes() == over_grpc(http_server, TEXTS, truncate=truncate).tobytes()


def test_what_it_cost_is_in_the_headers(http: httpx.Client) -> None:
    reply = http.post("/embed", json={"inputs": ["a cat", "é"]})
    assert reply.headers["x-compute-characters"] == "6"
    assert int(reply.headers["x-compute-tokens"]) >= 6
    assert {"x-total-time", "x-tokenization-time", "x-queue-time", "x-inference-time"} <= set(
        reply.headers
    )


def test_similarity_is_the_cosine(http: httpx.Client, http_server: Server) -> None:
    inputs = {"source_sentence": TEXTS[0], "sentences": TEXTS}
    vectors = over_grpc(http_server, TEXTS)
    for path in ("/similarity", "/"):
        found = post(http, path, inputs=inputs)
        np.testing.assert_allclose(found, vectors @ vectors[0], atol=1e-6)


def test_tokens_come_with_their_text_and_go_back(http: httpx.Client, http_server: Server) -> None:
    text = "a cat é on"
    [tokens] = post(http, "/tokenize", inputs=text, prompt_name="")
    [split] = http_server.stub.Tokenize(pb.TokenizeRequest(texts=[text], prompt_name="")).texts
    assert [token["id"] for token in tokens] == list(split.ids)
    for token in tokens[1:-1]:
        assert text.encode()[token["start"] : token["stop"]].decode() == token["text"]
        assert not token["special"]
    assert tokens[0] == {
        "id": split.ids[0],
        "text": "[CLS]",
        "special": True,
        "start": None,
        "stop": None,
    }
    [bare] = post(http, "/tokenize", inputs=[text], prompt_name="", add_special_tokens=False)
    assert bare == tokens[1:-1]
    ids = [token["id"] for token in tokens]
    assert post(http, "/decode", ids=ids) == post(http, "/decode", ids=[ids])
    assert post(http, "/decode", ids=ids)[0].startswith("a c")
    assert "[CLS]" in post(http, "/decode", ids=ids, skip_special_tokens=False)[0]


def test_ids_are_embedded_as_their_texts(http: httpx.Client, http_server: Server) -> None:
    [tokens] = post(http, "/tokenize", inputs="a cat", prompt_name="")
    ids = [token["id"] for token in tokens]
    found = np.array(post(http, "/embed", inputs=[ids], prompt_name=""), np.float32)
    assert found.tobytes() == over_grpc(http_server, ["a cat"], prompt_name="").tobytes()


def test_info_tells_the_model_and_the_limits(http: httpx.Client) -> None:
    info = http.get("/info").json()
    assert (info["max_input_length"], info["max_client_batch_size"]) == (64, 2048)
    assert info["model_type"] == {"embedding": {"pooling": "cls"}}


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "words"),
    [
        ("/embed", {"inputs": "word " * 200, "truncate": False}, 413, "validation", "tokens"),
        ("/embed", {"inputs": ["a"] * 2049}, 413, "validation", "max_texts_per_request"),
        ("/embed", {"inputs": ""}, 400, "empty", "cannot be empty"),
        ("/embed", {"inputs": []}, 400, "empty", "at least one"),
        ("/embed", {"inputs": ["a", ""]}, 400, "empty", "cannot be empty"),
        ("/embed", {"inputs": "a", "dimensions": 0}, 422, "validation", ">= 1"),
        ("/embed", {"inputs": "a", "dimensions": 99}, 422, "validation", "the model has 32"),
        ("/embed", {"inputs": "a", "prompt_name": "x"}, 422, "validation", "prompt"),
        ("/embed", {"inputs": {"a": 1}}, 422, "validation", "got object"),
        ("/embed", {}, 422, "validation", "inputs"),
        ("/", {"inputs": {"a": 1}}, 422, "validation", "source_sentence"),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, 400, "empty", ""),
        ("/decode", {"ids": [[99999]]}, 422, "validation", "from 0 to 599"),
        ("/decode", {"ids": []}, 400, "empty", ""),
        ("/tokenize", {"inputs": [3]}, 422, "validation", "got int"),
    ],
)
def test_errors_are_theirs(
    http: httpx.Client, path: str, body: Any, status: int, kind: str, words: str
) -> None:
    reply = http.post(path, json=body)
    assert (reply.status_code, reply.json()["error_type"]) == (status, kind), reply.text
    assert words in reply.json()["error"]
