"""What holds for every method of both clients: errors, misuse, lies, closing, signatures."""

from __future__ import annotations

import inspect
from typing import Any

import grpc
import numpy as np
import pytest

import unitvec_client as uv
from unitvec_client import options
from unitvec_protos.v1 import embedding_pb2 as pb

BAD = "<bad>"
WORDS = [f"text number {i}" for i in range(100)]


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0]])
def test_every_status_becomes_its_error(
    client: Any, fake: Any, make_fault: Any, code: grpc.StatusCode
) -> None:
    fake.servicer.fail("ListModels", *[make_fault(code, "no")] * 4)
    with pytest.raises(uv.UnitvecError) as caught:
        client.models()
    seen = fake.servicer.calls("ListModels")
    assert caught.value.code is code
    assert caught.value.message == "no"
    assert caught.value.request_id == seen[0].metadata["x-request-id"]
    assert isinstance(caught.value.__cause__, grpc.RpcError)
    codes = grpc.StatusCode
    transient = (codes.UNAVAILABLE, codes.RESOURCE_EXHAUSTED, codes.CANCELLED)
    assert len(seen) == (4 if code in transient else 1)


def test_tokenize(client: Any) -> None:
    one = client.tokenize("two words")
    assert one.tokens == ("[CLS]", "two", "words", "[SEP]")
    assert one.offsets.tolist() == [[0, 1], [1, 2], [2, 3], [3, 4]]
    assert not one.truncated
    many = client.tokenize(WORDS)
    assert [tokenized.tokens[-2] for tokenized in many] == [str(i) for i in range(100)]
    assert client.tokenize([]) == []
    assert client.tokenize("one two three four five six").truncated


def test_models(client: Any) -> None:
    info = client.models()
    assert [model.name for model in info.models] == ["first", "second"]
    assert info.models[0].pooling == "mean"
    assert info.models[1].prompts == {"query": "q: "}
    assert info.limits.max_texts_per_request == 16
    assert info.server_version == "9"


def test_unknown_model_is_named_before_texts_are_sent(client: Any, fake: Any) -> None:
    with pytest.raises(uv.ModelNotFoundError, match="first, second"):
        client.embed(["a"], model="third")
    assert not fake.servicer.calls("Embed")


@pytest.mark.parametrize(
    ("number", "status"), [(0, "UNKNOWN"), (1, "SERVING"), (2, "NOT_SERVING"), (9, "UNKNOWN")]
)
def test_health(client: Any, fake: Any, number: int, status: str) -> None:
    fake.servicer.health_status = number
    assert client.health() == status
    assert client.health("unitvec.v1.EmbeddingService") == status
    assert client.health("other") == "SERVICE_UNKNOWN"


def test_health_is_not_retried(client: Any, fake: Any, make_fault: Any) -> None:
    fake.servicer.fail("Health", make_fault(grpc.StatusCode.UNAVAILABLE))
    with pytest.raises(uv.UnavailableError):
        client.health()
    assert len(fake.servicer.calls("Health")) == 1


