"""Where a long text is cut into windows.

A text is cut between two of its tokens, never within a code point, and as late as a window has room
for it. Of the places in the last quarter of that room the best kind is taken, and of this kind the
last one:

1. the end of a sentence: a blank line, or a stop (. ! ? and those of other scripts) with what
   closes a quote or a bracket after it, and a blank, which stops of full width do not need;
2. the end of a word: a blank, or a mark of full width;
3. any character that is not joined to the one before, as accents and parts of emoji are;
4. any code point.

Where that quarter has no place at all, as in an emoji of many tokens, the nearest one before it is
taken, or else the first one after it. Blanks between two windows belong to the first of them, so
that every character lies in a window, and a window begins with a word where it can.

The next window begins `overlap` tokens earlier than this one ends, or with the first word after
that. It always ends later than this one.

How much a window has room for is counted in tokens of the whole text. By itself a window may have
more, because a tokenizer may split a word at its edge in another way. It is then cut again, shorter
by as many tokens as it had too many. The weak spot is a character that has more tokens than a
window has room for: it is a window of its own, which is too long.

The tokenizers' own truncation with overflow is not used: it cuts within words and characters, has
no place for a prompt in each window, and gives a window tokens that its text alone would not have.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_NEAR = 4
"""A place is near where it lies in the last one of so many parts of a window."""

_STOPS = frozenset(".!?\u2026\u061f\u06d4\u0964")
"""Full stop, marks, ellipsis; the Arabic question mark, the Urdu full stop, the danda."""
_WIDE_STOPS = frozenset("\u3002\uff01\uff1f\uff61\uff0e")
"""Ideographic full stop, its half width form, and marks and stop of full width."""
_BLANKS = 16
"""Blanks before a word that are looked at: more are no line breaks that anyone wrote."""
_JOINER = "\u200d"
_SENTENCE, _WORD, _CHARACTER, _CODE_POINT = 3, 2, 1, 0


class Span(NamedTuple):
    """A part of a text, from `start` to `end`, exclusive, in code points."""

    start: int
    end: int


class Places:
    """The places where a text may be cut: one before each token, by the token's number.

    Args:
        text: Text without a prompt.
        offsets: Start and end of its T tokens in it, (T, 2), in code points.

    Attributes:
        count: Number of tokens T, which is also the place of the text's end.
    """

    def __init__(self, text: str, offsets: npt.NDArray[np.int64]) -> None:
        self.count = len(offsets)
        self._text = text
        self._reached = np.maximum.accumulate(offsets[:, 1]).tolist()
        self._starts = np.maximum(offsets[:, 0], [0, *self._reached[:-1]][: self.count]).tolist()
        self._is_inside = (offsets[:, 0] < self._starts).tolist()
        self._blanks_end = _ends_of_blanks(text)

    def position(self, place: int) -> int:
        """The code point at which what comes after a place begins: a word, or a token of blanks."""
        if place in (0, self.count):
            return len(self._text) if place else 0
        start: int = self._starts[place]
        word = self._blanks_end[start]
        return start if word >= self._reached[place] else word

    def end(self, first: int, last: int) -> int:
        """The best place to end a window that begins at one place and has room up to another."""
        if last >= self.count:
            return self.count
        near = max(first + 1, last - (last - first) // _NEAR)
        best, best_kind = 0, -1
        for place in range(last, near - 1, -1):
            kind = self._kind(place)
            if kind > best_kind:
                best, best_kind = place, kind
            if kind == _SENTENCE:
                break
        if best_kind >= 0:
            return best
        before = (place for place in range(near - 1, first, -1) if self._kind(place) >= 0)
        after = (place for place in range(last + 1, self.count) if self._kind(place) >= 0)
        return next(before, next(after, self.count))

    def start(self, first: int, last: int) -> int:
        """The first place from one to another at which a word begins; else any; else the last."""
        kinds = {place: self._kind(place) for place in range(first, last)}
        for least in (_WORD, _CODE_POINT):
            found = next((place for place, kind in kinds.items() if kind >= least), None)
            if found is not None:
                return found
        return last

    def _kind(self, place: int) -> int:
        """How good a place is; -1 within a code point, or with nothing after it."""
        text, position, start = self._text, self.position(place), self._starts[place]
        if self._is_inside[place] or self._reached[place] <= start or position == len(text):
            return -1
        if text[position].isspace():
            return _CODE_POINT
        last = start
        while last and start - last < _BLANKS and text[last - 1].isspace():
            last -= 1
        if _ends_sentence(text, last, position):
            return _SENTENCE
        if last < position or _is_wide_mark(text[position - 1]):
            return _WORD
        is_joined = unicodedata.category(text[position])[0] == "M" or _JOINER in (
            text[position],
            text[position - 1],
        )
        return _CODE_POINT if is_joined else _CHARACTER


def _ends_of_blanks(text: str) -> list[int]:
    """For each code point the next one that is no blank, itself included."""
    is_word = np.array([not character.isspace() for character in text], bool)
    places = np.where(is_word, np.arange(len(text)), len(text))
    return [*np.minimum.accumulate(places[::-1])[::-1].tolist(), len(text)]


def _ends_sentence(text: str, last: int, position: int) -> bool:
    """Whether a sentence ends at `last`, after which blanks go up to `position`."""
    if "\n\n" in text[last:position].replace("\r\n", "\n"):
        return True
    if last == 0:
        return False
    least = max(1, last - _BLANKS)
    while last > least and _closes(text[last - 1]):
        last -= 1
    stop = text[last - 1]
    return stop in _WIDE_STOPS or (stop in _STOPS and text[position - 1].isspace())


def _closes(character: str) -> bool:
    """Whether it closes a quote or a bracket."""
    return character in "\"'" or unicodedata.category(character) in ("Pe", "Pf")


def _is_wide_mark(character: str) -> bool:
    is_wide = unicodedata.east_asian_width(character) in ("W", "F")
    return is_wide and unicodedata.category(character)[0] == "P"


def cut(
    places: Places, *, room: int, overlap: int, excess: Callable[[Span], int]
) -> Iterator[Span]:
    """Cuts a text into windows.

    Args:
        places: Places of a text of more than `room` tokens.
        room: Tokens of the text that a window has room for, at least one.
        overlap: Tokens that a window may share with the one before, at most half of `room`.
        excess: Tells how many tokens a span by itself has too many; it is asked for the spans that
            are yielded last, and for some that are not.

    Yields:
        Spans that cover the text, in order.
    """
    first = reached = 0
    while reached < places.count:
        end = _fitting_end(places, first, room, excess)
        if end <= reached:  # the overlap alone fills the window
            first = reached
            continue
        yield _span(places, first, end)
        first, reached = places.start(max(first + 1, end - overlap), end), end


def _fitting_end(places: Places, first: int, room: int, excess: Callable[[Span], int]) -> int:
    end = places.end(first, first + room)
    while (over := excess(_span(places, first, end))) > 0:
        shorter = places.end(first, max(first + 1, end - over))
        if shorter >= end:
            break
        end = shorter
    return end


def _span(places: Places, first: int, end: int) -> Span:
    return Span(places.position(first), places.position(end))
