"""Find all pairs of near-duplicates among many texts, in the memory of one tile of the matrix.

The cosines of n texts with one another are an n x n matrix: 1.5 GiB for 20,000 texts, 3.6 TiB for
a million. Here it is made tile by tile, each is read once and dropped, and only the pairs above
the threshold are kept. The matrix is symmetric, so tiles below its diagonal are never made.
"""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement
from textwrap import shorten
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from arguments import at_least, parser
from corpora import Gloss, load_glosses
from unitvec_client import Client
from waiting import waiting

BYTES_PER_SCORE = 5
"""A float32 cosine, and a byte that says whether it reaches the threshold."""

BAND_EDGES = (0.9999, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
MIB = 2**20

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]


class Pairs(NamedTuple):
    """Pairs of texts, each pair once.

    Attributes:
        left: (p,) index of the one text.
        right: (p,) index of the other, which is always higher.
        cosine: (p,) of the two.
    """

    left: Indices
    right: Indices
    cosine: Floats


def tile_edge(memory_bytes: int) -> int:
    """Returns how many texts a tile may have on a side to fit the memory."""
    return max(1, math.isqrt(memory_bytes // BYTES_PER_SCORE))


def find_pairs(vectors: Floats, *, threshold: float, edge: int) -> Pairs:
    """Returns all pairs whose cosine reaches the threshold, the most alike first.

    Takes edge * edge * BYTES_PER_SCORE bytes for one tile at a time, beside what it finds.

    Args:
        vectors: (n, D), of unit length.
        threshold: Lowest cosine of a pair.
        edge: Texts on a side of a tile.
    """
    columns = zip(*_search_tiles(vectors, threshold, edge), strict=True)
    left, right, cosine = (np.concatenate(column) for column in columns)
    order = np.lexsort((right, left, -cosine))
    return Pairs(left[order], right[order], cosine[order])


def find_groups(pairs: Pairs, count: int) -> list[Indices]:
    """Returns the texts that pairs connect, directly or by way of others; large groups first.

    Args:
        pairs: Of texts.
        count: How many texts there are.
    """
    edges = np.ones(len(pairs.left), dtype=np.int8)
    graph = coo_array((edges, (pairs.left, pairs.right)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    by_label = np.argsort(labels, kind="stable")
    components = np.split(by_label, np.cumsum(np.bincount(labels))[:-1])
    return sorted((texts for texts in components if len(texts) > 1), key=len, reverse=True)


def embed(target: str, texts: Sequence[str]) -> Floats:
    """Returns the vectors (n, D) of the texts, which arrive one by one over a stream.

    Raises:
        UnitvecError: If the stream breaks for good, or a text is refused.
    """
    vectors: list[NDArray[Any]] = []
    with Client(target) as client:
        for item in client.embed_stream(texts):
            if item.error is not None:
                raise item.error
            assert item.vector is not None
            vectors.append(item.vector)
    return np.stack(vectors)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the example and returns its exit status."""
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=at_least(2), default=20_000, help="how many texts")
    arguments.add_argument("--threshold", type=float, default=0.8, help="lowest cosine of a pair")
    arguments.add_argument("--tile-mib", type=float, default=16, help="memory of a tile, in MiB")
    options = arguments.parse_args(argv)
    glosses = load_glosses(options.count)
    print(f"Embedding {len(glosses):,} glosses of WordNet ...", flush=True)
    with waiting("embedding"):
        vectors = embed(options.target, [gloss.text for gloss in glosses])

    edge = min(tile_edge(int(options.tile_mib * MIB)), len(vectors))
    tracemalloc.start()
    pairs = find_pairs(vectors, threshold=options.threshold, edge=edge)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    _print_memory(len(vectors), edge, peak_bytes)
    _print_pairs(pairs, glosses, options.threshold)
    _print_groups(find_groups(pairs, len(glosses)), vectors, glosses)
    return 0


def _search_tiles(vectors: Floats, threshold: float, edge: int) -> Iterator[Pairs]:
    starts = range(0, len(vectors), edge)
    for top, left in combinations_with_replacement(starts, 2):
        found = _search(vectors[top : top + edge], vectors[left : left + edge], threshold)
        rows, columns = top + found.left, left + found.right
        # A tile on the diagonal holds each text with itself, and each pair twice.
        once = rows < columns
        yield Pairs(rows[once], columns[once], found.cosine[once])


def _search(a: Floats, b: Floats, threshold: float) -> Pairs:
    """Returns the pairs of one tile, which is gone when this returns."""
    cosines = a @ b.T
    rows, columns = np.nonzero(cosines >= threshold)
    return Pairs(rows, columns, cosines[rows, columns])


def _print_memory(count: int, edge: int, peak_bytes: int) -> None:
    sides = math.ceil(count / edge)
    print(
        f"\nMemory beside the {count:,} vectors\n"
        f"  the full matrix of cosines      {4 * count**2 / MIB:8.1f} MiB\n"
        f"  bound of a tile, {edge:5,} a side  {BYTES_PER_SCORE * edge**2 / MIB:8.1f} MiB\n"
        f"  measured peak, pairs included   {peak_bytes / MIB:8.1f} MiB, "
        f"in {sides * (sides + 1) // 2} tiles"
    )


def _print_pairs(pairs: Pairs, glosses: Sequence[Gloss], threshold: float) -> None:
    print(f"\n{len(pairs.left):,} pairs of cosine {threshold} and above")
    high = math.inf
    for low in (*(edge for edge in BAND_EDGES if edge > threshold), threshold):
        places = np.flatnonzero((pairs.cosine >= low) & (pairs.cosine < high))
        print(f"\n{_describe_band(low, high)}: {len(places):,} pairs")
        for place in places[:: max(1, len(places) // 3)][:3]:
            print(f"  {pairs.cosine[place]:.3f}  {_show(glosses[pairs.left[place]])}")
            print(f"         {_show(glosses[pairs.right[place]])}")
        high = low


def _describe_band(low: float, high: float) -> str:
    return f"cosine {low} and above" if high == math.inf else f"cosine {low} to {high}"


def _print_groups(groups: Sequence[Indices], vectors: Floats, glosses: Sequence[Gloss]) -> None:
    texts = sum(map(len, groups))
    print(f"\n{len(groups):,} groups of {texts:,} texts")
    print(f"Keeping one text of each group drops {texts - len(groups):,} texts.")
    for group in groups[:3]:
        lowest = (vectors[group] @ vectors[group].T).min()
        print(f"\na group of {len(group)}, whose least similar two have cosine {lowest:.3f}")
        for text in group[:4]:
            print(f"         {_show(glosses[text])}")
    print(
        "\nA group grows from neighbour to neighbour, so its far ends may be unlike. And texts that"
        "\ndiffer only in the one word that matters, such as left and right, come near 1 as well:"
        "\nread some pairs of a band before dropping what it holds."
    )


def _show(gloss: Gloss) -> str:
    return shorten(f"{gloss.words[0]}: {gloss.text}", 90, placeholder=" ...")


if __name__ == "__main__":
    raise SystemExit(main())