@pytest.mark.parametrize(
    ("method", "arguments", "keywords", "error"),
    [
        ("embed", [b"bytes"], {}, uv.InputTypeError),
        ("embed", [["a", b"bytes"]], {}, uv.InputTypeError),
        ("embed", [[["nested"]]], {}, uv.InputTypeError),
        ("embed", [None], {}, uv.InputTypeError),
        ("embed", [{"a": 1}], {}, uv.InputTypeError),
        ("embed", [(text for text in "ab")], {}, uv.InputTypeError),
        ("embed", ["\ud800"], {}, uv.InputError),
        ("embed", ["a"], {"dtype": "float64"}, uv.InputError),
        ("embed", ["a"], {"truncate": "middle"}, uv.InputError),
        ("embed", ["a"], {"dimensions": 0}, uv.InputError),
        ("embed", ["a"], {"dimensions": 1.5}, uv.InputTypeError),
        ("embed", ["a"], {"normalize": 1}, uv.InputTypeError),
        ("embed", ["a"], {"timeout_s": 0}, uv.InputError),
        ("embed", ["a"], {"timeout_s": "1"}, uv.InputTypeError),
        ("embed", ["a"], {"prompt_name": 3}, uv.InputTypeError),
        ("embed", ["a"], {"nonsense": 3}, TypeError),
        ("embed", ["a"], {"dimensions": True}, uv.InputTypeError),
        ("embed", ["a"], {"dimensions": np.True_}, uv.InputTypeError),
        ("embed", ["a"], {"dimensions": np.float64(3)}, uv.InputTypeError),
        ("embed", ["a"], {"dimensions": np.int64(0)}, uv.InputError),
        ("embed", ["a"], {"normalize": np.int64(1)}, uv.InputTypeError),
        ("embed", ["a"], {"model": None}, uv.InputTypeError),
        ("embed_stream", ["one text"], {}, uv.InputTypeError),
        ("embed_stream", [3], {}, uv.InputTypeError),
        ("embed_stream", [["a"]], {"chunk_texts": 0}, uv.InputError),
        ("similarity", [np.ones(3), ["a"]], {}, uv.InputError),
        ("similarity", [np.full((1, 3), np.nan), ["a"]], {}, uv.InputError),
        ("similarity", [np.full((1, 3), 1e300), ["a"]], {}, uv.InputError),
        ("similarity", [np.ones((1, 3), complex), ["a"]], {}, uv.InputTypeError),
        ("similarity", [np.ones((1, 3)), np.ones((1, 4))], {}, uv.InputError),
        ("similarity", [["a"], ["a", "b"]], {"pairs": True}, uv.InputError),
        ("similarity", [["a"], ["a"]], {"pairs": True, "top_k": 1}, uv.InputError),
        ("similarity", [["a"], ["a"]], {"metric": "jaccard"}, uv.InputError),
        ("search", ["a", "documents"], {}, uv.InputTypeError),
        ("search", ["a", ["b"]], {"top_k": 0}, uv.InputError),
        ("tokenize", [3], {}, uv.InputTypeError),
        ("health", [3], {}, uv.InputTypeError),
    ],
)
def test_misuse_is_refused_before_any_io(
    client: Any, fake: Any, method: str, arguments: Any, keywords: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        getattr(client, method)(*arguments, **keywords)
    assert not fake.servicer.seen


def lie_rows(response: Any) -> None:
    response.embeddings.rows += 1


def lie_bytes(response: Any) -> None:
    response.embeddings.data = response.embeddings.data[:-1]


def lie_dtype(response: Any) -> None:
    response.embeddings.dtype = pb.DTYPE_FLOAT16


def lie_usage(response: Any) -> None:
    response.usage.tokens.append(1)


def lie_truncated(response: Any) -> None:
    response.usage.truncated.append(10_000)


@pytest.mark.parametrize("lie", [lie_rows, lie_bytes, lie_dtype, lie_usage, lie_truncated])
def test_a_server_that_lies_gets_a_protocol_error(client: Any, fake: Any, lie: Any) -> None:
    client.models()
    fake.servicer.mangle = lie
    with pytest.raises(uv.ProtocolError):
        client.embed(["a", "b"])
    with pytest.raises(uv.ProtocolError):
        list(client.embed_stream(["a", "b"]))


def test_closed_client_says_so(client: Any) -> None:
    client.close()
    client.close()
    with pytest.raises(uv.ClientClosedError):
        client.embed("a")


def test_server_down_is_unavailable(connect: Any) -> None:
    with pytest.raises(uv.UnavailableError):
        connect("127.0.0.1:1").embed("a")


def test_token_travels_on_plaintext_and_in_every_call(connect: Any, fake: Any) -> None:
    client = connect(fake.target, connection=uv.ConnectionOptions(token="secret"))
    client.embed("a")
    list(client.embed_stream(["a"]))
    client.health()
    assert {call.metadata["authorization"] for call in fake.servicer.seen} == {"Bearer secret"}


METHODS = [name for name in vars(uv.Client) if not name.startswith("_")]
OPTIONS = {
    "embed": options.EmbedOptions,
    "embed_result": options.EmbedOptions,
    "embed_stream": options.StreamOptions,
    "similarity": options.SimilarityOptions,
    "search": options.SearchOptions,
    "tokenize": options.TokenizeOptions,
    "verify": options.VerifyOptions,
    "reload_models": options.ReloadOptions,
    "models": options.CallOptions,
    "health": options.CallOptions,
}


@pytest.mark.parametrize("name", METHODS)
def test_both_clients_have_the_same_methods_and_parameters(name: str) -> None:
    blocking = inspect.signature(getattr(uv.Client, name)).parameters.values()
    nonblocking = inspect.signature(getattr(uv.AsyncClient, name)).parameters.values()
    assert [parameter.name for parameter in blocking] == [p.name for p in nonblocking]
    for one, other in zip(blocking, nonblocking, strict=True):
        assert (one.kind, one.default) == (other.kind, other.default)
        if one.name not in ("texts", "documents"):  # Those may be async iterables as well.
            assert one.annotation == other.annotation


def test_both_clients_have_no_other_methods() -> None:
    assert [name for name in vars(uv.AsyncClient) if not name.startswith("_")] == METHODS
    assert set(OPTIONS) == set(METHODS) - {"close"}


# What is searched, and how its rows belong together, is no option of a call.
STORED = {"vectors", "group_by"}


@pytest.mark.parametrize("name", OPTIONS)
def test_keywords_are_the_options(name: str) -> None:
    """What `help` shows, in that order, is what the core reads."""
    shown = inspect.signature(getattr(uv.Client, name)).parameters.values()
    keywords = [p for p in shown if p.kind is p.KEYWORD_ONLY and p.name not in STORED]
    read = inspect.signature(OPTIONS[name]).parameters.values()
    assert [(p.name, p.annotation, p.default) for p in keywords] == [
        (p.name, p.annotation, p.default) for p in read
    ]


def test_the_readme_example(fake: Any) -> None:
    big_iterable = iter(WORDS)
    with uv.Client(fake.target) as client:
        vectors = client.embed(["a cat on a mat", "a feline on a rug"])
        scores = client.similarity(["cat"], ["feline", "bank loan"])
        indices = [item.index for item in client.embed_stream(big_iterable)]
    assert (vectors.shape, scores.shape) == ((2, 8), (1, 2))
    assert indices == list(range(100))
