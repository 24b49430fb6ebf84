"""Messages of the contract, read into domain values and written from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_server.engine.requests import Embedded, EncodeOptions, Model, Window, WindowOptions
from unitvec_server.errors import InvalidRequest
from unitvec_server.model.fingerprints import Fingerprints
from unitvec_server.model.tokenizer import TokenizedText, Truncation
from unitvec_server.vectors.packing import Dtype, Floats, check_values, pack, unpack
from unitvec_server.vectors.scores import Metric, Rankings

_T = TypeVar("_T")
_Number = TypeVar("_Number", np.float32, np.int64)

_PART = 10_000
"""Numbers that are read or written at a time, which takes about a millisecond."""

_TRUNCATIONS: Mapping[int, Truncation | None] = {
    pb.TRUNCATE_UNSPECIFIED: None,
    pb.TRUNCATE_END: Truncation.END,
    pb.TRUNCATE_START: Truncation.START,
    pb.TRUNCATE_ERROR: None,
}
_DTYPES: Mapping[int, Dtype] = {
    pb.DTYPE_UNSPECIFIED: Dtype.FLOAT32,
    pb.DTYPE_FLOAT32: Dtype.FLOAT32,
    pb.DTYPE_FLOAT16: Dtype.FLOAT16,
    pb.DTYPE_INT8: Dtype.INT8,
    pb.DTYPE_BINARY: Dtype.BINARY,
}
_DTYPE_NUMBERS: Mapping[Dtype, pb.Dtype] = {
    Dtype.FLOAT32: pb.DTYPE_FLOAT32,
    Dtype.FLOAT16: pb.DTYPE_FLOAT16,
    Dtype.INT8: pb.DTYPE_INT8,
    Dtype.BINARY: pb.DTYPE_BINARY,
}
_METRICS: Mapping[int, Metric] = {
    pb.METRIC_UNSPECIFIED: Metric.COSINE,
    pb.METRIC_COSINE: Metric.COSINE,
    pb.METRIC_DOT: Metric.DOT,
    pb.METRIC_EUCLIDEAN: Metric.EUCLIDEAN,
    pb.METRIC_MANHATTAN: Metric.MANHATTAN,
}
_POOLINGS: Mapping[str, pb.Pooling] = {
    "mean": pb.POOLING_MEAN,
    "cls": pb.POOLING_CLS,
    "max": pb.POOLING_MAX,
    "mean_sqrt_len_tokens": pb.POOLING_MEAN_SQRT_LEN_TOKENS,
    "weightedmean": pb.POOLING_WEIGHTED_MEAN,
    "lasttoken": pb.POOLING_LAST_TOKEN,
}


def read_options(options: pb.EncodeOptions, *, field: str = "options") -> EncodeOptions:
    """Reads EncodeOptions and fills in the defaults of the contract.

    Raises:
        InvalidRequest: An enum has a value that this server does not know.
    """
    return EncodeOptions(
        normalize=options.normalize if options.HasField("normalize") else True,
        dimensions=options.dimensions,
        prompt_name=options.prompt_name if options.HasField("prompt_name") else None,
        side=_read_enum(_TRUNCATIONS, options.truncate, "Truncate", f"{field}.truncate"),
        refuses_long=options.truncate == pb.TRUNCATE_ERROR,
        expected=read_expected(options),
        windows=_read_windows(options.windows) if options.HasField("windows") else None,
        route_only=options.route_only,
    )


def read_expected(options: pb.EncodeOptions) -> Fingerprints:
    """Reads which fingerprints vectors must have."""
    return Fingerprints(options.expected_space, options.expected_bits)


def _read_windows(windows: pb.Windows) -> WindowOptions:
    return WindowOptions(windows.tokens, windows.overlap_tokens, windows.pooled)


def read_truncation(truncate: int) -> Truncation | None:
    """Reads which side of a long text is cut; None where the request names none.

    Raises:
        InvalidRequest: The value is unknown.
    """
    return _read_enum(_TRUNCATIONS, truncate, "Truncate", "truncate")


def read_dtype(request: pb.EmbedRequest) -> Dtype:
    """Reads the number type of the reply.

    Raises:
        InvalidRequest: The value is unknown, or one that `as_list` cannot carry.
    """
    dtype = _read_enum(_DTYPES, request.dtype, "Dtype", "dtype")
    if request.as_list and dtype is not Dtype.FLOAT32:
        raise InvalidRequest(
            f"as_list replies with FLOAT32 values only, and dtype is {dtype.name}", field="as_list"
        )
    return dtype


def read_metric(metric: int) -> Metric:
    """Reads how vectors are compared.

    Raises:
        InvalidRequest: The value is unknown.
    """
    return _read_enum(_METRICS, metric, "Metric", "metric")


def read_matrix(matrix: pb.Matrix, *, field: str) -> Floats:
    """Reads vectors that a client gives, as (rows, dim) float32.

    Raises:
        InvalidRequest: The matrix is malformed.
    """
    dtype = _read_enum(_DTYPES, matrix.dtype, "Dtype", f"{field}.dtype")
    if not matrix.values:
        rows, dim = matrix.rows, matrix.dim
        return unpack(matrix.data, rows=rows, dim=dim, dtype=dtype, field=field)
    if matrix.data or dtype is not Dtype.FLOAT32:
        raise InvalidRequest("send either data or FLOAT32 values", field=field)
    values = read_values(matrix.values, np.dtype(np.float32))
    if matrix.rows < 1 or matrix.dim < 1 or len(values) != matrix.rows * matrix.dim:
        raise InvalidRequest(
            f"there are {len(values)} values, and rows * dim is {matrix.rows} * {matrix.dim}",
            reason="WRONG_MATRIX_SIZE",
            field=f"{field}.values",
        )
    return check_values(values.reshape(matrix.rows, matrix.dim), field=field)


def read_values(values: Sequence[float], dtype: np.dtype[_Number]) -> npt.NDArray[_Number]:
    """Reads the numbers of a field in parts, between which other threads get the interpreter."""
    array = np.empty(len(values), dtype)
    for start in range(0, len(array), _PART):
        array[start : start + _PART] = values[start : start + _PART]
    return array


def write_matrix(
    vectors: Floats, *, dtype: Dtype = Dtype.FLOAT32, as_list: bool = False
) -> pb.Matrix:
    """Writes vectors (n, D) float32 as a message."""
    rows, dim = vectors.shape
    if as_list:
        matrix = pb.Matrix(rows=rows, dim=dim, dtype=pb.DTYPE_FLOAT32)
        for part in _in_parts(vectors.ravel()):
            matrix.values.extend(part)
        return matrix
    data, scales = pack(vectors, dtype)
    return pb.Matrix(rows=rows, dim=dim, dtype=_DTYPE_NUMBERS[dtype], data=data, scales=scales)


def write_usage(parts: Iterable[Embedded]) -> pb.Usage:
    """Writes the token counts of lists of texts, one list after the other."""
    usage = pb.Usage()
    for part in parts:
        offset = len(usage.tokens)
        usage.tokens.extend(part.tokens)
        for index, left_out in part.truncated.items():
            usage.truncated.append(offset + index)
            usage.left_out_tokens.append(left_out)
        usage.total_tokens += sum(part.tokens)
    return usage


def write_windows(windows: Iterable[Window]) -> Iterator[pb.Window]:
    """Writes what rows are the vectors of."""
    for window in windows:
        yield pb.Window(**window._asdict())


def write_timings(parts: Iterable[Embedded], *, total_ns: int) -> pb.Timings:
    """Writes the times of lists of texts that were embedded side by side.

    Of each kind of time the longest counts.
    """
    tokenize_ns = queue_ns = infer_ns = 0
    for part in parts:
        tokenize_ns = max(tokenize_ns, part.tokenize_ns)
        queue_ns = max(queue_ns, part.queue_ns)
        infer_ns = max(infer_ns, part.infer_ns)
    return pb.Timings(
        tokenize_ns=tokenize_ns, queue_ns=queue_ns, infer_ns=infer_ns, total_ns=total_ns
    )


def write_rankings(rankings: Rankings) -> Iterator[pb.Ranking]:
    """Writes the ranking of each query as a message."""
    for indices, scores in zip(rankings.indices, rankings.scores, strict=True):
        ranking = pb.Ranking()
        for part in _in_parts(indices):
            ranking.indices.extend(part)
        for part in _in_parts(scores):
            ranking.scores.extend(part)
        yield ranking


def _in_parts(values: npt.NDArray[Any]) -> Iterator[list[Any]]:
    """Yields the values as Python numbers, in parts.

    Filling a message holds the lock of the interpreter, and other threads get it between parts.
    """
    for start in range(0, len(values), _PART):
        yield values[start : start + _PART].tolist()


def write_tokenized(text: TokenizedText) -> pb.TokenizedText:
    """Writes a text as its tokens."""
    return pb.TokenizedText(
        ids=text.ids,
        tokens=text.tokens,
        starts=[start for start, _ in text.offsets],
        ends=[end for _, end in text.offsets],
        kept_tokens=text.kept_tokens,
        kept_start=text.kept_span[0],
        kept_end=text.kept_span[1],
    )


def write_canary(model: Model, prompt_name: str) -> pb.GetCanaryResponse:
    """Writes the canary of what embeds texts with a prompt; no texts where it has none."""
    embeds = model.routes.get(prompt_name) if model.routes else model
    names = {route.queue: name for name, route in sorted(model.routes.items(), reverse=True)}
    response = pb.GetCanaryResponse(
        model=model.name,
        space=model.identity.space,
        bits=model.identity.bits,
        routes=sorted(names.values()),
    )
    canary = embeds and embeds.canary
    if canary:
        response.texts.extend(canary.texts)
        response.vectors.CopyFrom(write_matrix(canary.vectors))
        response.min_cosine, response.exact = canary.min_cosine, canary.is_exact
    return response


def write_model(model: Model, *, is_default: bool) -> pb.ModelInfo:
    """Writes what a client may know of a model."""
    manifest = model.manifest
    return pb.ModelInfo(
        name=model.name,
        model_id=manifest.model_id,
        revision=manifest.revision,
        dim=manifest.dim,
        max_seq_length=manifest.max_seq_length,
        pooling=_POOLINGS.get(manifest.pooling, pb.POOLING_CONCATENATED),
        normalized=manifest.normalized,
        prompts=manifest.prompts,
        default_prompt_name=manifest.default_prompt_name or "",
        precision=model.precision,
        provider=model.provider,
        is_default=is_default,
        parity_cosine_min=manifest.graphs[model.precision].parity.cosine_min,
        similarity_fn_name=manifest.similarity_fn_name,
        space=model.identity.space,
        bits=model.identity.bits,
        reproducible=model.is_reproducible,
        unpooled_prompts=bool(manifest.unpooled_tokens),
        routed=bool(manifest.routes),
    )


def _read_enum(known: Mapping[int, _T], value: int, name: str, field: str) -> _T:
    try:
        return known[value]
    except KeyError:
        raise InvalidRequest(
            f"{value} is not a {name} of this server", reason="UNKNOWN_ENUM_VALUE", field=field
        ) from None
