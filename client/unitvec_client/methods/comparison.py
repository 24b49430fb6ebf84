"""`similarity` and `search`: what fits goes as one call, more is split or streamed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unitvec_client.core.calls import CallContext, Pipeline, exchange
from unitvec_client.core.decoding import decode_rankings, decode_scores
from unitvec_client.core.failures import Failure
from unitvec_client.core.inputs import Side
from unitvec_client.core.rpcs import SIMILARITY
from unitvec_client.core.splitting import Budget, split
from unitvec_client.core.steps import Script
from unitvec_client.errors import ErrorFacts, InputError, ProtocolError, UnitvecError, at_field
from unitvec_client.expectation import Expectation, OneModel
from unitvec_client.methods.searching import Documents, Search, SearchPlan
from unitvec_client.options import METRICS, SearchOptions, SimilarityOptions
from unitvec_client.results import Hit, Rankings
from unitvec_protos.v1 import embedding_pb2 as pb

Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the server takes.

    Attributes:
        budget: Bounds of one message.
        max_scores: Highest number of queries times documents of one message.
    """

    budget: Budget
    max_scores: int


def check_sides(a: Side, b: Side, *, pairs: bool) -> None:
    """Check that two sides can be compared.

    Raises:
        InputError: If vectors differ in dimension, or pairs in number.
    """
    if a.dim is not None and b.dim is not None and a.dim != b.dim:
        raise InputError(f"a has {a.dim} dimensions, b has {b.dim}", ErrorFacts(field="b"))
    if pairs and len(a) != len(b):
        raise InputError(f"pairs need as many of each: a has {len(a)}, b {len(b)}")


def empty_scores(a: Side, b: Side, options: SimilarityOptions) -> Scores | Rankings | None:
    """Return the result where nothing is to be compared; None where something is."""
    if len(a) and len(b):
        return None
    if options.pairs:
        return np.empty(0, np.float32)
    if options.top_k is None:
        return np.empty((len(a), len(b)), np.float32)
    shape = (len(a), min(options.top_k, len(b)))
    return Rankings(np.empty(shape, np.uint32), np.empty(shape, np.float32))


def compare(
    context: CallContext, sides: tuple[Side, Side], options: SimilarityOptions, bounds: Bounds
) -> Script[Scores | Rankings]:
    """Compare two sides that are not empty.

    Raises:
        MessageTooLargeError: If one text or vector is larger than a message.
        UnitvecError: If a call fails for good.
    """
    for side, name in zip(sides, "ab", strict=True):
        bounds.budget.check_sizes(side.sizes_bytes, name)
    if options.pairs:
        return (yield from _Pairs(context, *sides, options, bounds.budget).run())
    if _fits_one_call(*sides, bounds):
        return (yield from _compare_at_once(context, *sides, options))
    return (yield from _compare_streamed(context, sides, options, bounds))


def search(context: CallContext, plan: SearchPlan, documents: Documents) -> Script[list[list[Hit]]]:
    """Return the hits of each query, best first.

    Raises:
        UnitvecError: If the search fails for good.
    """
    results = yield from Search(context, plan, documents).run()
    if not len(documents):
        return [[] for _ in range(len(plan.queries))]
    rankings = _join_rankings(results, plan.top_k, len(documents))
    texts = documents.side.texts
    return [
        [
            Hit(index, score, None if texts is None else texts[index])
            for index, score in zip(indices.tolist(), scores.tolist(), strict=True)
        ]
        for indices, scores in zip(*rankings, strict=True)
    ]


def search_plan(
    queries: Side, options: SearchOptions, bounds: Bounds, expect: Expectation
) -> SearchPlan:
    """Return the plan of a `search`."""
    return SearchPlan(
        setup=pb.SimilaritySetup(model=options.model, metric=METRICS[options.metric]),
        queries=queries,
        query_options=options.to_proto(options.query_prompt_name, expect),
        document_options=options.to_proto(options.document_prompt_name, expect),
        top_k=options.top_k,
        budget=bounds.budget,
        max_scores=bounds.max_scores,
    )


