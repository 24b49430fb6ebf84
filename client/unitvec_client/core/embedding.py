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


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """The decoded reply to one request of n texts; fields as in `EmbedResult`."""

    vectors: NDArray[Any]
    scales: NDArray[np.float32] | None
    tokens: NDArray[np.uint32]
    truncated: list[int]


def embed_request(texts: list[str], options: EmbedOptions) -> pb.EmbedRequest:
    """Return the message for these texts."""
    return pb.EmbedRequest(
        model=options.model,
        texts=texts,
        options=options.to_proto(options.prompt_name),
        dtype=DTYPES[options.dtype],
    )


def decode_chunk(response: pb.EmbedResponse, rows: int, dtype: pb.Dtype) -> Chunk:
    """Return the reply to a request of `rows` texts.

    Raises:
        ProtocolError: If it does not fit the request.
    """
    return Chunk(
        vectors=decode_matrix(response.embeddings, rows, dtype),
        scales=decode_scales(response.embeddings),
        tokens=decode_tokens(response.usage, rows),
        truncated=decode_truncated(response.usage, rows),
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


@dataclass(slots=True)
class Embedding:
    """One `embed` of any number of texts.

    Attributes:
        context: Of the call.
        texts: At least one.
        options: What is asked for.
        budget: Of one request.
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
            UnitvecError: The first failure; `field` counts in all texts.
        """
        self._ranges = list(split([utf8_bytes(text) for text in self.texts], self.budget))
        if len(self._ranges) == 1:
            # Nothing runs beside it: no task and no queue save asyncio 0.2 ms of a lone text.
            self._on_reply(0, (yield from exchange(self.context, EMBED, *self._requests())))
        else:
            pipeline = Pipeline(self.context, EMBED, self._on_reply, self._on_failure)
            yield from pipeline.run(self._requests())
        return self._finish()

    def _requests(self) -> Iterator[pb.EmbedRequest]:
        for start, stop in self._ranges:
            yield embed_request(self.texts[start:stop], self.options)

    def _on_reply(self, index: int, response: pb.EmbedResponse) -> None:
        start, stop = self._ranges[index]
        chunk = decode_chunk(response, stop - start, DTYPES[self.options.dtype])
        if self._result is None:
            self._result = self._allocate(chunk, response.model)
        self._place(start, stop, chunk)
        self._truncated.extend(start + i for i in chunk.truncated)
        self._timings = add_timings(self._timings, decode_timings(response.timings))

    def _allocate(self, chunk: Chunk, model: str) -> EmbedResult:
        n = len(self.texts)
        if n == len(chunk.vectors):
            vectors, scales, tokens = chunk.vectors, chunk.scales, chunk.tokens
        else:
            vectors = np.empty((n, chunk.vectors.shape[1]), chunk.vectors.dtype)
            scales = None if chunk.scales is None else np.empty(n, np.float32)
            tokens = np.empty(n, np.uint32)
        return EmbedResult(vectors, scales, tokens, (), model, Timings())

    def _place(self, start: int, stop: int, chunk: Chunk) -> None:
        result = self._result
        if result is None or result.vectors is chunk.vectors:
            return
        if chunk.vectors.shape[1] != result.vectors.shape[1]:
            raise ProtocolError("bad reply: the model's dimension changed during the call")
        result.vectors[start:stop] = chunk.vectors
        result.tokens[start:stop] = chunk.tokens
        if result.scales is not None and chunk.scales is not None:
            result.scales[start:stop] = chunk.scales

    def _on_failure(self, index: int, failure: Failure) -> UnitvecError:
        return shift_field(failure, self.context.request_id, self._ranges[index][0])

    def _finish(self) -> EmbedResult:
        result = self._result
        if result is None:
            raise ProtocolError("bad reply: no vectors at all")
        truncated = tuple(sorted(self._truncated))
        return EmbedResult(
            result.vectors, result.scales, result.tokens, truncated, result.model, self._timings
        )


def shift_field(failure: Failure, request_id: str, start: int) -> UnitvecError:
    """Return the exception for a request whose first text is number `start` of the caller's."""
    error = failure.to_exception(request_id)
    if failure.text_index is None:
        return error
    return at_field(error, f"texts[{start + failure.text_index}]")
