"""Semantic search: find words by what they mean among 10,000 definitions.

The queries are answered in three ways that must agree. `Client.search` streams the documents to the
server (the rpc StreamSimilarity), which embeds and ranks them and keeps nothing. Or the documents
are embedded once, and their vectors answer any number of queries: here, with numpy, or on the
server again, which is then sent vectors in place of texts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from arguments import at_least, parser
from corpora import Gloss, load_glosses
from unitvec_client import Client, Hit, Rankings
from waiting import waiting

T = TypeVar("T")

QUERIES = (
    "a drink made from grapes",
    "someone who repairs cars",
    "an instrument that measures temperature",
    "the feeling of missing home",
)
TOLERANCE = 1e-5
"""Largest difference of scores at which two rankings agree; float32 sums differ by about 1e-7."""


@dataclass(frozen=True)
class Answers:
    """Three rankings of the same documents for the same queries, and what they took.

    Attributes:
        streamed: By the server, from texts.
        ranked: By numpy, from vectors embedded once.
        resent: By the server, from those vectors.
        seconds: Time of each step, by its name.
    """

    streamed: Rankings
    ranked: Rankings
    resent: Rankings
    seconds: dict[str, float]


def rank(queries: NDArray[np.float32], documents: NDArray[np.float32], *, top_k: int) -> Rankings:
    """Returns the best documents for each query by cosine, best first.

    Args:
        queries: Unit vectors (n, D).
        documents: Unit vectors (m, D).
        top_k: How many documents at most.
    """
    scores = queries @ documents.T
    indices = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
    return Rankings(indices.astype(np.uint32), np.take_along_axis(scores, indices, axis=1))


def from_hits(hits: list[list[Hit]]) -> Rankings:
    """Returns what `Client.search` found as arrays (n, k)."""
    indices = [[hit.index for hit in found] for found in hits]
    scores = [[hit.score for hit in found] for found in hits]
    return Rankings(np.array(indices, np.uint32), np.array(scores, np.float32))


def largest_difference(a: Rankings, b: Rankings) -> float:
    """Returns how far the scores at equal ranks are apart, at most.

    Documents whose scores are equal but for rounding may change places; nothing else may.
    """
    return float(np.abs(a.scores - b.scores).max())


def answer(client: Client, queries: Sequence[str], texts: Sequence[str], *, top_k: int) -> Answers:
    """Returns the best texts for each query, found in each way."""
    seconds: dict[str, float] = {}

    def timed(step: str, act: Callable[[], T]) -> T:
        start = time.perf_counter()
        result = act()
        seconds[step] = time.perf_counter() - start
        return result

    hits = timed("stream texts", lambda: client.search(queries, texts, top_k=top_k))
    documents = timed("embed documents", lambda: client.embed(texts))
    asked = timed("embed queries", lambda: client.embed(queries))
    ranked = timed("rank with numpy", lambda: rank(asked, documents, top_k=top_k))
    again = timed("stream vectors", lambda: client.search(asked, documents, top_k=top_k))
    return Answers(from_hits(hits), ranked, from_hits(again), seconds)


def print_hits(query: str, ranking: Rankings, glosses: Sequence[Gloss], row: int) -> None:
    """Prints the documents found for the query of this row, with their scores."""
    print(f"\n{query}")
    for index, score in zip(ranking.indices[row], ranking.scores[row], strict=True):
        gloss = glosses[index]
        print(f"  {score:.3f}  {gloss.words[0]:<18} {gloss.text:.70}")


def print_times(seconds: dict[str, float], documents: int, queries: int) -> None:
    """Prints what each way took, and what of it comes again with the next queries."""
    once = seconds["embed queries"] + seconds["rank with numpy"]
    print(f"\nTime for {queries} queries among {documents:,} documents:")
    print(f"  {seconds['stream texts']:8.3f} s  StreamSimilarity over texts, all of it each time")
    print(f"  {seconds['embed documents']:8.3f} s  embed the documents, once; then, each time:")
    print(f"  {once:8.3f} s    embed the queries and rank with numpy")
    print(f"  {seconds['rank with numpy']:8.3f} s      of which ranking")
    print(f"  {seconds['stream vectors']:8.3f} s    or StreamSimilarity over the vectors")
    print("A server with --cache-bytes finds the documents of the second way in its cache.")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the example; returns 1 if the ways disagree."""
    flags = parser(__doc__)
    flags.add_argument("--count", type=at_least(5), default=10_000, help="documents")
    flags.add_argument("--top-k", type=at_least(1), default=5, help="hits for each query")
    flags.add_argument("--query", action="append", help="what to look for; again for more")
    args = flags.parse_args(argv)
    queries = args.query or list(QUERIES)
    glosses = load_glosses(args.count)
    # Ten thousand texts may take longer than a call's default deadline on a busy server.
    with Client(args.target, timeout_s=None) as client, waiting("searching"):
        answers = answer(client, queries, [gloss.text for gloss in glosses], top_k=args.top_k)
    print(f"{len(glosses):,} definitions; each query finds words by what they mean")
    for row, query in enumerate(queries):
        print_hits(query, answers.streamed, glosses, row)
    print_times(answers.seconds, len(glosses), len(queries))
    others = (answers.ranked, answers.resent)
    apart = max(largest_difference(answers.streamed, other) for other in others)
    agree = apart <= TOLERANCE
    print(f"The three {'agree' if agree else 'DISAGREE'}: scores differ by {apart:.1e} at most.")
    return 0 if agree else 1


if __name__ == "__main__":
    raise SystemExit(main())
