"""A vector index: 10,000 vectors in FAISS, exact and approximate, and what the latter costs.

`IndexFlatIP` compares a query with every vector; HNSW follows a graph of neighbours and looks at a
part of them, more of them for a larger `ef`. Recall@10 is the part of the exact ten that it finds.
The queries are other texts than those in the index. One thread, one query at a time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from arguments import at_least, output_file, parser
from corpora import load_glosses
from unitvec_client import Client
from waiting import waiting

TOP_K = 10
EFS = (10, 20, 40, 80, 160, 320)
NEIGHBOURS = 16
"""Links of each vector in the graph (M): more make it better, larger and slower to build."""
EF_CONSTRUCTION = 100
"""Candidates for those links, looked at while it is built."""


@dataclass(frozen=True)
class Measured:
    """One way to search.

    Attributes:
        ef: Candidates kept while searching; None for the exact index.
        recall: Part of the exact top ten that it found, from 0 to 1.
        query_ms: Median time of one query.
    """

    ef: int | None
    recall: float
    query_ms: float


def build_exact(vectors: NDArray[np.float32]) -> faiss.Index:
    """Returns an index that compares with every vector (n, D)."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def build_hnsw(vectors: NDArray[np.float32]) -> faiss.IndexHNSWFlat:
    """Returns an approximate index of the vectors (n, D)."""
    # The default metric is L2. On unit vectors it ranks alike, but its scores are not cosines.
    index = faiss.IndexHNSWFlat(vectors.shape[1], NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = EF_CONSTRUCTION
    index.add(vectors)
    return index


def search(
    index: faiss.Index, queries: NDArray[np.float32], *, top_k: int = TOP_K
) -> tuple[NDArray[np.int64], float]:
    """Returns the best rows for each query (n, k), and the median time of one, in milliseconds."""
    found, times_ns = [], []
    for query in queries:
        start = time.perf_counter_ns()
        _, rows = index.search(query[np.newaxis], top_k)
        times_ns.append(time.perf_counter_ns() - start)
        found.append(rows[0])
    return np.stack(found), float(np.median(times_ns)) / 1e6


def recall(found: NDArray[np.int64], exact: NDArray[np.int64]) -> float:
    """Returns the part of `exact` (n, k) that `found` (n, k) holds, in any order, from 0 to 1."""
    shared = [len(np.intersect1d(a, b)) for a, b in zip(found, exact, strict=True)]
    return sum(shared) / exact.size


def measure(
    exact: faiss.Index, approximate: faiss.IndexHNSWFlat, queries: NDArray[np.float32]
) -> list[Measured]:
    """Returns recall and time of the exact index, then of the approximate one at each `ef`."""
    truth, exact_ms = search(exact, queries)
    measured = [Measured(None, 1.0, exact_ms)]
    for ef in EFS:
        approximate.hnsw.efSearch = ef
        found, query_ms = search(approximate, queries)
        measured.append(Measured(ef, recall(found, truth), query_ms))
    return measured


def save_and_load(index: faiss.Index, path: Path) -> tuple[faiss.Index, float]:
    """Returns the index as it is read back from the file, and the seconds that reading took."""
    faiss.write_index(index, str(path))
    start = time.perf_counter()
    loaded = faiss.read_index(str(path))
    return loaded, time.perf_counter() - start


def draw(measured: Sequence[Measured], path: Path) -> None:
    """Draws recall over the time of one query."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    exact, *rest = measured
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    axes.plot([m.query_ms for m in rest], [m.recall for m in rest], "o-", label="HNSW, by ef")
    for point in rest:
        place = (point.query_ms, point.recall)
        axes.annotate(f"{point.ef}", place, xytext=(6, -14), textcoords="offset points")
    axes.axvline(exact.query_ms, color="tab:red", linestyle="--", label="exact, recall 1")
    axes.set(xlabel="median time of one query (ms)", ylabel=f"recall@{TOP_K}", xscale="log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(y=0.1)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(loc="lower center")
    figure.savefig(path, dpi=125)
    plt.close(figure)


def print_table(measured: Sequence[Measured]) -> None:
    """Prints recall and time of each way."""
    print(f"\n{'index':<14}{'ef':>5}{f'recall@{TOP_K}':>12}{'ms a query':>12}")
    for row in measured:
        name, ef = ("exact", "-") if row.ef is None else ("HNSW", str(row.ef))
        print(f"{name:<14}{ef:>5}{row.recall:>12.4f}{row.query_ms:>12.3f}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the example; returns 1 if the index that was read back answers otherwise."""
    flags = parser(__doc__)
    flags.add_argument("--count", type=at_least(TOP_K), default=10_000, help="vectors in the index")
    flags.add_argument("--queries", type=at_least(1), default=500, help="how many queries")
    args = flags.parse_args(argv)
    faiss.omp_set_num_threads(1)
    texts = [gloss.text for gloss in load_glosses(args.count + args.queries)]
    if len(texts) < args.count + args.queries:
        flags.error(f"--count and --queries together are more than the {len(texts):,} texts")
    with Client(args.target, timeout_s=None) as client, waiting("embedding"):
        vectors = client.embed(texts)
    documents, queries = vectors[: args.count], vectors[args.count :]

    start = time.perf_counter()
    exact = build_exact(documents)
    exact_s = time.perf_counter() - start
    approximate = build_hnsw(documents)
    hnsw_s = time.perf_counter() - start - exact_s
    print(f"{len(documents):,} vectors of {documents.shape[1]}, {len(queries)} queries")
    print(f"built: exact in {exact_s:.2f} s, HNSW in {hnsw_s:.2f} s")
    measured = measure(exact, approximate, queries)
    print_table(measured)

    path = output_file(args.output, "glosses.hnsw.faiss")
    loaded, load_s = save_and_load(approximate, path)
    same = np.array_equal(search(loaded, queries)[0], search(approximate, queries)[0])
    print(f"\n{path}: {path.stat().st_size / 2**20:.1f} MiB, read back in {load_s:.2f} s;")
    print(f"it {'answers as before' if same else 'ANSWERS OTHERWISE'}. It holds row numbers:")
    print("keep the texts, in the same order, beside it.")
    picture = output_file(args.output, "vector_index.png")
    draw(measured, picture)
    print(f"\nrecall over time: {picture}")
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())
