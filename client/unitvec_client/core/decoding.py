"""Replies to results. What a reply says about itself is checked against what it holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from unitvec_client.core.failures import Failure, failure_of_item
from unitvec_client.errors import ProtocolError
from unitvec_client.results import (
    ModelInfo,
    Rankings,
    ServerInfo,
    ServerLimits,
    Timings,
    TokenizedText,
    Window,
)
from unitvec_protos.v1 import embedding_pb2 as pb

# Numbers are little-endian on the wire, on every machine.
_WIRE_DTYPES: dict[int, str] = {
    pb.DTYPE_FLOAT32: "<f4",
    pb.DTYPE_FLOAT16: "<f2",
    pb.DTYPE_INT8: "i1",
    pb.DTYPE_BINARY: "u1",
}
_POOLINGS = {
    pb.POOLING_MEAN: "mean",
    pb.POOLING_CLS: "cls",
    pb.POOLING_MAX: "max",
    pb.POOLING_MEAN_SQRT_LEN_TOKENS: "mean_sqrt_len_tokens",
    pb.POOLING_WEIGHTED_MEAN: "weightedmean",
    pb.POOLING_LAST_TOKEN: "lasttoken",
    pb.POOLING_CONCATENATED: "concatenated",
}


def row_bytes(dim: int, dtype: pb.Dtype) -> int:
    """Return the size of one vector on the wire, in bytes."""
    if dtype == pb.DTYPE_BINARY:
        return math.ceil(dim / 8)
    scale_bytes = 4 if dtype == pb.DTYPE_INT8 else 0
    return dim * np.dtype(_WIRE_DTYPES[dtype]).itemsize + scale_bytes


def row_values(dim: int, dtype: pb.Dtype) -> int:
    """Return the length of one row of the array that holds vectors of this dimension."""
    return math.ceil(dim / 8) if dtype == pb.DTYPE_BINARY else dim


def decode_matrix(matrix: pb.Matrix, rows: int, dtype: pb.Dtype) -> NDArray[np.generic]:
    """Return the matrix as an array of its own: (rows, dim), or packed for BINARY.

    Args:
        matrix: As received.
        rows: How many rows it must have.
        dtype: What it must hold.

    Raises:
        ProtocolError: If it is not what was asked for, or not what it says it is.
    """
    if matrix.dtype != dtype:
        raise _bad_reply(f"asked for dtype {dtype}, got {matrix.dtype}")
    if matrix.rows != rows:
        raise _bad_reply(f"asked for {rows} vectors, got {matrix.rows}")
    width = row_values(matrix.dim, dtype)
    wire = np.dtype(_WIRE_DTYPES[dtype])
    expected_bytes = rows * width * wire.itemsize
    if len(matrix.data) != expected_bytes:
        shape = f"{rows} x {matrix.dim}"
        message = f"a matrix of {shape} has {len(matrix.data)} bytes, not {expected_bytes}"
        raise _bad_reply(message)
    # The copy is writable, and does not keep the message in memory.
    return np.frombuffer(matrix.data, wire).reshape(rows, width).astype(wire.newbyteorder("="))


def decode_scales(matrix: pb.Matrix) -> NDArray[np.float32] | None:
    """Return the scales (rows,) of an INT8 matrix; None for any other.

    Raises:
        ProtocolError: If there is not one for each row.
    """
    if matrix.dtype != pb.DTYPE_INT8:
        return None
    scales = np.array(matrix.scales, dtype=np.float32)
    if len(scales) != matrix.rows:
        raise _bad_reply(f"{len(scales)} scales for {matrix.rows} rows")
    return scales


def decode_tokens(usage: pb.Usage, rows: int) -> NDArray[np.uint32]:
    """Return the token counts (rows,).

    Raises:
        ProtocolError: If there is not one for each text.
    """
    tokens = np.array(usage.tokens, dtype=np.uint32)
    if len(tokens) != rows:
        raise _bad_reply(f"{len(tokens)} token counts for {rows} texts")
    return tokens


def decode_truncated(usage: pb.Usage, rows: int) -> tuple[int, ...]:
    """Return the indices of the texts that were cut, ascending.

    Raises:
        ProtocolError: If an index is out of range.
    """
    truncated = tuple(sorted(usage.truncated))
    if truncated and truncated[-1] >= rows:
        raise _bad_reply("a truncated text is not in the request")
    return truncated


def decode_left_out(usage: pb.Usage) -> tuple[int, ...]:
    """Return how many tokens were left out of each text that was cut, in the order of these.

    A server from before this was counted says nothing; each is then 0.

    Raises:
        ProtocolError: If there is not one for each text that was cut.
    """
    if not usage.left_out_tokens:
        return (0,) * len(usage.truncated)
    if len(usage.left_out_tokens) != len(usage.truncated):
        found = len(usage.left_out_tokens), len(usage.truncated)
        raise _bad_reply(f"{found[0]} counts of left out tokens for {found[1]} truncated texts")
    pairs = sorted(zip(usage.truncated, usage.left_out_tokens, strict=True))
    return tuple(count for _, count in pairs)


def decode_errors(response: pb.EmbedResponse, rows: int) -> dict[int, Failure]:
    """Return the failures of a partial reply by the indices of their texts, ascending.

    Raises:
        ProtocolError: If an index is out of range.
    """
    failures = {item.index: failure_of_item(item.error) for item in response.errors}
    if failures and max(failures) >= rows:
        raise _bad_reply("a text that failed is not in the request")
    return dict(sorted(failures.items()))


def decode_windows(response: pb.EmbedResponse, texts: int) -> list[Window]:
    """Return what each row of a reply is the vector of.

    Args:
        response: The reply to a request for windows that are not pooled.
        texts: How many texts the request had.

    Raises:
        ProtocolError: If the windows are not in order, or a text has none and has not failed.
    """
    windows = [
        Window(
            item.text_index,
            item.char_start,
            item.char_end,
            item.byte_start,
            item.byte_end,
            item.tokens,
        )
        for item in response.windows
    ]
    indices = [window.text_index for window in windows]
    failed = {error.index for error in response.errors}
    if indices != sorted(indices) or {*indices} | failed != set(range(texts)):
        raise _bad_reply(f"the windows are not those of {texts} texts in order")
    return windows


def decode_scores(matrix: pb.Matrix, rows: int, columns: int) -> NDArray[np.float32]:
    """Return scores (rows, columns).

    Raises:
        ProtocolError: If the matrix has another shape.
    """
    scores = decode_matrix(matrix, rows, pb.DTYPE_FLOAT32)
    if matrix.dim != columns:
        raise _bad_reply(f"asked for {columns} scores a row, got {matrix.dim}")
    return scores.astype(np.float32, copy=False)


def decode_rankings(rankings: Sequence[pb.Ranking], k: int, documents: int) -> Rankings:
    """Return rankings as two arrays (n, k).

    Args:
        rankings: One for each query.
        k: How many hits each must have.
        documents: How many documents there are.

    Raises:
        ProtocolError: If one has another length, or an index out of range.
    """
    for ranking in rankings:
        found = len(ranking.indices), len(ranking.scores)
        if found != (k, k):
            message = f"asked for the best {k} documents, got {found[0]} with {found[1]} scores"
            raise _bad_reply(message)
    shape = (len(rankings), k)
    indices = np.array([r.indices for r in rankings], dtype=np.uint32).reshape(shape)
    scores = np.array([r.scores for r in rankings], dtype=np.float32).reshape(shape)
    if indices.size and indices.max() >= documents:
        raise _bad_reply("a ranked document does not exist")
    return Rankings(indices, scores)


def decode_tokenized(texts: Iterable[pb.TokenizedText]) -> list[TokenizedText]:
    """Return the split texts.

    Raises:
        ProtocolError: If the parts of one differ in length.
    """
    return [_decode_tokenized_text(text) for text in texts]


def _decode_tokenized_text(text: pb.TokenizedText) -> TokenizedText:
    lengths = {len(text.ids), len(text.tokens), len(text.starts), len(text.ends)}
    if len(lengths) != 1:
        raise _bad_reply("ids, tokens and offsets of a text differ in length")
    return TokenizedText(
        ids=np.array(text.ids, dtype=np.uint32),
        tokens=tuple(text.tokens),
        offsets=np.array([text.starts, text.ends], dtype=np.uint32).T.copy(),
        kept_tokens=text.kept_tokens,
        kept_start=text.kept_start,
        kept_end=text.kept_end,
    )


def decode_timings(timings: pb.Timings) -> Timings:
    """Return the timings of one reply."""
    return Timings(
        timings.tokenize_ns,
        timings.queue_ns,
        timings.infer_ns,
        timings.total_ns,
    )


def add_timings(left: Timings, right: Timings) -> Timings:
    """Return the sums."""
    return Timings(
        left.tokenize_ns + right.tokenize_ns,
        left.queue_ns + right.queue_ns,
        left.infer_ns + right.infer_ns,
        left.total_ns + right.total_ns,
    )


def decode_server_info(response: pb.ListModelsResponse) -> ServerInfo:
    """Return what is served.

    Raises:
        ProtocolError: If there is no model, or a bound is missing that requests depend on.
    """
    if not response.models:
        raise _bad_reply("the server lists no model")
    names = [item.name for item in fields(ServerLimits)]
    limits = ServerLimits(**{name: getattr(response.limits, name) for name in names})
    if not limits.max_texts_per_request or not limits.max_message_bytes:
        raise _bad_reply("the server states no max_texts_per_request or no max_message_bytes")
    models = tuple(_decode_model(model) for model in response.models)
    return ServerInfo(models, limits, response.server_version)


def _decode_model(model: pb.ModelInfo) -> ModelInfo:
    return ModelInfo(
        name=model.name,
        model_id=model.model_id,
        revision=model.revision,
        dim=model.dim,
        max_seq_length=model.max_seq_length,
        pooling=_POOLINGS.get(model.pooling, "unspecified"),
        normalized=model.normalized,
        prompts=dict(model.prompts),
        default_prompt_name=model.default_prompt_name,
        precision=model.precision,
        provider=model.provider,
        is_default=model.is_default,
        parity_cosine_min=model.parity_cosine_min,
        similarity_fn_name=model.similarity_fn_name or "cosine",
        space=model.space,
        bits=model.bits,
        reproducible=model.reproducible,
        unpooled_prompts=model.unpooled_prompts,
        routed=model.routed,
    )


def _bad_reply(message: str) -> ProtocolError:
    return ProtocolError(f"bad reply: {message}")
