"""OpenAI's API: the same vectors as over gRPC, in each form, and OpenAI's errors."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import numpy as np
import pytest

from tests.serving import Server
from unitvec_protos.v1 import embedding_pb2 as pb

TEXTS = ["a cat on a mat", "", "é 猫 🙂", "word " * 200]


def over_grpc(server: Server, texts: list[str], **options: Any) -> bytes:
    """The vectors, to the last bit."""
    request = pb.EmbedRequest(texts=texts, options=pb.EncodeOptions(**options))
    return server.stub.Embed(request, timeout=60).embeddings.data


def embed(http: httpx.Client, **body: Any) -> Any:
    """The reply."""
    reply = http.post("/v1/embeddings", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def as_bytes(reply: Any) -> bytes:
    """The vectors of a reply as their bytes, whatever form they have."""
    rows = [entry["embedding"] for entry in reply["data"]]
    if isinstance(rows[0], str):
        return b"".join(map(base64.b64decode, rows))
    return np.array(rows, "<f4").tobytes()


@pytest.mark.parametrize("form", [None, "float", "base64"])
@pytest.mark.parametrize("dimensions", [None, 5])
def test_vectors_are_those_of_grpc(
    http: httpx.Client, http_server: Server, form: str | None, dimensions: int | None
) -> None:
    reply = embed(http, input=TEXTS, encoding_format=form, dimensions=dimensions)
    assert as_bytes(reply) == over_grpc(http_server, TEXTS, dimensions=dimensions or 0)
    assert [entry["index"] for entry in reply["data"]] == [0, 1, 2, 3]


def test_many_vectors_are_those_of_grpc(http: httpx.Client, http_server: Server) -> None:
    """As many as OpenAI takes of a request, and some of its clients send; written in parts."""
    texts = [f"text {n}" for n in range(2048)]
    halves = [over_grpc(http_server, texts[start : start + 1024]) for start in (0, 1024)]
    assert as_bytes(embed(http, input=texts)) == b"".join(halves)


def test_a_text_alone_and_its_usage(http: httpx.Client, http_server: Server) -> None:
    reply = embed(http, input="a cat", user="somebody", model="")
    assert as_bytes(reply) == over_grpc(http_server, ["a cat"])
    usage = http_server.stub.Embed(pb.EmbedRequest(texts=["a cat"])).usage
    assert reply["usage"] == {
        "prompt_tokens": usage.total_tokens,
        "total_tokens": usage.total_tokens,
    }
    assert (reply["object"], reply["data"][0]["object"]) == ("list", "embedding")


def test_token_ids_are_the_texts_they_were_split_of(
    http: httpx.Client, http_server: Server
) -> None:
    """One text or several, with all their special tokens."""
    texts = TEXTS[:3]
    split = http_server.stub.Tokenize(pb.TokenizeRequest(texts=texts, prompt_name=""))
    rows = [list(text.ids) for text in split.texts]
    wanted = over_grpc(http_server, texts, prompt_name="")
    assert as_bytes(embed(http, input=rows, prompt_name="")) == wanted
    assert as_bytes(embed(http, input=rows[0], prompt_name="")) == wanted[: len(wanted) // 3]


def test_token_ids_of_another_tokenizer_are_refused(http: httpx.Client) -> None:
    """Those that OpenAI's tokenizer, cl100k, has for "a cat", which clients may send unasked."""
    [whole] = http.post("/tokenize", json={"inputs": "a cat", "prompt_name": ""}).json()
    ids = [token["id"] for token in whole]
    for given, param in (([64, 545], "input"), ([ids, ids[1:]], "input[1]"), ([ids[:1]], "input")):
        reply = http.post("/v1/embeddings", json={"input": given})
        assert reply.status_code == 400
        error = reply.json()["error"]
        assert (error["code"], error["param"]) == ("foreign_token_ids", param)
        assert "check_embedding_ctx_length=False" in error["message"]


def test_prompts(http: httpx.Client, http_server: Server) -> None:
    reply = embed(http, input=TEXTS, prompt_name="passage")
    assert as_bytes(reply) == over_grpc(http_server, TEXTS, prompt_name="passage")


def test_models(http: httpx.Client, http_server: Server) -> None:
    """Listed and by their id; with a name or without."""
    [model] = http.get("/v1/models").json()["data"]
    assert http.get(f"/v1/models/{model['id']}").json() == model
    assert (model["object"], model["dimensions"]) == ("model", 32)
    assert as_bytes(embed(http, input="a", model=model["id"])) == over_grpc(http_server, ["a"])


