"""A server that comes back as another one: long-lived clients learn its models and limits anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

import unitvec_client as uv
from unitvec_protos.v1 import embedding_pb2 as pb

WORDS = [f"text number {i}" for i in range(100)]
FEW = 3


def limit(fake: Any) -> None:
    """Makes the fake's limit smaller, and names it as the server does."""
    fake.servicer.limits.max_texts_per_request = FEW
    fake.servicer.refuse_count_with = "TOO_MANY_TEXTS"


def rename(fake: Any, name: str) -> None:
    def mangle(message: Any) -> None:
        if isinstance(message, pb.ListModelsResponse):
            message.models[1].name = name

    fake.servicer.mangle = mangle


CALLS: list[Callable[[Any], Any]] = [
    lambda client: client.embed(WORDS),  # Several requests in flight when the first fails.
    lambda client: [text.tokens for text in client.tokenize(WORDS)],
]


@pytest.mark.parametrize("call", CALLS)
def test_smaller_limit_is_learned_in_the_call_that_meets_it(
    client: Any, fake: Any, call: Callable[[Any], Any]
) -> None:
    before = call(client)
    limit(fake)
    np.testing.assert_equal(call(client), before)
    assert len(fake.servicer.calls("ListModels")) == 2


def test_renamed_model_is_found(client: Any, fake: Any) -> None:
    client.embed(WORDS[:2])
    rename(fake, "third")
    assert client.embed(WORDS[:2], model="third").shape[0] == 2
    assert client.similarity("a", "b", model="third").shape == (1, 1)
    with pytest.raises(uv.ModelNotFoundError, match="third"):
        client.embed("a", model="second")


def test_model_that_went_away_is_asked_for_once_more_only(
    client: Any, fake: Any, make_fault: Any
) -> None:
    client.embed("a", model="second")
    rename(fake, "third")
    fake.servicer.fail("Embed", make_fault(grpc.StatusCode.NOT_FOUND, "gone"))
    with pytest.raises(uv.ModelNotFoundError, match="third"):
        client.embed("a", model="second")


def test_refusal_by_a_server_that_is_the_same_is_final(
    client: Any, fake: Any, make_fault: Any
) -> None:
    client.models()
    error = pb.Error(code=3, reason="TEXT_TOO_LARGE", message="too large", field="texts[0]")
    fake.servicer.fail("Embed", make_fault(grpc.StatusCode.INVALID_ARGUMENT, "too large", error))
    with pytest.raises(uv.InvalidArgumentError, match="too large"):
        client.embed("a")
    assert len(fake.servicer.calls("Embed")) == 1


def test_stream_after_one_that_met_the_limit_keeps_to_it(
    client: Any, fake: Any, expected: np.ndarray
) -> None:
    client.models()
    limit(fake)
    assert any(item.error for item in client.embed_stream(WORDS))
    vectors = [item.vector for item in client.embed_stream(WORDS)]
    np.testing.assert_array_equal(np.stack(vectors), expected)


def test_search_after_one_that_met_the_limit_keeps_to_it(client: Any, fake: Any) -> None:
    client.models()
    limit(fake)
    with pytest.raises(uv.InvalidArgumentError):
        client.search("a", iter(WORDS))
    assert len(client.search("a", iter(WORDS), top_k=2)[0]) == 2


def change_after(fake: Any, replies: int) -> None:
    """Lets another model answer from a reply on; for 0 it is each time another."""
    sent = 0

    def mangle(message: Any) -> None:
        nonlocal sent
        if isinstance(message, pb.EmbedResponse | pb.SimilarityResponse | pb.TokenizeResponse):
            sent += 1
            message.bits = f"b1-{sent > replies if replies else sent}"

    fake.servicer.mangle = mangle


PARTED: list[Callable[[Any], Any]] = [
    *CALLS,
    lambda client: client.similarity(WORDS, WORDS, pairs=True),
]


@pytest.mark.parametrize("knows", [False, True])
@pytest.mark.parametrize("call", PARTED)
def test_a_call_that_two_models_answered_is_made_again(
    client: Any, fake: Any, call: Callable[[Any], Any], *, knows: bool
) -> None:
    if knows:
        client.models()
    change_after(fake, 1)
    changed = call(client)
    fake.servicer.mangle = lambda _: None
    np.testing.assert_equal(changed, call(client))


@pytest.mark.parametrize("call", PARTED)
def test_one_that_two_models_answer_again_fails(
    client: Any, fake: Any, call: Callable[[Any], Any]
) -> None:
    change_after(fake, 0)
    with pytest.raises(uv.ProtocolError, match="the model changed during the call") as caught:
        call(client)
    assert caught.value.reason == "MODEL_CHANGED"
