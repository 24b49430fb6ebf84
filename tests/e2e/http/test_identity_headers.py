"""What the headers of all APIs tell of vectors, and what a request may expect of them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.serving import Server
from unitvec_protos.v1 import embedding_pb2 as pb

EMBEDDING: list[tuple[str, Any]] = [
    ("/v1/embeddings", {"input": "a"}),
    ("/embed", {"inputs": "a"}),
    ("/", {"inputs": "a"}),
    ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"]}}),
    ("/v2/embed", {"texts": ["a"]}),
    ("/vectors", {"text": "a"}),
]


@pytest.fixture
def identity(http_server: Server) -> dict[str, str]:
    """Fingerprints over our own contract."""
    [model] = http_server.stub.ListModels(pb.ListModelsRequest()).models
    return {"space": model.space, "bits": model.bits}


@pytest.mark.parametrize(("path", "body"), EMBEDDING)
def test_replies_tell_it_and_requests_expect_it(
    http: httpx.Client, identity: dict[str, str], path: str, body: Any
) -> None:
    expected = {f"x-unitvec-expected-{name}": value for name, value in identity.items()}
    reply = http.post(path, json=body, headers=expected)
    assert reply.status_code == 200, reply.text
    assert {name: reply.headers[f"x-unitvec-{name}"] for name in identity} == identity
    for name, value in identity.items():
        refused = http.post(path, json=body, headers={f"x-unitvec-expected-{name}": "other"})
        assert refused.status_code == 412
        assert f"expected_{name} is 'other'" in refused.text
        assert value in refused.text


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/embeddings", {"input": "a"}), ("/v2/embed", {"texts": ["a"]})]
)
def test_the_id_of_a_model_may_hold_what_is_expected(
    http: httpx.Client, identity: dict[str, str], path: str, body: Any
) -> None:
    """For the many clients that let one set no headers."""

    def status(model: str, **headers: str) -> int:
        return http.post(path, json={**body, "model": model}, headers=headers).status_code

    [model] = http.get("/v1/models").json()["data"]
    for name in (model["id"], ""):
        for value in identity.values():
            assert status(f"{name}@{value}") == 200
            assert status(f"{name}@{value[:-1]}") == 412
    space = identity["space"]
    assert status(f"{model['id']}@main") == 404
    assert status(f"nope@{space}") == 404
    both = {"x-unitvec-expected-space": space}
    assert status(f"{model['id']}@{space}", **both) == 200
    assert status(f"{model['id']}@s1-00", **both) == 400
    assert http.get(f"/v1/models/{model['id']}@{space}").json() == model
    assert http.get(f"/v1/models/{model['id']}@s1-00").status_code == 412


LONG = "word " * 100
CUTTING: list[tuple[str, Any, int]] = [
    ("/v1/embeddings", {"input": [LONG, "a", LONG]}, 2),
    ("/embed", {"inputs": [LONG, "a", LONG]}, 2),
    ("/similarity", {"inputs": {"source_sentence": LONG, "sentences": ["b", LONG]}}, 2),
    ("/v2/embed", {"texts": [LONG, "a", LONG]}, 2),
    ("/vectors", {"text": LONG}, 1),
]


@pytest.mark.parametrize(("path", "body", "cut"), CUTTING)
def test_replies_tell_what_is_left_out(
    http: httpx.Client, http_server: Server, path: str, body: Any, cut: int
) -> None:
    usage = http_server.stub.Embed(pb.EmbedRequest(texts=[LONG])).usage
    headers = http.post(path, json=body).headers
    assert headers["x-unitvec-truncated-texts"] == str(cut)
    assert headers["x-unitvec-left-out-tokens"] == str(cut * usage.left_out_tokens[0])


def test_descriptions_of_models_tell_it(http: httpx.Client, identity: dict[str, str]) -> None:
    [model] = http.get("/v1/models").json()["data"]
    for described in (model, http.get("/info").json(), http.get("/meta").json()):
        assert {name: described[name] for name in identity} == identity
