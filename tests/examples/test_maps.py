"""Maps keep neighbours as far as they can, say how far, and end up on a page of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpora import Gloss
from map_page import Atlas, Groups, Map, Neighbours, render
from maps import (
    CATEGORIES,
    SEED,
    categorize,
    choose,
    cluster,
    main,
    nearest,
    neighbours_kept,
    project,
)
from unitvec_client import Client

K = 10


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads of OpenMP wait for each other by spinning, which a busy machine pays for dearly."""
    import sklearn.manifold  # noqa: F401 - only libraries that are loaded can be limited
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def glosses() -> list[Gloss]:
    return choose(25)


@pytest.fixture(scope="module")
def vectors(client: Client, glosses: list[Gloss]) -> Any:
    return client.embed([gloss.text for gloss in glosses])


@pytest.fixture(scope="module")
def reference(reference_model: Any, glosses: list[Gloss]) -> Any:
    """Vectors by sentence-transformers."""
    return reference_model.encode([gloss.text for gloss in glosses])


def test_glosses_are_of_all_categories_alike(glosses: list[Gloss]) -> None:
    assert [gloss.category for gloss in glosses] == [c for c in CATEGORIES for _ in range(25)]


def test_neighbours_are_those_of_brute_force(vectors: Any) -> None:
    from sklearn.neighbors import NearestNeighbors

    truth = nearest(vectors, K)
    search = NearestNeighbors(n_neighbors=K, metric="cosine", algorithm="brute").fit(vectors)
    distances, indices = search.kneighbors()
    assert (truth.indices == indices).mean() > 0.99  # Ties may be told in another order.
    np.testing.assert_allclose(1 - truth.cosines, distances, atol=1e-5)


def test_nothing_is_its_own_neighbour() -> None:
    twins = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    truth = nearest(twins, 2)
    assert truth.indices.tolist() == [[1, 2], [0, 2], [0, 1]]
    assert twins[0] @ twins[1] == truth.cosines[0, 0]


@pytest.mark.parametrize("dims", [2, 3])
def test_pca_is_the_best_linear_map(vectors: Any, dims: int) -> None:
    centred = vectors - vectors.mean(axis=0)
    axes = np.linalg.svd(centred.astype(np.float64), full_matrices=False)[2][:dims]
    ours = project(vectors, "PCA", dims)
    np.testing.assert_allclose(np.abs(ours), np.abs(centred @ axes.T), atol=1e-3)


def test_tsne_is_that_of_scikit_learn_by_cosine(vectors: Any) -> None:
    from sklearn.manifold import TSNE
    from sklearn.metrics.pairwise import cosine_distances

    squared = 2 * cosine_distances(vectors.astype(np.float64)).clip(0)
    exact = TSNE(2, metric="precomputed", init="random", random_state=SEED)
    theirs = neighbours_kept(nearest(vectors, K), exact.fit_transform(np.sqrt(squared)))
    ours = neighbours_kept(nearest(vectors, K), project(vectors, "t-SNE", 2))
    assert ours == pytest.approx(theirs, abs=0.05)


def test_share_of_neighbours_kept() -> None:
    truth = Neighbours(np.array([[1], [0], [3], [2]]), np.ones((4, 1)))
    kept = np.array([[0.0, 0.0], [0.0, 1.0], [9.0, 0.0], [9.0, 1.0]])
    assert neighbours_kept(truth, kept) == 1
    assert neighbours_kept(truth, kept[[0, 2, 1, 3]]) == 0


def test_clusters_are_numbered_like_the_categories_they_fit(
    vectors: Any, glosses: list[Gloss]
) -> None:
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score

    categories = categorize(glosses)
    found = cluster(vectors, categories)
    theirs = KMeans(len(CATEGORIES), n_init=10, random_state=SEED).fit_predict(vectors)
    assert adjusted_rand_score(theirs, found.numbers) == 1
    assert (found.numbers == categories.numbers).mean() > 0.6
    members = categories.numbers[found.numbers == 0]
    share = (members == np.bincount(members).argmax()).mean()
    assert found.names[0] == f"1 ({share:.0%} {CATEGORIES[np.bincount(members).argmax()]})"


