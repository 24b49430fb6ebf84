"""One list of texts of a request, from the check of its sizes to its answer.

Texts of a partial list may fail on the way. What fails leaves the part, so that no later step works
on it, and comes back as an error beside the vectors of the others.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Coroutine, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from unitvec_server.engine.pending import Encoded
from unitvec_server.engine.requests import Embedded, IdsList, Model, TextList, Window
from unitvec_server.engine.windowing import CutText, Windows, locate
from unitvec_server.errors import InferenceFailed, InvalidRequest, RequestError
from unitvec_server.model.tokenizer import Encoding
from unitvec_server.vectors.packing import Floats

_T = TypeVar("_T")


@dataclasses.dataclass(eq=False)
class Part:
    """A list of texts of a request, on its way to vectors.

    Attributes:
        wanted: Texts, or their token ids, and options.
        model: Model that embeds them: the route that their prompt takes, where there are several.
        prompt: Text that is put before each of them.
        unpooled_tokens: Number of first tokens that pooling leaves out.
        sizes_bytes: Size with its prompt of each text, before they are split.
        indices: Index of the text of each encoding, ascending; the same one for all its windows.
        failures: Errors of the texts that failed, by index.
        windows: How texts are cut into windows; None where they are not.
        started_ns: Time at which tokenization began, on the monotonic clock.
        tokenize_ns: Time that tokenization took.
        encodings: Encodings of the texts that have not failed, once they are split.
        tokens: Number of tokens of each encoding.
        spans: What each encoding is of, where windows are told apart.
    """

    wanted: TextList | IdsList
    model: Model
    prompt: str
    unpooled_tokens: int
    sizes_bytes: list[int]
    indices: Sequence[int]
    failures: dict[int, RequestError] = dataclasses.field(default_factory=dict)
    windows: Windows | None = None
    started_ns: int = 0
    tokenize_ns: int = 0
    encodings: Sequence[Encoding] = ()
    tokens: Sequence[int] = ()
    spans: Sequence[Window] = ()

    @property
    def texts(self) -> Sequence[Any]:
        """The texts that have not failed before they are split, or their token ids."""
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

    def take_windows(self, outcomes: Sequence[CutText | RequestError]) -> None:
        """Takes in what came of cutting `texts`.

        Raises:
            InvalidRequest: One has too many windows, and the list is not partial.
        """
        texts, indices = self.texts, []
        encodings: list[Encoding] = []
        spans: list[Window] = []
        for index, text, outcome in zip(self.indices, texts, outcomes, strict=True):
            if isinstance(outcome, RequestError):
                field = self.field(index)
                error = InvalidRequest(f"{field} {outcome}", reason=outcome.reason, field=field)
                if not self.wanted.is_partial:
                    raise error
                self.failures[index] = error
                continue
            indices += [index] * len(outcome.encodings)
            encodings += outcome.encodings
            if self.windows and not self.windows.is_pooled:
                spans += locate(index, text, outcome)
        self.indices, self.encodings, self.spans = indices, encodings, spans

    def drop(self, errors: Mapping[int, RequestError]) -> None:
        """Takes out texts that failed, by their indices."""
        self.failures.update(errors)
        kept = [place for place, index in enumerate(self.indices) if index not in errors]
        self.encodings = [self.encodings[place] for place in kept]
        self.tokens = [self.tokens[place] for place in kept]
        self.spans = [self.spans[place] for place in kept] if self.spans else ()
        self.indices = [self.indices[place] for place in kept]


def by_queue(parts: Iterable[Part]) -> dict[str, list[Part]]:
    """The parts of each queue, by its name."""
    queues: dict[str, list[Part]] = {}
    for part in parts:
        queues.setdefault(part.model.queue, []).append(part)
    return queues


async def together(runs: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Waits for all runs of a request; when one fails, the others are given up."""
    tasks = [asyncio.ensure_future(run) for run in runs]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def vectors_of(part: Part, encoded: Encoded, start: int) -> Floats:
    """Takes the vectors of a part out of those of its request, and drops the texts that failed.

    Args:
        part: A part whose texts are split.
        encoded: Outcome of the request.
        start: Row of the part's first encoding.

    Returns:
        Matrix (m, D) float32, a row for each encoding that is left.
    """
    end = start + len(part.encodings)
    vectors = encoded.vectors[start:end]
    rows = [row - start for row in encoded.failures if start <= row < end]
    if not rows:
        return vectors
    errors: dict[int, RequestError] = {}
    for row in rows:
        index = part.indices[row]
        errors[index] = _at(encoded.failures[start + row], part.field(index))
    is_left = ~np.isin(part.indices, list(errors))
    part.drop(errors)
    return vectors[is_left]


def answer(part: Part, encoded: Encoded, vectors: Floats) -> Embedded:
    """Puts the answer to a part together.

    Args:
        part: A part whose texts are embedded.
        encoded: Outcome of the request.
        vectors: Matrix (m, D') float32 of the texts that have not failed, shaped as they want it,
            or of their windows.
    """
    is_apart = part.windows and not part.windows.is_pooled
    if part.failures and not is_apart:
        vectors = _spread(vectors, list(dict.fromkeys(part.indices)), len(part.given))
    left_out: dict[int, int] = {}
    for index, encoding in zip(part.indices, part.encodings, strict=True):
        if encoding.truncated:
            cut_off = encoding.full_length - len(encoding.input_ids)
            left_out[index] = left_out.get(index, 0) + cut_off
    return Embedded(
        vectors=vectors,
        tokens=_count_tokens(part),
        truncated=left_out,
        tokenize_ns=part.tokenize_ns,
        queue_ns=encoded.queue_ns,
        infer_ns=encoded.infer_ns,
        failures=dict(sorted(part.failures.items())),
        windows=part.spans,
    )


def _count_tokens(part: Part) -> list[int]:
    """Number of tokens that were encoded of each text."""
    if not part.failures and not part.windows:
        return list(part.tokens)
    tokens = [0] * len(part.given)
    for index, length in zip(part.indices, part.tokens, strict=True):
        tokens[index] += length
    return tokens


def _spread(vectors: Floats, indices: list[int], count: int) -> Floats:
    """Puts rows into their places among `count`; those between are NaN."""
    spread = np.full((count, vectors.shape[1]), np.nan, np.float32)
    spread[indices] = vectors
    return spread


def _at(error: RequestError, field: str) -> RequestError:
    """The same error of the model, of a text that it names."""
    return InferenceFailed(f"{field}: {error}", field=field)
