"""Both databases find, once opened again, what scikit-learn finds; neither asks the network."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromadb.utils.embedding_functions import ONNXMiniLM_L6_V2
from numpy.typing import NDArray
from sklearn.metrics.pairwise import cosine_similarity

import vector_databases
from corpora import Gloss, load_glosses
from unitvec_client import Client
from vector_stores import Found, Store, passage

COUNT = 80
QUESTION = "Who leads an army?"

stores = pytest.mark.parametrize("kind", vector_databases.STORES.values())


@pytest.fixture(scope="module")
def glosses() -> list[Gloss]:
    return load_glosses(COUNT)


@pytest.fixture(scope="module")
def vectors(client: Client, glosses: list[Gloss]) -> NDArray[np.float32]:
    return client.embed([passage(gloss) for gloss in glosses])


@pytest.fixture(scope="module")
def question(client: Client) -> vector_databases.Question:
    return vector_databases.Question(client.embed(QUESTION), "person", 5)


@pytest.fixture(scope="module")
def expected(glosses: list[Gloss], reference_model: Any) -> NDArray[np.float32]:
    """Cosines of the question with all passages, independently."""
    texts = [QUESTION, *(passage(gloss) for gloss in glosses)]
    made = reference_model.encode(texts)
    scores: NDArray[np.float32] = cosine_similarity(made[:1], made[1:])[0]
    return scores


@pytest.fixture(autouse=True)
def nobody_is_called(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Looks up no name, connects to nobody, and does not run Chroma's own model."""
    called: list[str] = []

    def refuse(name: str) -> Callable[..., Any]:
        def call(*_: Any, **__: Any) -> Any:
            called.append(name)
            raise OSError(f"{name} is not for this test")

        return call

    monkeypatch.setattr(socket, "getaddrinfo", refuse("getaddrinfo"))
    monkeypatch.setattr(socket.socket, "connect", refuse("connect"))
    monkeypatch.setattr(ONNXMiniLM_L6_V2, "__call__", refuse("Chroma's model"))
    yield
    assert called == []


@stores
def test_finds_what_sentence_transformers_find(
    kind: type[Store],
    tmp_path: Path,
    glosses: list[Gloss],
    vectors: NDArray[np.float32],
    question: vector_databases.Question,
    expected: NDArray[np.float32],
) -> None:
    seen = vector_databases.visit(
        kind, tmp_path, glosses=glosses, vectors=vectors, question=question
    )
    order = np.argsort(-expected)
    people = [row for row in order if glosses[row].category == "person"]
    for found, rows in ((seen.everywhere, order[:5]), (seen.filtered, people[:5])):
        assert [hit.id for hit in found] == [glosses[row].id for row in rows]
        assert [hit.text for hit in found] == [passage(glosses[row]) for row in rows]
        assert [hit.score for hit in found] == pytest.approx(expected[rows].tolist(), abs=1e-4)
    assert {hit.category for hit in seen.filtered} == {"person"}
    exact = vector_databases.closest(glosses, vectors, question=question)
    assert exact == [glosses[row].id for row in people[:5]]


@stores
def test_filling_again_leaves_nothing_of_before(
    kind: type[Store], tmp_path: Path, glosses: list[Gloss], vectors: NDArray[np.float32]
) -> None:
    with closing(kind(tmp_path)) as store:
        store.fill(glosses[:20], vectors[:20])
        store.fill(glosses[20:26], vectors[20:26])
    with closing(kind(tmp_path)) as store:
        found = store.find(vectors[0], top_k=100)
        assert {hit.id for hit in found} == {gloss.id for gloss in glosses[20:26]}
        assert store.find(vectors[0], top_k=5, category="no such category") == []


def test_prompt_numbers_passages_as_sources_do() -> None:
    found = [
        Found("00000007", "wine: fermented juice", "food", 0.72),
        Found("00000008", "brandy: distilled from wine", "food", 0.615),
    ]
    prompt = vector_databases.build_prompt("What is made from grapes?", found)
    assert "[1] wine: fermented juice\n[2] brandy: distilled from wine\n" in prompt
    assert prompt.endswith("Question: What is made from grapes?\nAnswer:")
    assert vector_databases.sources(found).splitlines() == [
        "[1] WordNet 3.0, synset 00000007, food, cosine 0.720",
        "[2] WordNet 3.0, synset 00000008, food, cosine 0.615",
    ]


def test_prints_the_prompt_and_its_sources(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--target", target, "--output", str(tmp_path), "--count", str(COUNT)]
    asked = ["--question", QUESTION, "--category", "person", "--top-k", "3"]
    assert vector_databases.main([*arguments, *asked]) == 0
    printed = capsys.readouterr().out
    assert printed.count("3 of 3") == 2
    assert "none is called here" in printed
    assert f"Question: {QUESTION}\nAnswer:" in printed
    assert printed.count("WordNet 3.0, synset") == 3
    assert list((tmp_path / "chroma").iterdir())
    assert list((tmp_path / "qdrant").iterdir())
