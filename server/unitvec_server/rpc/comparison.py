"""The similarity RPCs: operands (texts or vectors) -> scores or rankings, as messages."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_server.config import FixedLimits
from unitvec_server.engine.engine import Engine
from unitvec_server.engine.identity import check_expected
from unitvec_server.engine.requests import Caller, Embedded, Model, TextList
from unitvec_server.engine.watchdog import run_off_loop
from unitvec_server.errors import InvalidRequest
from unitvec_server.rpc.messages import (
    read_expected,
    read_matrix,
    read_metric,
    read_options,
    write_matrix,
    write_rankings,
    write_timings,
    write_usage,
)
from unitvec_server.vectors.packing import Floats
from unitvec_server.vectors.scores import Metric, cross_scores, pair_scores, prepare, top_k

_BLOCK_COMPARISONS = 1_000_000
"""Comparisons that are made at a time, which takes some tens of milliseconds."""

_BLOCK_QUERIES = 10_000
"""Queries that are compared at a time, even with few documents: each costs some microseconds."""


class Side(NamedTuple):
    """One operand as vectors.

    Attributes:
        vectors: (n, D) float32.
        embedded: The embedded texts, with their cost; empty for vectors that were given.
    """

    vectors: Floats
    embedded: list[Embedded]


async def read_sides(
    engine: Engine, model: Model, operands: Mapping[str, pb.Operand], *, caller: Caller
) -> list[Side]:
    """Embeds the texts of operands as one request, and reads their vectors.

    Args:
        engine: Engine that embeds.
        model: Model that embeds.
        operands: Operands by the name of their field.
        caller: Unary call or stream that asks for it.

    Returns:
        The sides, in the order of the operands.

    Raises:
        RequestError: One cannot be used; the error names the field.
    """
    sides: dict[str, Side] = {}
    lists: dict[str, TextList] = {}
    for field, operand in operands.items():
        kind = operand.WhichOneof("values")
        check_expected(model, read_expected(operand.options), field=f"{field}.options")
        if kind == "texts":
            options = read_options(operand.options, field=f"{field}.options")
            if options.windows and not options.windows.is_pooled:
                raise InvalidRequest(
                    "texts are compared as a whole, so that windows must be pooled",
                    reason="WINDOWS_NOT_POOLED",
                    field=f"{field}.options.windows.pooled",
                )
            lists[field] = TextList(operand.texts.texts, options, f"{field}.texts")
        elif kind == "vectors":
            read = functools.partial(read_matrix, operand.vectors, field=f"{field}.vectors")
            sides[field] = Side(await run_off_loop(engine.executor, read), [])
        else:
            raise InvalidRequest("give texts or vectors", reason="MISSING_FIELD", field=field)
    if lists:
        embedded = await engine.embed(model, list(lists.values()), caller=caller)
        sides |= {
            field: Side(one.vectors, [one]) for field, one in zip(lists, embedded, strict=True)
        }
    return [sides[field] for field in operands]


async def compare(
    engine: Engine, request: pb.SimilarityRequest, *, caller: Caller, limits: FixedLimits
) -> pb.SimilarityResponse:
    """Answers a SimilarityRequest.

    Raises:
        RequestError: It cannot be answered.
    """
    started_ns = time.monotonic_ns()
    model, metric = engine.model(request.model), read_metric(request.metric)
    left, right = await read_sides(engine, model, _operands(request), caller=caller)
    response = pb.SimilarityResponse(
        model=model.name, space=model.identity.space, bits=model.identity.bits
    )
    reply = Reply(response, metric, request.cross.top_k, request.as_list, limits)
    if request.WhichOneof("comparison") == "pairs":
        pairs = functools.partial(_pairs, left.vectors, right.vectors, reply)
        await run_off_loop(engine.comparing, pairs)
    else:
        queries, documents = [
            await run_off_loop(engine.comparing, functools.partial(prepare, side.vectors, metric))
            for side in (left, right)
        ]
        await score(engine, queries, documents, reply)
    embedded = left.embedded + right.embedded
    response.usage.CopyFrom(write_usage(embedded))
    total_ns = time.monotonic_ns() - started_ns
    response.timings.CopyFrom(write_timings(embedded, total_ns=total_ns))
    return response


def _operands(request: pb.SimilarityRequest) -> dict[str, pb.Operand]:
    """Both sides by field name; what can be refused before embedding is."""
    kind = request.WhichOneof("comparison")
    if kind == "cross":
        cross = request.cross
        return {"cross.queries": cross.queries, "cross.documents": cross.documents}
    if kind is None:
        raise InvalidRequest("give pairs or cross", reason="MISSING_FIELD", field="comparison")
    a, b = request.pairs.a, request.pairs.b
    if a.WhichOneof("values") and b.WhichOneof("values") and _count(a) != _count(b):
        raise InvalidRequest(
            f"pairs.a has {_count(a)} entries and pairs.b has {_count(b)}; they must match",
            reason="PAIR_COUNT_MISMATCH",
            field="pairs",
        )
    return {"pairs.a": a, "pairs.b": b}


def _count(operand: pb.Operand) -> int:
    is_texts = operand.WhichOneof("values") == "texts"
    return len(operand.texts.texts) if is_texts else operand.vectors.rows


class Reply(NamedTuple):
    """The message that scores are written to, their form, and the limits of their number."""

    message: pb.SimilarityResponse | pb.QueryResult
    metric: Metric
    top_k: int
    as_list: bool
    limits: FixedLimits


def _pairs(a: Floats, b: Floats, reply: Reply) -> None:
    _check_dims(a, b, "pairs")
    metric = reply.metric
    _write_scores(pair_scores(prepare(a, metric), prepare(b, metric), metric)[:, None], reply)


async def score(engine: Engine, queries: Floats, documents: Floats, reply: Reply) -> None:
    """Compares prepared vectors and writes the scores in the form that was asked for.

    It works in blocks of queries, so that calls take turns and a cancelled one stops early. Writing
    takes longer than comparing, so neither happens on the event loop.
    """
    _check_dims(queries, documents, "queries")
    _check_scores(len(queries), len(documents), reply)
    block = max(1, min(_BLOCK_QUERIES, _BLOCK_COMPARISONS // len(documents)))
    blocks = [queries[start : start + block] for start in range(0, len(queries), block)]
    if reply.top_k:
        for part in blocks:
            await run_off_loop(engine.comparing, functools.partial(_rank, part, documents, reply))
        return
    metric = reply.metric
    scores = [
        await run_off_loop(
            engine.comparing, functools.partial(cross_scores, part, documents, metric)
        )
        for part in blocks
    ]
    await run_off_loop(engine.comparing, lambda: _write_scores(np.concatenate(scores), reply))


def _rank(queries: Floats, documents: Floats, reply: Reply) -> None:
    best = top_k(queries, documents, reply.metric, reply.top_k)
    reply.message.rankings.extend(write_rankings(best))


def _write_scores(scores: Floats, reply: Reply) -> None:
    reply.message.scores.CopyFrom(write_matrix(scores, as_list=reply.as_list))


def _check_scores(queries: int, documents: int, reply: Reply) -> None:
    width, limits = min(reply.top_k, documents) or documents, reply.limits
    for count, limit, name in (
        (queries * width, limits.max_scores, "max_scores"),
        (queries * documents, limits.max_comparisons, "max_comparisons"),
    ):
        if count > limit:
            raise InvalidRequest(
                f"{queries} queries over {documents} documents come to {count}; the limit {name} "
                f"is {limit}; set or lower top_k, or send fewer queries at a time",
                reason="TOO_MANY_SCORES",
                field="top_k",
            )


def _check_dims(a: Floats, b: Floats, field: str) -> None:
    if a.shape[1] != b.shape[1]:
        raise dimension_mismatch(a, b, field)


def dimension_mismatch(a: Floats, b: Floats, field: str) -> InvalidRequest:
    """Returns the error for vectors that cannot be compared."""
    return InvalidRequest(
        f"vectors of {a.shape[1]} and of {b.shape[1]} dimensions cannot be compared",
        reason="DIMENSION_MISMATCH",
        field=field,
    )