@pytest.mark.parametrize(
    ("body", "status", "param", "words"),
    [
        ({}, 400, None, "required field input"),
        ({"input": 3}, 400, "input", "got int"),
        ({"input": ["a", None]}, 400, "input[1]", "got null"),
        ({"input": [["a"]]}, 400, "input[0][0]", "got str"),
        ({"input": [1.5]}, 400, "input[0]", "got float"),
        ({"input": ["a", 3]}, 400, "input", "send them apart"),
        ({"input": []}, 400, "input", "at least one"),
        ({"input": [[2, 600, 3]]}, 400, "input[0][1]", "from 0 to 599"),
        ({"input": "a", "encoding_format": "hex"}, 400, "encoding_format", "hex"),
        (
            {"input": "a", "encoding_format": "x` - at `$.model`"},
            *(400, "encoding_format", "Invalid enum value 'x - at $.model'"),
        ),
        ({"input": "a", "dimensions": 33}, 400, "dimensions", "the model has 32"),
        ({"input": "a", "dimensions": 0}, 400, "dimensions", ">= 1"),
        ({"input": "a", "dimensions": -(2**70)}, 400, "dimensions", ">= 1"),
        ({"input": "a", "model": "gpt"}, 404, "model", "served: "),
        ({"input": "a", "prompt_name": "x"}, 400, "prompt_name", "query, document, passage"),
    ],
)
def test_errors_name_the_field(
    http: httpx.Client, body: Any, status: int, param: str | None, words: str
) -> None:
    reply = http.post("/v1/embeddings", json=body)
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (status, param)
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("form", ["float", "base64"])
def test_windows_are_those_of_grpc(http: httpx.Client, http_server: Server, form: str) -> None:
    """With the part of the text that each is of; pooled ones are rows of texts."""
    texts = ["a cat", "A first one. " * 40]
    for pooled in (False, True):
        sizes = {"tokens": 24, "overlap_tokens": 4, "pooled": pooled}
        options = pb.EncodeOptions(windows=pb.Windows(**sizes))
        wanted = http_server.stub.Embed(pb.EmbedRequest(texts=texts, options=options))
        reply = embed(http, input=texts, windows=sizes, encoding_format=form)
        assert as_bytes(reply) == wanted.embeddings.data
        assert ("text_index" in reply["data"][0]) is not pooled
        names = [field.name for field in pb.Window.DESCRIPTOR.fields]
        spans = [] if pooled else [[entry[name] for name in names] for entry in reply["data"]]
        assert spans == [[getattr(one, name) for name in names] for one in wanted.windows]


def test_what_was_cut_is_told(http: httpx.Client, http_server: Server) -> None:
    texts = ["word " * 100, "a cat", "word " * 200]
    usage = http_server.stub.Embed(pb.EmbedRequest(texts=texts)).usage
    reply = http.post("/v1/embeddings", json={"input": texts})
    cut = {one["index"]: one["left_out_tokens"] for one in reply.json()["truncated"]}
    assert cut == dict(zip(usage.truncated, usage.left_out_tokens, strict=True))
    assert reply.headers["x-unitvec-truncated-texts"] == "2"
    assert reply.headers["x-unitvec-left-out-tokens"] == str(sum(cut.values()))
    whole = http.post("/v1/embeddings", json={"input": texts, "windows": {}})
    assert "truncated" not in whole.json()
    assert "x-unitvec-truncated-texts" not in whole.headers


@pytest.mark.parametrize("form", ["float", "base64"])
@pytest.mark.parametrize("windows", [None, {"tokens": 24}, {"tokens": 24, "pooled": True}])
def test_texts_of_a_partial_request_fail_alone(
    http: httpx.Client, http_server: Server, form: str, windows: Any
) -> None:
    body = {"input": ["a cat", "x" * 100_001, "a dog"], "windows": windows}
    assert http.post("/v1/embeddings", json=body).status_code == 400
    reply = embed(http, **body, partial=True, encoding_format=form)
    [error] = reply["errors"]
    assert (error["index"], error["code"], error["param"]) == (1, "text_too_large", "input[1]")
    rows = [entry for entry in reply["data"] if entry["embedding"] is not None]
    assert as_bytes({"data": rows}) == over_grpc(http_server, ["a cat", "a dog"])
