"""One list of texts of a request, from the check of its sizes to its answer.

Texts of a partial list may fail on the way. What fails leaves the part, so that no later step works
on it, and comes back as an error beside the vectors of the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from unitvec_server.engine.pending import Encoded
from unitvec_server.engine.requests import Embedded, IdsList, TextList
from unitvec_server.errors import InferenceFailed, RequestError
from unitvec_server.model.tokenizer import Encoding
from unitvec_server.vectors.packing import Floats

_T = TypeVar("_T")


@dataclasses.dataclass(eq=False)
class Part:
    """A list of texts of a request, on its way to vectors.

    Attributes:
        wanted: Texts, or their token ids, and options.
        prompt: Text that is put before each of them.
        sizes_bytes: Size with its prompt of each text that has not failed.
        indices: Indices of these texts, ascending.
        failures: Errors of the other texts, by index.
        started_ns: Time at which tokenization began, on the monotonic clock.
        tokenize_ns: Time that tokenization took.
        encodings: Encoding of each text that has not failed, once it is split.
        tokens: Number of tokens of each encoding.
    """

    wanted: TextList | IdsList
    prompt: str
    sizes_bytes: list[int]
    indices: Sequence[int]
    failures: dict[int, RequestError] = dataclasses.field(default_factory=dict)
    started_ns: int = 0
    tokenize_ns: int = 0
    encodings: Sequence[Encoding] = ()
    tokens: Sequence[int] = ()

    @property
    def texts(self) -> Sequence[Any]:
        """The texts that have not failed, or their token ids."""
        given: Sequence[Any] = self.given
        return [given[index] for index in self.indices] if self.failures else given

    @property
    def given(self) -> Sequence[Any]:
        """All texts, or their token ids."""
        return self.wanted.ids if isinstance(self.wanted, IdsList) else self.wanted.texts

    def keys(self) -> Iterator[Hashable]:
        """Something for each text that has not failed, the same only for equal ones."""
        yield from map(tuple, self.texts) if isinstance(self.wanted, IdsList) else self.texts

    def field(self, index: int) -> str:
        """The name of a text in errors."""
        return f"{self.wanted.field}[{index}]"

    def drop(self, errors: Mapping[int, RequestError]) -> None:
        """Takes out texts that failed, by their places in `encodings`."""
        self.failures.update({self.indices[place]: error for place, error in errors.items()})
        self.indices = _without(self.indices, errors)
        self.sizes_bytes = _without(self.sizes_bytes, errors)
        self.encodings = _without(self.encodings, errors)
        self.tokens = _without(self.tokens, errors)


def vectors_of(part: Part, encoded: Encoded, start: int) -> Floats:
    """Takes the vectors of a part out of those of its request, and drops the texts that failed.

    Args:
        part: A part whose texts are split.
        encoded: Outcome of the request.
        start: Row of the part's first encoding.

    Returns:
        Matrix (m, D) float32 of the texts that have not failed.
    """
    end = start + len(part.encodings)
    vectors = encoded.vectors[start:end]
    errors = {
        row - start: _at(error, part.field(part.indices[row - start]))
        for row, error in encoded.failures.items()
        if start <= row < end
    }
    if not errors:
        return vectors
    part.drop(errors)
    return np.delete(vectors, list(errors), axis=0)


def answer(part: Part, encoded: Encoded, vectors: Floats) -> Embedded:
    """Puts the answer to a part together.

    Args:
        part: A part whose texts are embedded.
        encoded: Outcome of the request.
        vectors: Matrix (m, D') float32 of the texts that have not failed, shaped as they want it.
    """
    tokens = list(part.tokens)
    if part.failures:
        count = len(part.given)
        vectors, tokens = _spread(vectors, part.indices, count), [0] * count
        for index, length in zip(part.indices, part.tokens, strict=True):
            tokens[index] = length
    return Embedded(
        vectors=vectors,
        tokens=tokens,
        truncated={
            index: encoding.full_length - len(encoding.input_ids)
            for index, encoding in zip(part.indices, part.encodings, strict=True)
            if encoding.truncated
        },
        tokenize_ns=part.tokenize_ns,
        queue_ns=encoded.queue_ns,
        infer_ns=encoded.infer_ns,
        failures=dict(sorted(part.failures.items())),
    )


def _spread(vectors: Floats, indices: Sequence[int], count: int) -> Floats:
    """Puts rows into their places among `count`; those between are NaN."""
    spread = np.full((count, vectors.shape[1]), np.nan, np.float32)
    spread[list(indices)] = vectors
    return spread


def _at(error: RequestError, field: str) -> RequestError:
    """The same error of the model, of a text that it names."""
    return InferenceFailed(f"{field}: {error}", field=field)


def _without(values: Sequence[_T], places: Collection[int]) -> list[_T]:
    return [value for place, value in enumerate(values) if place not in places]
