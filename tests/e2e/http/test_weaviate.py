"""What Weaviate asks of its inference container."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from tests.e2e.http.test_tei import over_grpc
from tests.serving import Server


@pytest.mark.parametrize("path", ["/vectors", "/vectors/"])
@pytest.mark.parametrize(
    ("config", "prompt"),
    [
        (None, "query"),
        ({"pooling_strategy": "masked_mean"}, "query"),
        ({"task_type": "query"}, "query"),
        ({"task_type": "passage"}, ""),  # as `encode_document`: the model has no prompt document
    ],
)
def test_vectors_are_those_of_grpc(
    http: httpx.Client, http_server: Server, path: str, config: Any, prompt: str
) -> None:
    reply = http.post(path, json={"text": "a cat", "config": config}).json()
    wanted = over_grpc(http_server, ["a cat"], prompt_name=prompt)
    assert np.array(reply["vector"], np.float32).tobytes() == wanted.tobytes()
    assert (reply["text"], reply["dim"]) == ("a cat", 32)


def test_it_is_ready_and_tells_its_model(http: httpx.Client) -> None:
    for path in ("/.well-known/live", "/.well-known/ready"):
        assert http.get(path).status_code == 204
    assert http.get("/meta").json()["dim"] == 32


def test_dimensions(http: httpx.Client) -> None:
    """None, and 0, stand for all; negative ones for nothing."""
    for dimensions, wanted in ((None, 32), (0, 32), (5, 5)):
        body = {"text": "a cat", "config": {"dimensions": dimensions}}
        assert http.post("/vectors", json=body).json()["dim"] == wanted
    refused = http.post("/vectors", json={"text": "a cat", "config": {"dimensions": -1}})
    assert (refused.status_code, "config.dimensions" in refused.json()["error"]) == (400, True)


def test_errors_are_theirs(http: httpx.Client) -> None:
    assert "got int" in http.post("/vectors", json={"text": 3}).json()["error"]
