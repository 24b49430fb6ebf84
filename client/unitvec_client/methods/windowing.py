"""`embed` with windows that are told apart: any number of texts -> the rows of their windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from unitvec_client.core.calls import CallContext, Pipeline
from unitvec_client.core.decoding import (
    add_timings,
    decode_left_out,
    decode_matrix,
    decode_scales,
    decode_timings,
    decode_tokens,
    decode_truncated,
    decode_windows,
)
from unitvec_client.core.failures import Failure
from unitvec_client.core.rpcs import EMBED
from unitvec_client.core.splitting import Budget
from unitvec_client.core.steps import Script
from unitvec_client.errors import ErrorFacts, UnimplementedError, UnitvecError
from unitvec_client.expectation import OneModel
from unitvec_client.methods.embedding import (
    embed_requests,
    failed_texts,
    ranges_of,
    shift_field,
)
from unitvec_client.methods.partial import GivenTexts, move, spread_rows
from unitvec_client.options import DTYPES, EmbedOptions, PooledWindows, Windows
from unitvec_client.results import EmbedResult, ModelInfo, ServerLimits, scale_rows
from unitvec_client.windowed import WindowedResult
from unitvec_protos.v1 import embedding_pb2 as pb

_ADVANCE_PARTS = 4
"""A window begins at least this part of its tokens later than the one before: it overlaps it by at
most a half, and is cut short by at most a quarter."""


def fit_windows(
    budget: Budget, windows: Windows | PooledWindows, limits: ServerLimits, model: ModelInfo
) -> Budget:
    """Return a budget that counts all tokens of a text, and no more windows than a reply holds.

    Args:
        budget: Bounds of one request without windows.
        windows: How texts are cut.
        limits: The server's bounds.
        model: The model that will answer.

    Raises:
        UnimplementedError: If the server knows no windows, and would cut long texts off.
    """
    if not limits.max_windows_per_request:
        facts = ErrorFacts(field="windows")
        raise UnimplementedError("the server is too old to cut texts into windows", facts)
    rows = limits.max_windows_per_request
    if not windows.pooled:
        rows = min(rows, budget.reply_items)
    advance = max(1, (windows.tokens or model.max_seq_length) // _ADVANCE_PARTS)
    tokens = max(1, min(budget.tokens, rows * advance))
    return replace(budget, tokens=tokens, item_tokens=tokens)


def decode_windowed(response: pb.EmbedResponse, texts: int, dtype: pb.Dtype) -> WindowedResult:
    """Return the reply to a request of so many texts, without the errors of those that failed.

    Raises:
        ProtocolError: If it does not fit the request.
    """
    windows = decode_windows(response, texts)
    matrix = response.embeddings
    scales = decode_scales(matrix)
    return WindowedResult(
        windows=tuple(windows),
        vectors=scale_rows(decode_matrix(matrix, len(windows), dtype), scales),
        tokens=decode_tokens(response.usage, texts),
        truncated=decode_truncated(response.usage, texts),
        left_out_tokens=decode_left_out(response.usage),
        errors=(),
        model=response.model,
        timings=decode_timings(response.timings),
        space=response.space,
        bits=response.bits,
        scales=scales,
    )


@dataclass(slots=True)
class Windowing:
    """One `embed` of any number of texts, as windows.

    Attributes:
        context: Circumstances of the call.
        texts: All texts of the call that can be sent, at least one.
        options: Wishes of the caller.
        budget: Bounds of one request.
    """

    context: CallContext
    texts: list[str]
    options: EmbedOptions
    budget: Budget
    _ranges: list[tuple[int, int]] = field(default_factory=list)
    _parts: dict[int, WindowedResult] = field(default_factory=dict)

    def run(self) -> Script[WindowedResult]:
        """Send all texts and put the windows together.

        Raises:
            MessageTooLargeError: If one text is larger than a message.
            UnitvecError: The first failure; `field` counts in all texts.
        """
        self._ranges = ranges_of(self.texts, self.budget)
        pipeline = Pipeline(self.context, EMBED, self._on_reply, self._on_failure)
        parts = (self.texts[start:stop] for start, stop in self._ranges)
        yield from pipeline.run(embed_requests(parts, self.options, self.context))
        return join([self._parts[index] for index in range(len(self._ranges))])

    def _on_reply(self, index: int, response: pb.EmbedResponse) -> None:
        start, stop = self._ranges[index]
        part = decode_windowed(response, stop - start, DTYPES[self.options.dtype])
        self._parts[index] = replace(
            part,
            windows=tuple(
                replace(window, text_index=start + window.text_index) for window in part.windows
            ),
            truncated=tuple(start + row for row in part.truncated),
            errors=tuple(failed_texts(self.context, response, start, stop)),
        )

    def _on_failure(self, index: int, failure: Failure) -> UnitvecError:
        return shift_field(self.context, failure, self._ranges[index][0])


def join(parts: Sequence[WindowedResult]) -> WindowedResult:
    """Return results of successive texts as one."""
    first, *others = parts
    model = OneModel()
    for part in parts:
        model.check(part.space, part.bits)
    timings = first.timings
    for part in others:
        timings = add_timings(timings, part.timings)
    scales = [part.scales for part in parts if part.scales is not None]
    return WindowedResult(
        windows=tuple(window for part in parts for window in part.windows),
        vectors=np.concatenate([part.vectors for part in parts]),
        tokens=np.concatenate([part.tokens for part in parts]),
        truncated=tuple(row for part in parts for row in part.truncated),
        left_out_tokens=tuple(count for part in parts for count in part.left_out_tokens),
        errors=tuple(failed for part in parts for failed in part.errors),
        model=first.model,
        space=first.space,
        bits=first.bits,
        timings=timings,
        scales=np.concatenate(scales) if scales else None,
    )


def empty_windows(empty: EmbedResult) -> WindowedResult:
    """Return the result for no texts, from that without windows."""
    return WindowedResult((), empty.values(), empty.tokens, (), (), (), empty.model, empty.timings)


def spread_windows(result: WindowedResult, given: GivenTexts) -> WindowedResult:
    """Return the result of the texts that were sent as that of all texts of the call."""
    at = given.indices
    return replace(
        result,
        windows=tuple(replace(each, text_index=at[each.text_index]) for each in result.windows),
        tokens=spread_rows(result.tokens, given),
        truncated=tuple(at[row] for row in result.truncated),
        errors=tuple(move(result.errors, given)),
    )
