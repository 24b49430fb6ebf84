"""`embed`: texts -> ranges -> requests, a few in flight -> one array in the texts' order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitvec_client.core.calls import CallContext, Pipeline, exchange
from unitvec_client.core.decoding import (
    add_timings,
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
from unitvec_client.options import DTYPES, EmbedOptions
from unitvec_client.results import EmbedResult, Timings
from unitvec_protos.v1 import embedding_pb2 as pb

_ARRAY_DTYPES: dict[int, type[np.generic]] = {
    pb.DTYPE_FLOAT32: np.float32,
    pb.DTYPE_FLOAT16: np.float16,
    pb.DTYPE_INT8: np.int8,
    pb.DTYPE_BINARY: np.uint8,
}


def embed_request(texts: list[str], options: EmbedOptions) -> pb.EmbedRequest:
    """Return the message for these texts."""
    return pb.EmbedRequest(
        model=options.model,
        texts=texts,
        options=options.to_proto(options.prompt_name),
        dtype=DTYPES[options.dtype],
    )


def decode_reply(response: pb.EmbedResponse, rows: int, dtype: pb.Dtype) -> EmbedResult:
    """Return the reply to a request of `rows` texts.

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
    )


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
    response = yield from exchange(context, EMBED, embed_request(texts, options))
    return decode_reply(response, len(texts), DTYPES[options.dtype])


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
    _truncated: list[int] = field(default_factory=list)
    _timings: Timings = field(default_factory=Timings)

    def run(self) -> Script[EmbedResult]:
        """Send all texts and put the result together.

        Raises:
            MessageTooLargeError: If one text is larger than a message.
            UnitvecError: The first failure; `field` counts in all texts.
        """
        sizes_bytes = [utf8_bytes(text) for text in self.texts]
        self.budget.check_sizes(sizes_bytes, "texts")
        self._ranges = list(split(sizes_bytes, self.budget))
        if len(self._ranges) == 1:
            return (yield from embed_at_once(self.context, self.texts, self.options))
        pipeline = Pipeline(self.context, EMBED, self._on_reply, self._on_failure)
        yield from pipeline.run(self._requests())
        return self._finish()

    def _requests(self) -> Iterator[pb.EmbedRequest]:
        for start, stop in self._ranges:
            yield embed_request(self.texts[start:stop], self.options)

    def _on_reply(self, index: int, response: pb.EmbedResponse) -> None:
        start, stop = self._ranges[index]
        part = decode_reply(response, stop - start, DTYPES[self.options.dtype])
        if self._result is None:
            self._result = self._allocate(part)
        self._place(start, stop, part)
        self._truncated.extend(start + row for row in part.truncated)
        self._timings = add_timings(self._timings, part.timings)

    def _allocate(self, part: EmbedResult) -> EmbedResult:
        """Return a result with room for all texts, in the shape of the first reply."""
        n = len(self.texts)
        vectors: NDArray[Any] = np.empty((n, part.vectors.shape[1]), part.vectors.dtype)
        scales = None if part.scales is None else np.empty(n, np.float32)
        return EmbedResult(vectors, scales, np.empty(n, np.uint32), (), part.model, Timings())

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
        truncated = tuple(sorted(self._truncated))
        return EmbedResult(
            result.vectors, result.scales, result.tokens, truncated, result.model, self._timings
        )


def shift_field(context: CallContext, failure: Failure, start: int) -> UnitvecError:
    """Return the exception for a request whose first text is number `start` of the caller's."""
    error = context.error(failure)
    if failure.text_index is None:
        return error
    return at_field(error, f"texts[{start + failure.text_index}]")
