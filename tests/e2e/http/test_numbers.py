"""Whole numbers as JSON may write them: each API takes what the servers of its kind take.

Those that speak OpenAI's and Cohere's APIs, such as vLLM and Infinity, and Weaviate's container
read bodies with pydantic, which takes 5.0 for 5. text-embeddings-inference reads them with serde,
which does not.
"""

from __future__ import annotations

from typing import Any

import httpx
import pydantic
import pytest

WAYS: dict[str, Any] = {
    "/v1/embeddings": lambda number: {"input": "a", "dimensions": number},
    "/v2/embed": lambda number: {"texts": ["a"], "output_dimension": number},
    "/vectors": lambda number: {"text": "a", "config": {"dimensions": number}},
}
PEER = pydantic.TypeAdapter(int)


def takes(number: Any) -> bool:
    """Whether pydantic does."""
    try:
        return PEER.validate_python(number) == 5
    except pydantic.ValidationError:
        return False


def dimensions(reply: Any) -> int:
    """Numbers of the first vector of a reply."""
    if "data" in reply:
        return len(reply["data"][0]["embedding"])
    return len(reply.get("vector") or reply["embeddings"]["float"][0])


@pytest.mark.parametrize("path", WAYS)
@pytest.mark.parametrize("number", [5, 5.0, "5", "5.0", 5.5, "five", "", [5], 1e300, 1e-300])
def test_numbers_are_taken_as_by_pydantic(http: httpx.Client, path: str, number: Any) -> None:
    reply = http.post(path, json=WAYS[path](number))
    assert (reply.status_code == 200) == takes(number), reply.text
    assert reply.status_code == 400 or dimensions(reply.json()) == 5


@pytest.mark.parametrize(("given", "status"), [(True, 200), (1, 200), (False, 400), (0, 400)])
def test_a_switch_may_be_a_number(http: httpx.Client, given: Any, status: int) -> None:
    """Of two texts one is too long for any call."""
    body = {"input": ["a cat", "x" * 100_001], "partial": given}
    assert http.post("/v1/embeddings", json=body).status_code == status


def test_token_ids_too(http: httpx.Client) -> None:
    [tokens] = http.post("/tokenize", json={"inputs": "a cat", "prompt_name": ""}).json()
    ids = [token["id"] for token in tokens]
    bodies = [{"input": row, "prompt_name": ""} for row in (ids, list(map(float, ids)))]
    whole, decimal = [http.post("/v1/embeddings", json=body).json() for body in bodies]
    assert decimal["data"] == whole["data"]


@pytest.mark.parametrize("body", [{"inputs": "a", "dimensions": 5.0}, {"inputs": [[2.0, 3.0]]}])
def test_numbers_are_taken_as_by_serde(http: httpx.Client, body: Any) -> None:
    reply = http.post("/embed", json=body)
    assert (reply.status_code, reply.json()["error_type"]) == (422, "validation")
    assert "got float" in reply.json()["error"]
