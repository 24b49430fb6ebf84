"""Vector arithmetic: sums and neighbours are those of the reference, and counted without mercy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from sklearn.neighbors import NearestNeighbors

from analogies import QUIZ, Analogy, load_quiz, parse_analogy
from corpora import load_words
from unitvec_client import Client
from vector_arithmetic import (
    BASELINES,
    SUM,
    WITH_INPUTS,
    Vocabulary,
    find_rank,
    main,
    print_totals,
    rank_expected,
)

WORDS = 400
ROYAL = Analogy("king", "man", "woman", "queen")


@pytest.fixture(scope="module")
def vocabulary(client: Client) -> Vocabulary:
    asked = [word for each in load_quiz() for word in (*each.inputs, each.expected)]
    return Vocabulary.embed(client, [*load_words(WORDS), *asked])


def test_king_minus_man_plus_woman(vocabulary: Vocabulary, reference_model: Any) -> None:
    king, man, woman = reference_model.encode(list(ROYAL.inputs))
    total = vocabulary.combine(ROYAL.inputs, SUM)
    np.testing.assert_allclose(total, king - man + woman, atol=1e-5)
    assert vocabulary.nearest(total)[0][0] == "king"
    assert vocabulary.nearest(total, leave_out=ROYAL.inputs)[0][0] == "queen"


def test_neighbours_are_those_of_scikit_learn(vocabulary: Vocabulary, reference_model: Any) -> None:
    vectors = reference_model.encode(list(vocabulary.words))
    index = NearestNeighbors(n_neighbors=8, metric="cosine").fit(vectors)
    for analogy in load_quiz()[::5]:
        a, b, c = vectors[[vocabulary.words.index(word) for word in analogy.inputs]]
        distances, places = index.kneighbors([a - b + c])
        found = vocabulary.nearest(vocabulary.combine(analogy.inputs, SUM))[:8]
        assert [word for word, _ in found] == [vocabulary.words[place] for place in places[0]]
        np.testing.assert_allclose([cosine for _, cosine in found], 1 - distances[0], atol=1e-5)


def test_the_whole_quiz_is_counted(vocabulary: Vocabulary) -> None:
    quiz = load_quiz()
    ranks = rank_expected(vocabulary, quiz)
    assert set(ranks) == {"a - b + c", WITH_INPUTS, *BASELINES}
    assert all(len(found) == len(quiz) >= 20 for found in ranks.values())
    assert np.all(ranks[WITH_INPUTS] >= ranks["a - b + c"])
    right = {way: np.sum(found == 1) for way, found in ranks.items()}
    assert len(quiz) > right["a - b + c"] > right["a + c"] > right["a alone"]
    assert right["a - b + c"] > right[WITH_INPUTS]


def test_ranks_of_vectors_that_are_easily_seen() -> None:
    vectors = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.8, 0, 0.6], [0.6, 0, 0.8]], np.float32)
    vocabulary = Vocabulary(("a", "b", "c", "d", "e"), vectors)
    assert [word for word, _ in vocabulary.nearest(vectors[3])] == ["d", "e", "a", "c", "b"]
    far = Analogy("a", "b", "c", "e")
    assert find_rank(vocabulary, far, weights=(1, 0, 0), inputs_too=False) == 2
    assert find_rank(vocabulary, far, weights=(1, 0, 0), inputs_too=True) == 3
    assert find_rank(vocabulary, far, weights=(0, 0, 1), inputs_too=False) == 1


def test_totals_are_counts(capsys: pytest.CaptureFixture[str]) -> None:
    analogies = [ROYAL, Analogy("x", "y", "z", "w", "other")]
    print_totals(analogies, {"a - b + c": np.array([1, 5]), "a + c": np.array([2, 6])})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["a", "-", "b", "+", "c", "1", "2", "3"] in lines
    assert ["a", "+", "c", "0", "1", "4"] in lines
    assert ["own", "of", "1", "1", "0"] in lines
    assert ["other", "of", "1", "0", "0"] in lines


def test_words_are_embedded_once(client: Client) -> None:
    vocabulary = Vocabulary.embed(client, ["king", "queen", "king"])
    assert vocabulary.words == ("king", "queen")
    assert vocabulary.vectors.shape == (2, 384)


def test_quiz_has_several_kinds() -> None:
    assert {each.kind for each in load_quiz()} == set(QUIZ)
    assert all(each.expected not in each.inputs for each in load_quiz())


def test_parse_analogy() -> None:
    assert parse_analogy(" King - man + New York = x-ray ") == Analogy(
        "king", "man", "new york", "x-ray"
    )
    with pytest.raises(ValueError, match="is not like 'king"):
        parse_analogy("king - man = queen")


def test_main_prints_and_draws(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--target", target, "--output", str(tmp_path), "--count", str(WORDS)]) == 0
    printed = capsys.readouterr().out
    assert f"{len(load_quiz())} sums over the {WORDS} most frequent nouns" in printed
    assert "king - man + woman              queen            1  king" in printed
    assert imread(tmp_path / "vector_arithmetic.png").shape[1] == pytest.approx(1012, abs=30)


def test_own_analogies(target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = "Paris - France + Germany = Berlin"
    where = ["--target", target, "--output", str(tmp_path), "--count", "20"]
    assert main([*where, "--analogy", own]) == 0
    printed = capsys.readouterr().out
    assert "1 sums over the 20 most frequent nouns and 4 more words" in printed
    assert "paris - france + germany        berlin" in printed


def test_what_is_no_analogy_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--analogy", "king"])
    assert "'king' is not like 'king - man + woman = queen'" in capsys.readouterr().err
