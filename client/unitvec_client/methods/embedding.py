"""`embed`: texts -> ranges -> requests, a few in flight -> one array in the texts' order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitvec_client.core.calls import CallContext, Pipeline, exchange
from unitvec_client.core.decoding import (
    add_timings,
    decode_errors,
    decode_left_out,
    decode_matrix,
    decode_scales,
    decode_timings,
    decode_tokens,
    decode_truncated,
    row_values,
)
from unitvec_client.core.failures import Failure
from unitvec_client.core.inputs import utf8_bytes
from unitvec_client.core.rpcs import EMBED
from unitvec_client.core.splitting import Budget, split
from unitvec_client.core.steps import Script
from unitvec_client.errors import ProtocolError, UnitvecError, at_field
from unitvec_client.expectation import Expectation, OneModel
from unitvec_client.options import DTYPES, ERRORS, EmbedOptions, VectorOptions
from unitvec_client.results import EmbedResult, FailedText, Timings
from unitvec_protos.v1 import embedding_pb2 as pb

_ARRAY_DTYPES: dict[int, type[np.generic]] = {
    pb.DTYPE_FLOAT32: np.float32,
    pb.DTYPE_FLOAT16: np.float16,
    pb.DTYPE_INT8: np.int8,
    pb.DTYPE_BINARY: np.uint8,
}


def embed_request(
    texts: list[str], options: VectorOptions, expect: Expectation, *, partial: bool = False
) -> pb.EmbedRequest:
    """Return the message for these texts, which fail one by one if it is `partial`."""
    return pb.EmbedRequest(
        model=options.model,
        texts=texts,
        options=options.to_proto(options.prompt_name, expect),
        dtype=DTYPES[options.dtype],
        partial=partial,
    )


def decode_reply(response: pb.EmbedResponse, rows: int, dtype: pb.Dtype) -> EmbedResult:
    """Return the reply to a request of `rows` texts, without the errors of those that failed.

    Raises:
        ProtocolError: If it does not fit the request.
    """
    return EmbedResult(
        vectors=decode_matrix(response.embeddings, rows, dtype),
        scales=decode_scales(response.embeddings),
        tokens=decode_tokens(response.usage, rows),
        truncated=decode_truncated(response.usage, rows),
        model=response.model,
        timings=decode_timings(response.timings),
        left_out_tokens=decode_left_out(response.usage),
        space=response.space,
        bits=response.bits,
    )


def failed_texts(
    context: CallContext, response: pb.EmbedResponse, start: int, stop: int
) -> list[FailedText]:
    """Return the texts of a partial request that failed.

    Args:
        context: Circumstances of the call.
        response: The reply.
        start: Place of the request's first text among those of the call.
        stop: Place after its last one.

    Raises:
        ProtocolError: If one was not in the request.
    """
    failures = decode_errors(response, stop - start)
    return [
        FailedText(start + row, at_field(context.error(failure), f"texts[{start + row}]"))
        for row, failure in failures.items()
    ]


def empty_result(dim: int, model: str, options: EmbedOptions) -> EmbedResult:
    """Return the result for no texts.

    Args:
        dim: The model's dimension.
        model: Its name.
        options: May ask for fewer dimensions.
    """
    dtype = DTYPES[options.dtype]
    width = row_values(min(dim, options.dimensions or dim), dtype)
    return EmbedResult(
        vectors=np.empty((0, width), _ARRAY_DTYPES[dtype]),
        scales=np.empty(0, np.float32) if dtype == pb.DTYPE_INT8 else None,
        tokens=np.empty(0, np.uint32),
        truncated=(),
        model=model,
        timings=Timings(),
    )


def embed_at_once(
    context: CallContext, texts: list[str], options: EmbedOptions
) -> Script[EmbedResult]:
    """Send texts that fit into one request and return their result.

    Nothing runs beside it. That no task and no queue is made saves asyncio 0.2 ms of a lone text.

    Raises:
        UnitvecError: If the call fails.
    """
    request = embed_request(texts, options, context.expect, partial=ERRORS[options.errors])
    response = yield from exchange(context, EMBED, request)
    result = decode_reply(response, len(texts), DTYPES[options.dtype])
    if not response.errors:
        return result
    return replace(result, errors=tuple(failed_texts(context, response, 0, len(texts))))


def ranges_of(texts: list[str], budget: Budget) -> list[tuple[int, int]]:
    """Split texts into the ranges of one request each.

    Raises:
        MessageTooLargeError: If one text is larger than a message.
    """
    sizes_bytes = [utf8_bytes(text) for text in texts]
    budget.check_sizes(sizes_bytes, "texts")
    return list(split(sizes_bytes, budget))


def embed_requests(
    parts: Iterable[list[str]], options: EmbedOptions, context: CallContext
) -> Iterator[pb.EmbedRequest]:
    """Make the request of each part of a call's texts."""
    partial = ERRORS[options.errors]
    for texts in parts:
        yield embed_request(texts, options, context.expect, partial=partial)