def _fits_one_call(a: Side, b: Side, bounds: Bounds) -> bool:
    # Both sides are counted together, so that they fit whether the server does so or not.
    sizes_bytes = a.sizes_bytes + b.sizes_bytes
    in_budget = len(list(split(sizes_bytes, bounds.budget))) == 1
    return in_budget and len(a) * len(b) <= bounds.max_scores


def _compare_at_once(
    context: CallContext, a: Side, b: Side, options: SimilarityOptions
) -> Script[Scores | Rankings]:
    encode = options.to_proto(options.prompt_name, context.expect)
    comparison = pb.CrossComparison(
        queries=a.to_proto(0, len(a), encode),
        documents=b.to_proto(0, len(b), encode),
        top_k=options.top_k or 0,
    )
    request = pb.SimilarityRequest(
        model=options.model, metric=METRICS[options.metric], cross=comparison
    )
    response = yield from exchange(context, SIMILARITY, request)
    if options.top_k is None:
        return decode_scores(response.scores, len(a), len(b))
    return _join_rankings([(len(a), response)], options.top_k, len(b))


def _compare_streamed(
    context: CallContext, sides: tuple[Side, Side], options: SimilarityOptions, bounds: Bounds
) -> Script[Scores | Rankings]:
    a, b = sides
    encode = options.to_proto(options.prompt_name, context.expect)
    plan = SearchPlan(
        setup=pb.SimilaritySetup(model=options.model, metric=METRICS[options.metric]),
        queries=a,
        query_options=encode,
        document_options=encode,
        top_k=options.top_k or 0,
        budget=bounds.budget,
        max_scores=bounds.max_scores,
    )
    results = yield from Search(context, plan, Documents(b)).run()
    if options.top_k is not None:
        return _join_rankings(results, options.top_k, len(b))
    return np.concatenate([decode_scores(r.scores, rows, len(b)) for rows, r in results])


def _join_rankings(results: list[tuple[int, Any]], top_k: int, documents: int) -> Rankings:
    k = min(top_k, documents)
    rankings: list[pb.Ranking] = []
    for queries, result in results:
        if len(result.rankings) != queries:
            count = len(result.rankings)
            raise ProtocolError(f"bad reply: {count} rankings for {queries} queries")
        rankings.extend(result.rankings)
    return decode_rankings(rankings, k, documents)


@dataclass(slots=True)
class _Pairs:
    """Pairs, split into aligned ranges."""

    context: CallContext
    a: Side
    b: Side
    options: SimilarityOptions
    budget: Budget
    _ranges: list[tuple[int, int]] = field(default_factory=list)
    _scores: Scores = field(default_factory=lambda: np.empty(0, np.float32))
    _model: OneModel = field(default_factory=OneModel)

    def run(self) -> Script[Scores]:
        """Return the scores (n,)."""
        sizes = zip(self.a.sizes_bytes, self.b.sizes_bytes, strict=True)
        # A pair counts as two items, so that it fits however the server counts.
        budget = replace(self.budget, items=max(1, self.budget.items // 2))
        self._ranges = list(split([left + right for left, right in sizes], budget))
        self._scores = np.empty(len(self.a), np.float32)
        pipeline = Pipeline(self.context, SIMILARITY, self._on_reply, self._on_failure)
        yield from pipeline.run(self._requests())
        return self._scores

    def _requests(self) -> Iterator[pb.SimilarityRequest]:
        encode = self.options.to_proto(self.options.prompt_name, self.context.expect)
        for start, stop in self._ranges:
            pairs = pb.PairComparison(
                a=self.a.to_proto(start, stop, encode), b=self.b.to_proto(start, stop, encode)
            )
            yield pb.SimilarityRequest(
                model=self.options.model, metric=METRICS[self.options.metric], pairs=pairs
            )

    def _on_reply(self, index: int, response: pb.SimilarityResponse) -> None:
        self._model.check(response.space, response.bits)
        start, stop = self._ranges[index]
        self._scores[start:stop] = decode_scores(response.scores, stop - start, 1)[:, 0]

    def _on_failure(self, index: int, failure: Failure) -> UnitvecError:
        error = self.context.error(failure)
        row = failure.text_index
        if row is None:
            return error
        moved = error.field.replace(f"[{row}]", f"[{self._ranges[index][0] + row}]")
        return at_field(error, moved)
