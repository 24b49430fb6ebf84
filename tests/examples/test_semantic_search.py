"""The server, numpy and scikit-learn on sentence-transformers' vectors rank alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

import semantic_search
from corpora import load_glosses
from unitvec_client import Client, Rankings


def test_rankings_are_those_of_sentence_transformers(client: Client, reference_model: Any) -> None:
    texts = [gloss.text for gloss in load_glosses(60)]
    queries = list(semantic_search.QUERIES)
    answers = semantic_search.answer(client, queries, texts, top_k=10)
    expected = cosine_similarity(reference_model.encode(queries), reference_model.encode(texts))
    order = np.argsort(-expected, axis=1)[:, :10]
    for ranking in (answers.streamed, answers.ranked, answers.resent):
        np.testing.assert_array_equal(ranking.indices, order)
        np.testing.assert_allclose(
            ranking.scores, np.take_along_axis(expected, order, axis=1), atol=1e-5
        )


def test_rank_is_exact() -> None:
    generator = np.random.default_rng(7)
    queries, documents = (generator.normal(size=(n, 16)).astype(np.float32) for n in (20, 1000))
    ranking = semantic_search.rank(queries, documents, top_k=25)
    for row, query in enumerate(queries):
        scores = documents.astype(np.float64) @ query
        assert ranking.indices[row].tolist() == sorted(range(1000), key=lambda i: -scores[i])[:25]
        np.testing.assert_allclose(ranking.scores[row], np.sort(scores)[::-1][:25], atol=1e-5)


def test_a_wrong_place_is_a_difference() -> None:
    indices = np.array([[4, 1]], np.uint32)
    right = Rankings(indices, np.array([[0.9, 0.5]], np.float32))
    wrong = Rankings(indices, np.array([[0.9, 0.4]], np.float32))
    assert semantic_search.largest_difference(right, right) == 0
    assert semantic_search.largest_difference(right, wrong) > semantic_search.TOLERANCE


def test_prints_hits_and_agreement(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--target", target, "--count", "300", "--top-k", "3", "--query", "a male adult"]
    assert semantic_search.main(arguments) == 0
    printed = capsys.readouterr().out
    hits = printed.split("\n\n")[1].splitlines()
    assert hits[0] == "a male adult"
    assert len(hits) == 4
    assert "an adult person who is male" in hits[1]
    assert "among 300 documents" in printed
    assert "The three agree" in printed
