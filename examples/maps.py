"""Draw maps of meaning, PCA, t-SNE and UMAP in 2-D and 3-D, as one interactive page.

A map squeezes 384 dimensions into two or three, and loses something. So the program says how
faithful each map is, and on the page a click on a text shows its true nearest neighbours, those
of the full vectors, wherever the map has put them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arguments import at_least, output_file, parser
from corpora import Gloss, load_glosses
from map_page import Atlas, Groups, Map, Neighbours, render
from map_server import MapServer
from unitvec_client import Client
from waiting import waiting

CATEGORIES = ("animal", "plant", "food", "body", "feeling", "time", "location", "possession")
METHODS = ("PCA", "t-SNE", "UMAP")
SEED = 0

Floats = NDArray[np.floating[Any]]


def choose(per_category: int) -> list[Gloss]:
    """Returns at most so many glosses of each of CATEGORIES, the most common senses."""
    return [
        gloss for name in CATEGORIES for gloss in load_glosses(per_category, categories=(name,))
    ]


def nearest(vectors: Floats, count: int) -> Neighbours:
    """Returns the true nearest neighbours of each vector, by cosine in all dimensions.

    Args:
        vectors: (n, D), of unit length.
        count: How many of each, below n.
    """
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    indices = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
    return Neighbours(indices, np.take_along_axis(cosines, indices, axis=1))


def project(vectors: Floats, method: str, dims: int) -> Floats:
    """Returns the vectors (n, D) as points (n, dims) of a map.

    Args:
        vectors: (n, D), n above 30 (t-SNE's perplexity), of unit length.
        method: One of METHODS.
        dims: 2 or 3.
    """
    if method == "UMAP":
        return _umap(vectors, dims)
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if method == "PCA":
        return np.asarray(PCA(dims, random_state=SEED).fit_transform(vectors))
    # Squared Euclidean distances of unit vectors, which t-SNE uses, are 2 - 2 cosine.
    return np.asarray(TSNE(dims, init="pca", random_state=SEED).fit_transform(vectors))


def _umap(vectors: Floats, dims: int) -> Floats:
    from umap import UMAP

    # A seed makes UMAP run on one thread; asking for one keeps it from warning of that.
    model = UMAP(n_components=dims, metric="cosine", random_state=SEED, n_jobs=1)
    return np.asarray(model.fit_transform(vectors))


def neighbours_kept(truth: Neighbours, points: Floats) -> float:
    """Returns the share of true neighbours that are also among the nearest in a map.

    Args:
        truth: k neighbours of each of n texts.
        points: (n, 2) or (n, 3), the map.
    """
    from sklearn.neighbors import NearestNeighbors

    count = truth.indices.shape[1]
    found = NearestNeighbors(n_neighbors=count).fit(points).kneighbors(return_distance=False)
    common = [np.intersect1d(a, b).size for a, b in zip(truth.indices, found, strict=True)]
    return float(np.sum(common) / truth.indices.size)


def judge(vectors: Floats, method: str, points: Floats, truth: Neighbours) -> Map:
    """Returns the map with how faithful it is.

    Args:
        vectors: (n, D), of unit length.
        method: What has made the map.
        points: (n, 2) or (n, 3), the map.
        truth: Neighbours of the vectors.
    """
    from sklearn.manifold import trustworthiness

    count = truth.indices.shape[1]
    trust = trustworthiness(vectors, points, n_neighbors=count, metric="cosine")
    return Map(method, points, float(trust), neighbours_kept(truth, points))


def categorize(glosses: Sequence[Gloss]) -> Groups:
    """Returns the groups that WordNet puts the glosses in, numbered as in CATEGORIES."""
    return Groups(np.array([CATEGORIES.index(gloss.category) for gloss in glosses]), CATEGORIES)


def cluster(vectors: Floats, categories: Groups) -> Groups:
    """Returns the groups that k-means finds, as many as there are categories.

    Each is numbered like the category it fits best, so that both have the same colour on the
    page, and named by the category that most of its texts have.

    Args:
        vectors: (n, D), which are all that k-means sees.
        categories: Of the n texts.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.cluster import KMeans

    size = len(categories.names)
    found = KMeans(size, n_init=10, random_state=SEED).fit_predict(vectors)
    common = np.zeros((size, size), dtype=int)
    np.add.at(common, (found, categories.numbers), 1)
    numbers = linear_sum_assignment(common, maximize=True)[1]
    rows = common[np.argsort(numbers)]
    most = [(row.max() / row.sum(), categories.names[row.argmax()]) for row in rows]
    names = tuple(f"{i} ({share:.0%} {name})" for i, (share, name) in enumerate(most, start=1))
    return Groups(numbers[found], names)


def explore(glosses: Sequence[Gloss], vectors: Floats, neighbours: int) -> Atlas:
    """Returns the texts with their neighbours, groups and maps; prints a line for each map.

    Args:
        glosses: The n texts.
        vectors: (n, D), of unit length.
        neighbours: How many of each text to tell.
    """
    truth = nearest(vectors, neighbours)
    categories = categorize(glosses)
    groups = {"category": categories, "cluster": cluster(vectors, categories)}
    print(f"  {'map':<12} {'trustworthiness':>15} {f'true {neighbours} nearest kept':>24}")
    drawn = (
        judge(vectors, method, project(vectors, method, dims), truth)
        for method, dims in product(METHODS, (2, 3))
    )
    maps = [_told(each) for each in drawn]
    _told(judge(vectors, "random", np.random.default_rng(SEED).random((len(vectors), 2)), truth))
    return Atlas(glosses, vectors.shape[1], truth, groups, maps)


def _told(one: Map) -> Map:
    title = f"{one.method} {one.dims}-D"
    print(f"  {title:<12} {one.trustworthiness:>15.3f} {one.kept:>24.1%}", flush=True)
    return one


def main(argv: Sequence[str] | None = None) -> int:
    """Embeds, draws, prints how faithful the maps are and writes the page."""
    options = parser(__doc__)
    options.add_argument(
        "--per-category", type=at_least(5), default=200, help="texts of each category, 5 or more"
    )
    options.add_argument(
        "--neighbours", type=at_least(1), default=10, help="how many a click shows"
    )
    options.add_argument(
        "--port", type=at_least(1), help="serve the page here, where its search finds by meaning"
    )
    args = options.parse_args(argv)
    glosses = choose(args.per_category)
    if 2 * args.neighbours >= len(glosses):
        options.error(f"--neighbours must be below half of the {len(glosses):,} texts")
    with Client(args.target) as client:
        with waiting("embedding"):
            vectors = client.embed([gloss.text for gloss in glosses])
        print(f"{len(glosses):,} glosses of {', '.join(CATEGORIES)}\n")
        page = render(explore(glosses, vectors, args.neighbours))
        path = output_file(args.output, "maps.html")
        path.write_text(page, encoding="utf-8", newline="\n")
        size = f"{path.stat().st_size / 2**20:.1f} MiB"
        print(f"\nOpen {path} ({size}) in a browser; it needs no network.")
        if args.port is not None:
            with MapServer(args.port, page, vectors, client) as server:
                print(f"Or search it by meaning: {server.url}  (Ctrl+C ends)", flush=True)
                server.serve_until_interrupted()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