# umap says so at import of a part that is not used here.
@pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")
def test_the_program_tells_how_faithful_the_maps_are(
    target: str, reference: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--target", target, "--output", str(tmp_path), "--per-category", "25"]) == 0
    told = capsys.readouterr().out
    rows = re.findall(r"^ +(\S+) ([23])-D +([\d.]+) +([\d.]+)%$", told, re.MULTILINE)
    trust = {(method, int(dims)): float(value) for method, dims, value, _ in rows}
    kept = {(method, int(dims)): float(value) / 100 for method, dims, _, value in rows}
    for dims in (2, 3):
        assert trust["PCA", dims] > 0.7
        assert trust["t-SNE", dims] > 0.85
        assert trust["UMAP", dims] > 0.85
        assert kept["UMAP", dims] > kept["PCA", dims] > 1.5 * kept["random", 2]
    assert trust["random", 2] == pytest.approx(0.5, abs=0.05)
    assert str(tmp_path / "maps.html") in told
    shown = _Elements((tmp_path / "maps.html").read_text("utf-8")).data()
    assert _claims(shown) == {key: (trust[key], kept[key]) for key in trust if key[0] != "random"}
    for each in shown["maps"]:
        faithful = _faithfulness(reference, np.transpose(each["axes"]))
        assert (each["trustworthiness"], each["kept"]) == pytest.approx(faithful, abs=5e-3)
    from umap import UMAP

    for dims in (2, 3):
        theirs = UMAP(n_components=dims, metric="cosine", random_state=SEED, n_jobs=1)
        trusted, near = _faithfulness(reference, theirs.fit_transform(reference))
        # UMAP makes another map of vectors that differ in the last digit, but as good a one.
        assert trust["UMAP", dims] == pytest.approx(trusted, abs=0.01)
        assert kept["UMAP", dims] == pytest.approx(near, abs=0.05)


def _faithfulness(vectors: Any, points: Any) -> tuple[float, float]:
    """Trustworthiness of a map, and the share of true neighbours that it keeps."""
    from scipy.spatial.distance import cdist
    from sklearn.manifold import trustworthiness

    # The first of each row is the text itself.
    true = cdist(vectors, vectors, "cosine").argsort(axis=1)[:, 1 : K + 1]
    near = cdist(points, points).argsort(axis=1)[:, 1 : K + 1]
    common = [len({*a} & {*b}) for a, b in zip(true.tolist(), near.tolist(), strict=True)]
    trust = trustworthiness(vectors, points, n_neighbors=K, metric="cosine")
    return float(trust), sum(common) / true.size


def _claims(shown: Any) -> dict[tuple[str, int], tuple[float, float]]:
    return {
        (each["method"], each["dims"]): (
            round(each["trustworthiness"], 3),
            pytest.approx(each["kept"], abs=1e-3),
        )
        for each in shown["maps"]
    }


HOSTILE = (
    "</script><script>alert(1)</script><!-- <img src='https://a.example/x' onerror=alert(2)> $code"
)


def _atlas(text: str, count: int = 4) -> Atlas:
    glosses = [Gloss(str(i), (text,), "animal", text) for i in range(count)]
    truth = Neighbours(np.arange(count)[::-1, None], np.ones((count, 1)))
    groups = Groups(np.zeros(count, dtype=int), (text,))
    maps = [Map("UMAP", np.arange(2.0 * count).reshape(count, 2), 1.0, 1.0)]
    return Atlas(glosses, 384, truth, {"category": groups, "cluster": groups}, maps)


class _Elements(HTMLParser):
    """What a browser finds in a page: tags with their attributes, and what scripts hold."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data

    def data(self) -> Any:
        return json.loads(self.scripts[0])


def test_hostile_texts_add_nothing_to_the_page() -> None:
    tame, hostile = _Elements(render(_atlas("a"))), _Elements(render(_atlas(HOSTILE)))
    assert hostile.tags == tame.tags
    assert hostile.scripts[1:] == tame.scripts[1:]
    assert hostile.data()["texts"] == [HOSTILE] * 4
    assert hostile.data()["groups"]["category"]["names"] == [HOSTILE]


def test_page_asks_the_browser_for_nothing_else() -> None:
    found = _Elements(render(_atlas("a")))
    assert [tag for tag, _ in found.tags].count("script") == 3
    assert not [tag for tag, _ in found.tags if tag in {"link", "img", "iframe", "object"}]
    assert not [attrs for _, attrs in found.tags if {"src", "href", "action"} & attrs.keys()]
    policy = next(
        attrs["content"] for tag, attrs in found.tags if tag == "meta" and "content" in attrs
    )
    assert policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy


def test_page_is_bounded() -> None:
    with pytest.raises(ValueError, match="the page would take"):
        render(_atlas("a" * 2**20, count=8))
