"""`similarity` and `search` with both clients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import unitvec_client as uv

BAD = "<bad>"
WORDS = [f"text number {i}" for i in range(100)]


@pytest.mark.parametrize("as_vectors", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize(("n", "m"), [(1, 2), (7, 40), (40, 7)])
def test_similarity(
    client: Any, expected: np.ndarray, n: int, m: int, as_vectors: tuple[bool, bool]
) -> None:
    a = expected[:n] if as_vectors[0] else WORDS[:n]
    b = expected[-m:] if as_vectors[1] else WORDS[-m:]
    scores = expected[:n] @ expected[-m:].T
    np.testing.assert_allclose(client.similarity(a, b), scores, atol=1e-6)
    best = client.similarity(a, b, top_k=3)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(best.indices, order)
    np.testing.assert_allclose(best.scores, np.take_along_axis(scores, order, 1), atol=1e-6)
    assert (best.indices.dtype, best.scores.dtype) == (np.uint32, np.float32)


@pytest.mark.parametrize("n", [1, 8, 50])
def test_similarity_of_pairs(client: Any, expected: np.ndarray, n: int) -> None:
    scores = client.similarity(WORDS[:n], expected[-n:], pairs=True)
    np.testing.assert_allclose(scores, (expected[:n] * expected[-n:]).sum(axis=1), atol=1e-6)
    assert scores.dtype == np.float32


def test_similarity_of_nothing_asks_nobody(client: Any, fake: Any) -> None:
    assert client.similarity([], ["a"]).shape == (0, 1)
    assert client.similarity(["a"], []).shape == (1, 0)
    assert client.similarity([], [], pairs=True).shape == (0,)
    assert client.similarity(["a"], [], top_k=3).indices.shape == (1, 0)
    assert not fake.servicer.seen


def test_scores_over_the_servers_bound_are_streamed(client: Any, fake: Any) -> None:
    fake.servicer.limits.max_scores = 20
    assert client.similarity(WORDS[:6], WORDS[:6]).shape == (6, 6)
    queries = [
        len(message.query.queries.texts.texts)
        for message in fake.servicer.calls("StreamSimilarity")[0].requests
        if message.HasField("query")
    ]
    assert queries == [3, 3]


@pytest.mark.parametrize("as_array", [False, True])
def test_search(client: Any, expected: np.ndarray, as_array: bool) -> None:
    documents: Any = expected if as_array else iter(WORDS)
    found = client.search([WORDS[41], WORDS[7]], documents, top_k=2)
    scores = expected[[41, 7]] @ expected.T
    for hits, row in zip(found, scores, strict=True):
        order = np.argsort(-row, kind="stable")[:2]
        assert [hit.index for hit in hits] == order.tolist()
        assert [hit.text for hit in hits] == [None if as_array else WORDS[i] for i in order]
        assert [hit.score for hit in hits] == pytest.approx(row[order].tolist(), abs=1e-6)


def test_search_of_few_or_no_documents(client: Any) -> None:
    assert [len(hits) for hits in client.search("a", ["x", "y"], top_k=5)] == [2]
    assert client.search(["a", "b"], []) == [[], []]
    assert client.search([], ["a"]) == []


def test_search_survives_a_broken_stream(client: Any, fake: Any) -> None:
    fake.servicer.break_after.extend([3, 5])
    found = client.search(WORDS[5], (word for word in WORDS), top_k=1)
    assert (found[0][0].index, found[0][0].text) == (5, WORDS[5])
    assert len(fake.servicer.calls("StreamSimilarity")) == 3


def test_search_names_the_bad_document(client: Any) -> None:
    with pytest.raises(uv.InvalidArgumentError) as caught:
        client.search("a", [*WORDS[:40], BAD])
    assert caught.value.field == "documents[40]"


def lie_scores(response: Any) -> None:
    response.scores.rows += 1


def lie_index(response: Any) -> None:
    for ranking in response.rankings:
        ranking.indices[0] = 99


def lie_count(response: Any) -> None:
    del response.rankings[:]


@pytest.mark.parametrize(("lie", "top_k"), [(lie_scores, None), (lie_index, 2), (lie_count, 2)])
def test_scores_are_checked(client: Any, fake: Any, lie: Any, top_k: int | None) -> None:
    client.models()
    fake.servicer.mangle = lie
    with pytest.raises(uv.ProtocolError):
        client.similarity(["a"], ["b", "c"], top_k=top_k)
