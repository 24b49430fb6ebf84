"""What a notebook shows of clients and results: one short line, however much they hold."""

from __future__ import annotations

from typing import Any

import unitvec_client as uv

WORDS = [f"text number {i}" for i in range(100)]


def test_results(client: Any) -> None:
    result = client.embed_result([*WORDS, "a text of more than six tokens"])
    assert repr(result) == "<EmbedResult 101 x 8 float32 of 'first', 1 truncated>"
    assert repr(client.embed_result(["a"], dtype="int8")) == "<EmbedResult 1 x 8 int8 of 'first'>"
    rankings = client.similarity(WORDS, WORDS, top_k=50)
    assert repr(rankings) == "<Rankings of 100, the best 50 of each>"
    good, bad = client.embed_stream(["a", "<bad>"])
    assert repr(good) == "<StreamItem 0: 8 float32>"
    assert repr(bad) == "<StreamItem 1: InvalidArgumentError('texts[1] is bad')>"
    assert repr(client.tokenize("two words")) == "<TokenizedText of 4 tokens, 4 kept>"


def test_clients_tell_where_they_go_and_no_secrets() -> None:
    connection = uv.ConnectionOptions(token="t0ken")
    with uv.Client("localhost", connection=connection) as client:
        assert repr(client) == "Client('localhost:50051')"
    assert repr(uv.AsyncClient("localhost", connection=connection)) == (
        "AsyncClient('localhost:50051')"
    )
