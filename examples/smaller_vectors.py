"""Make vectors smaller, by fewer dimensions or by fewer bits, and see what that costs.

Documents are kept as small vectors and queries search them. Two figures say how good that is:
how many of the ten documents that full float32 vectors find are still found, and how often the
one right document is among the ten. PCA is fitted on texts that are neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from arguments import at_least, output_file, parser
from corpora import load_glosses
from unitvec_client import Client, EmbedResult
from waiting import waiting

TOP_K = 10
CANDIDATES = 4 * TOP_K
"""How many a search over bits hands on to be scored again."""

SMALLER = (256, 128, 64, 32)
DTYPES: tuple[Literal["float16", "int8"], ...] = ("float16", "int8")
QUERY_EVERY = 8
"""One of so many documents is searched for, by the words that it explains."""

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Texts:
    """What is searched, what searches, and what PCA learns from.

    Attributes:
        documents: Glosses.
        queries: The words of some of them.
        own: (q,) index of the document of each query.
        others: Glosses which are no documents.
    """

    documents: list[str]
    queries: list[str]
    own: Indices
    others: list[str]


@dataclass(frozen=True)
class Way:
    """One way to keep vectors, and what it found.

    Attributes:
        family: What it has in common with others, such as "PCA".
        name: Its own.
        searched_bytes: Of a vector that each query reads.
        extra_bytes: Kept beside it, on disk say, and read for candidates only.
        found: (q, k) indices of documents, best first.
    """

    family: str
    name: str
    searched_bytes: int
    extra_bytes: int
    found: Indices


def choose(count: int) -> Texts:
    """Returns so many documents, and as many other texts."""
    glosses = load_glosses(2 * count)
    documents, others = glosses[:count], glosses[count:]
    own = np.arange(0, len(documents), QUERY_EVERY)
    return Texts(
        documents=[gloss.text for gloss in documents],
        queries=[", ".join(documents[place].words) for place in own],
        own=own,
        others=[gloss.text for gloss in others],
    )


def rank(scores: Floats, count: int) -> Indices:
    """Returns the best columns (q, count) of scores (q, n), best first, equal ones in order."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]


def rescore(candidates: Indices, queries: Floats, documents: Floats) -> Indices:
    """Returns the best TOP_K of each query's candidates (q, c), by dot product.

    Args:
        candidates: Indices of documents.
        queries: (q, D).
        documents: (n, D).
    """
    scores = np.einsum("qd,qcd->qc", queries, documents[candidates])
    return np.take_along_axis(candidates, rank(scores, TOP_K), axis=1)


def signs(packed: NDArray[np.uint8], dim: int) -> Floats:
    """Returns packed bits (n, ceil(dim / 8)) as 1 and -1 (n, dim).

    The dot product of two rows is dim less twice their Hamming distance.
    """
    return 2 * np.unpackbits(packed, axis=1, count=dim).astype(np.float32) - 1


def fit_pca(vectors: Floats, dim: int) -> PCA:
    """Returns a projection to dim dimensions, fitted on vectors (n, D)."""
    return PCA(dim, svd_solver="covariance_eigh").fit(vectors)


def project(pca: PCA, vectors: Floats) -> Floats:
    """Returns vectors (n, D) in the dimensions of the PCA, of unit length again."""
    projected = pca.transform(vectors)
    unit: Floats = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    return unit.astype(np.float32)


