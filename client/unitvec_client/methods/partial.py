"""Texts that fail one by one: those that cannot be sent are set apart, and named in the result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitvec_client.core.inputs import check_sequence, check_text, utf8_bytes
from unitvec_client.core.splitting import Budget
from unitvec_client.errors import InputTypeError, UnitvecError, at_field
from unitvec_client.results import EmbedResult, FailedText


@dataclass(frozen=True, slots=True)
class GivenTexts:
    """All texts of a call.

    Attributes:
        texts: Those that can be sent.
        indices: Places of these in the input, ascending.
        errors: Why the others cannot be sent, by their places.
    """

    texts: list[str]
    indices: Sequence[int]
    errors: dict[int, UnitvecError] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.texts) + len(self.errors)

    def within(self, budget: Budget) -> GivenTexts:
        """Return the same, where texts that no message holds cannot be sent."""
        errors = dict(self.errors)
        for index, text in zip(self.indices, self.texts, strict=True):
            try:
                budget.check_size(utf8_bytes(text), f"texts[{index}]")
            except UnitvecError as error:
                errors[index] = error
        if len(errors) == len(self.errors):
            return self
        pairs = zip(self.indices, self.texts, strict=True)
        kept = {index: text for index, text in pairs if index not in errors}
        return GivenTexts(list(kept.values()), list(kept), errors)


def give(texts: object, *, partial: bool) -> GivenTexts:
    """Return the texts of a call; a single str is one text.

    Args:
        texts: As the caller gave them.
        partial: Whether those that are not valid Unicode fail alone.

    Raises:
        InputTypeError: If they are not texts.
        InputError: If one is not valid Unicode, and must not fail alone.
    """
    if isinstance(texts, str):
        named: Iterable[tuple[str, object]] = [("texts", texts)]
    else:
        named = ((f"texts[{i}]", text) for i, text in enumerate(check_sequence(texts)))
    given = GivenTexts([], [])
    indices: list[int] = []
    for index, (name, text) in enumerate(named):
        try:
            given.texts.append(check_text(text, name))
            indices.append(index)
        except InputTypeError:
            raise
        except UnitvecError as error:
            if not partial:
                raise
            given.errors[index] = error
    return replace(given, indices=indices)


def spread(result: EmbedResult, given: GivenTexts) -> EmbedResult:
    """Return the result of the texts that were sent as that of all texts of the call."""
    errors = tuple(move(result.errors, given))
    if not given.errors:
        return replace(result, errors=errors)
    return replace(
        result,
        vectors=spread_rows(result.vectors, given),
        scales=None if result.scales is None else spread_rows(result.scales, given),
        tokens=spread_rows(result.tokens, given),
        truncated=tuple(given.indices[row] for row in result.truncated),
        errors=errors,
    )


def move(failed: Iterable[FailedText], given: GivenTexts) -> list[FailedText]:
    """Return all texts of the call that failed, in order.

    Args:
        failed: Those that were sent, counted among these.
        given: All texts of the call.
    """
    errors = dict(given.errors)
    for item in failed:
        index = given.indices[item.index]
        errors[index] = at_field(item.error, f"texts[{index}]")
    return [FailedText(index, error) for index, error in sorted(errors.items())]


def spread_rows(rows: NDArray[Any], given: GivenTexts) -> NDArray[Any]:
    """Return rows of the texts that were sent at their places among all texts of the call.

    Those between are NaN, or 0 in whole numbers.
    """
    fill = np.nan if rows.dtype.kind == "f" else 0
    spread = np.full((len(given), *rows.shape[1:]), fill, rows.dtype)
    spread[np.array(given.indices, np.intp)] = rows
    return spread
