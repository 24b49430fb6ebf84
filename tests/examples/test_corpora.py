"""The bundled texts are what the examples take them for."""

from __future__ import annotations

from corpora import load_glosses, load_pairs, load_words


def test_glosses_are_common_senses_of_all_categories() -> None:
    glosses = load_glosses()
    assert len(glosses) == 20_000
    assert len({gloss.id for gloss in glosses}) == 20_000
    assert len({gloss.category for gloss in glosses}) == 26
    assert all(gloss.text and gloss.words for gloss in glosses)
    assert "man" in glosses[2].words


def test_glosses_of_some_categories() -> None:
    glosses = load_glosses(10, categories=("animal", "food"))
    assert len(glosses) == 10
    assert {gloss.category for gloss in glosses} <= {"animal", "food"}


def test_half_of_the_pairs_match() -> None:
    pairs = load_pairs()
    assert [pair.match for pair in pairs].count(True) == len(pairs) / 2
    assert {pair.kind for pair in pairs if not pair.match} == {"sibling", "other"}
    assert {pair.kind for pair in pairs if pair.match} == {"own"}


def test_words_hold_what_analogies_need() -> None:
    words = set(load_words())
    assert {"king", "queen", "man", "woman", "paris", "france", "germany", "berlin"} <= words