def recall(found: Indices, wanted: Indices) -> float:
    """Returns the share of the wanted (q, k) that is found (q, k)."""
    hits = (found[:, :, np.newaxis] == wanted[:, np.newaxis, :]).any(axis=1)
    return float(hits.mean())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the example and returns its exit status."""
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=at_least(300), default=4000, help="how many documents")
    options = arguments.parse_args(argv)
    texts = choose(options.count)
    print(f"{len(texts.queries):,} queries over {len(texts.documents):,} documents", flush=True)
    with Client(options.target, timeout_s=None) as client, waiting("embedding"):
        ways = list(search_all_ways(client, texts))
    truth = ways[0].found
    _print_ways(ways, truth, texts.own)
    picture = output_file(options.output, "smaller_vectors.png")
    _draw(ways, truth, picture)
    print(f"\nQuality over bytes: {picture}")
    return 0


def search_all_ways(client: Client, texts: Texts) -> Iterator[Way]:
    """Yields each way and what it found; first full float32 vectors, which set the standard."""
    queries, documents = client.embed(texts.queries), client.embed(texts.documents)
    full = documents.shape[1]
    yield _way("float32", f"{full} dimensions", documents, rank(queries @ documents.T, TOP_K))
    yield from _truncated(client, texts)
    yield from _projected(queries, documents, client.embed(texts.others))
    yield from _rounded(client, texts, queries)
    yield from _bits(client, texts, queries, documents)


def _truncated(client: Client, texts: Texts) -> Iterator[Way]:
    for dim in SMALLER:
        queries = client.embed(texts.queries, dimensions=dim)
        documents = client.embed(texts.documents, dimensions=dim)
        found = rank(queries @ documents.T, TOP_K)
        yield _way("truncation", f"first {dim} dimensions", documents, found)


def _projected(queries: Floats, documents: Floats, others: Floats) -> Iterator[Way]:
    for dim in SMALLER:
        pca = fit_pca(others, dim)
        small = project(pca, documents)
        found = rank(project(pca, queries) @ small.T, TOP_K)
        yield _way("PCA", f"{dim} dimensions", small, found)


def _rounded(client: Client, texts: Texts, queries: Floats) -> Iterator[Way]:
    for dtype in DTYPES:
        result = client.embed_result(texts.documents, dtype=dtype)
        found = rank(queries @ result.values().astype(np.float32).T, TOP_K)
        yield Way("fewer bits", dtype, _row_bytes(result), 0, found)


def _bits(client: Client, texts: Texts, queries: Floats, documents: Floats) -> Iterator[Way]:
    """Yields searches by sign bits: alone, and with the best scored again in finer ways."""
    full = queries.shape[1]
    bits = client.embed_result(texts.documents, dtype="binary")
    coarse = signs(bits.vectors, full)
    alike = signs(client.embed(texts.queries, dtype="binary"), full) @ coarse.T
    yield Way("fewer bits", "binary", _row_bytes(bits), 0, rank(alike, TOP_K))
    rounded = client.embed_result(texts.documents, dtype="int8")
    candidates = rank(alike, CANDIDATES)
    for name, finer, extra_bytes in (
        ("float32 query", coarse, 0),
        ("int8", rounded.values(), _row_bytes(rounded)),
        ("float32", documents, documents[0].nbytes),
    ):
        found = rescore(candidates, queries, finer)
        yield Way("binary, rescored", f"by {name}", _row_bytes(bits), extra_bytes, found)


def _way(family: str, name: str, documents: Floats, found: Indices) -> Way:
    return Way(family, name, documents[0].nbytes, 0, found)


def _row_bytes(result: EmbedResult) -> int:
    scale_bytes = 0 if result.scales is None else result.scales.itemsize
    return int(result.vectors[0].nbytes) + scale_bytes


def _print_ways(ways: Sequence[Way], truth: Indices, own: Indices) -> None:
    print("\nBytes of a vector: those a query reads, and those beside for its candidates alone")
    print("                                          read  beside  recall@10  own document found")
    for way in ways:
        right = recall(way.found, own[:, np.newaxis])
        row = f"  {way.family:18}{way.name:20}{way.searched_bytes:6,}{way.extra_bytes:8,}"
        print(f"{row}{recall(way.found, truth):11.3f}{right:20.3f}")


def _draw(ways: Sequence[Way], truth: Indices, path: Path) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(10, 6), layout="constrained")
    for family in dict.fromkeys(way.family for way in ways):
        drawn = [way for way in ways if way.family == family]
        sizes = [way.searched_bytes for way in drawn]
        line = "" if family == "binary, rescored" else "-"
        quality = [recall(way.found, truth) for way in drawn]
        axes.plot(sizes, quality, marker="o", linestyle=line, label=family)
        for place, way in enumerate(drawn):
            # Above and below by turns: some points are all but the same.
            offset = (6, -12 if place % 2 else 5)
            point = (sizes[place], quality[place])
            axes.annotate(way.name, point, offset, textcoords="offset points")
    axes.set_xscale("log", base=2)
    axes.margins(x=0.12)
    axes.set(xlabel="bytes of a vector that each query reads (log scale)")
    axes.set(ylabel=f"recall@{TOP_K} of float32 search", ylim=(0, 1.08))
    axes.set_title("Quality over bytes")
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())