@dataclass(slots=True)
class Embedding:
    """One `embed` of any number of texts.

    Attributes:
        context: Circumstances of the call.
        texts: All texts of the call, at least one.
        options: Wishes of the caller.
        budget: Bounds of one request.
    """

    context: CallContext
    texts: list[str]
    options: EmbedOptions
    budget: Budget
    _ranges: list[tuple[int, int]] = field(default_factory=list)
    _result: EmbedResult | None = None
    _truncated: dict[int, int] = field(default_factory=dict)
    _errors: list[FailedText] = field(default_factory=list)
    _timings: Timings = field(default_factory=Timings)
    _model: OneModel = field(default_factory=OneModel)

    def run(self) -> Script[EmbedResult]:
        """Send all texts and put the result together.

        Raises:
            MessageTooLargeError: If one text is larger than a message.
            UnitvecError: The first failure; `field` counts in all texts.
        """
        self._ranges = ranges_of(self.texts, self.budget)
        if len(self._ranges) == 1:
            return (yield from embed_at_once(self.context, self.texts, self.options))
        pipeline = Pipeline(self.context, EMBED, self._on_reply, self._on_failure)
        parts = (self.texts[start:stop] for start, stop in self._ranges)
        yield from pipeline.run(embed_requests(parts, self.options, self.context))
        return self._finish()

    def _on_reply(self, index: int, response: pb.EmbedResponse) -> None:
        start, stop = self._ranges[index]
        part = decode_reply(response, stop - start, DTYPES[self.options.dtype])
        self._model.check(part.space, part.bits)
        if self._result is None:
            self._result = self._allocate(part)
        self._place(start, stop, part)
        rows = zip(part.truncated, part.left_out_tokens, strict=True)
        self._truncated.update((start + row, left_out) for row, left_out in rows)
        self._errors += failed_texts(self.context, response, start, stop)
        self._timings = add_timings(self._timings, part.timings)

    def _allocate(self, part: EmbedResult) -> EmbedResult:
        """Return a result with room for all texts, in the shape of the first reply."""
        n = len(self.texts)
        vectors: NDArray[Any] = np.empty((n, part.vectors.shape[1]), part.vectors.dtype)
        scales = None if part.scales is None else np.empty(n, np.float32)
        return replace(
            part, vectors=vectors, scales=scales, tokens=np.empty(n, np.uint32), truncated=()
        )

    def _place(self, start: int, stop: int, part: EmbedResult) -> None:
        result = self._result
        if result is None or part.vectors.shape[1] != result.vectors.shape[1]:
            raise ProtocolError("bad reply: the model's dimension changed during the call")
        result.vectors[start:stop] = part.vectors
        result.tokens[start:stop] = part.tokens
        if result.scales is not None and part.scales is not None:
            result.scales[start:stop] = part.scales

    def _on_failure(self, index: int, failure: Failure) -> UnitvecError:
        return shift_field(self.context, failure, self._ranges[index][0])

    def _finish(self) -> EmbedResult:
        result = self._result
        if result is None:
            raise ProtocolError("bad reply: no vectors at all")
        truncated = dict(sorted(self._truncated.items()))
        return replace(
            result,
            truncated=tuple(truncated),
            timings=self._timings,
            left_out_tokens=tuple(truncated.values()),
            errors=tuple(sorted(self._errors, key=lambda failed: failed.index)),
        )


def shift_field(context: CallContext, failure: Failure, start: int) -> UnitvecError:
    """Return the exception for a request whose first text is number `start` of the caller's."""
    error = context.error(failure)
    if failure.text_index is None:
        return error
    return at_field(error, f"texts[{start + failure.text_index}]")
