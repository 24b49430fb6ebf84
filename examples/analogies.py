"""Sums of words, and the words that they should come out at: the quiz of `vector_arithmetic`."""

from __future__ import annotations

import re
from dataclasses import dataclass

QUIZ = {
    "family": (
        "king - man + woman = queen",
        "uncle - man + woman = aunt",
        "brother - boy + girl = sister",
        "actor - man + woman = actress",
        "father - son + daughter = mother",
        "husband - man + woman = wife",
        "grandfather - father + mother = grandmother",
        "prince - king + queen = princess",
    ),
    "capital": (
        "paris - france + germany = berlin",
        "tokyo - japan + italy = rome",
        "london - england + spain = madrid",
        "moscow - russia + greece = athens",
        "berlin - germany + egypt = cairo",
        "rome - italy + poland = warsaw",
    ),
    "language": (
        "french - france + germany = german",
        "german - germany + spain = spanish",
        "japanese - japan + russia = russian",
        "italian - italy + china = chinese",
    ),
    "young": (
        "puppy - dog + cat = kitten",
        "kitten - cat + cow = calf",
        "calf - cow + sheep = lamb",
        "puppy - dog + horse = foal",
        "kitten - cat + bear = cub",
    ),
    "place": (
        "school - teacher + doctor = hospital",
        "hospital - doctor + judge = court",
        "court - judge + priest = church",
        "church - priest + farmer = farm",
    ),
    "body": (
        "finger - hand + foot = toe",
        "knee - leg + arm = elbow",
        "ankle - foot + hand = wrist",
        "glove - hand + foot = shoe",
    ),
    "work": (
        "painting - painter + poet = poem",
        "poem - poet + sculptor = sculpture",
        "novel - novelist + composer = symphony",
    ),
}
"""By kind. They were written down before they were tried; none was left out for its outcome."""

_SUM = re.compile(r"\s*(.+?)\s+-\s+(.+?)\s+\+\s+(.+?)\s+=\s+(.+?)\s*")


@dataclass(frozen=True)
class Analogy:
    """The sum `a - b + c`.

    Attributes:
        a: Added, as is `c`.
        b: Subtracted.
        c: Added.
        expected: The word that the sum should come out at.
        kind: Key of `QUIZ`, or "own".
    """

    a: str
    b: str
    c: str
    expected: str
    kind: str = "own"

    @property
    def inputs(self) -> tuple[str, str, str]:
        """The words of the sum."""
        return self.a, self.b, self.c

    def __str__(self) -> str:
        return f"{self.a} - {self.b} + {self.c}"


def parse_analogy(text: str, kind: str = "own") -> Analogy:
    """Returns the analogy of a text such as "king - man + woman = queen".

    Raises:
        ValueError: If the text is no such sum.
    """
    match = _SUM.fullmatch(text.lower())
    if match is None:
        raise ValueError(f"{text!r} is not like 'king - man + woman = queen'")
    a, b, c, expected = match.groups()
    return Analogy(a, b, c, expected, kind)


def load_quiz() -> list[Analogy]:
    """Returns the analogies of `QUIZ`."""
    return [parse_analogy(text, kind) for kind, texts in QUIZ.items() for text in texts]
