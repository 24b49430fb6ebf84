"""`docs/stores.md` says what the stores do with vectors of a live server."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest

from tests.e2e.stores import page
from tests.e2e.stores.making import ENVIRONMENTS, MODULES, OWN_ENVIRONMENT, observe, sampled
from tests.e2e.stores.store import Sample

PAGE = page.PAGE.read_text("utf-8")
OVERLAP_TOLERANCE = 0.03
"""Of graphs, which threads build in any order, and of vectors whose last bits differ."""

pytestmark = pytest.mark.deep


@pytest.fixture(scope="module")
def folder(minilm_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A sample, while its server lives."""
    made = tmp_path_factory.mktemp("sample")
    with sampled(minilm_artifact, made):
        yield made


@pytest.fixture(scope="module")
def vectors(folder: Path) -> np.ndarray:
    """400 of float32."""
    return Sample.load(folder).rows["float32"]


@pytest.mark.parametrize("module", MODULES)
def test_the_page_says_what_is_so(module: str, folder: Path) -> None:
    """Else run `python -m tests.e2e.stores.page`, and read what changed."""
    if ENVIRONMENTS.get(module) == OWN_ENVIRONMENT and shutil.which("c++") is None:
        pytest.skip("hnswlib and annoy want a C++ compiler")
    found = observe(module, folder)
    for table in page.TABLES:
        if module not in table.modules:
            continue
        told = table.read(PAGE)
        for title, cells in found.items():
            shown = {name: cells.get(name, "") for name in table.columns}
            _round(shown, told[title])
            assert shown == told[title], title


def test_the_page_has_the_lines_that_run_here() -> None:
    """Else run `python -m tests.e2e.stores.page`."""
    assert page.between(PAGE, "recipes") == "".join(page.recipes())


def _round(shown: dict[str, str], told: dict[str, str]) -> None:
    """Takes an overlap as it is told, where it is about that."""
    if (
        "overlap" in shown
        and abs(float(shown["overlap"]) - float(told["overlap"])) <= OVERLAP_TOLERANCE
    ):
        shown["overlap"] = told["overlap"]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads would add to a graph in any order."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(threads)


def test_faiss_flat_is_exact_to_the_last_bit_in_small_searches_alone(vectors: np.ndarray) -> None:
    """Distances of vectors to themselves are 0, or what is left of differences of squares."""
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    few = 128_000 // vectors.shape[1]
    assert (index.search(vectors[:few], 1)[0] == 0).all()
    many = index.search(vectors, 1)[0]
    assert (many != 0).any()
    assert many.max() < 1e-5


def test_graphs_of_faiss_depend_on_the_calls_of_add(vectors: np.ndarray, one_thread: None) -> None:
    def neighbours(*parts: np.ndarray) -> np.ndarray:
        index = faiss.IndexHNSWFlat(vectors.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
        for part in parts:
            index.add(part)
        return np.asarray(faiss.vector_to_array(index.hnsw.neighbors))

    assert np.array_equal(neighbours(vectors), neighbours(vectors))
    assert not np.array_equal(neighbours(vectors), neighbours(*np.split(vectors, 4)))


def test_the_recipe_turns_the_order_of_bits(vectors: np.ndarray) -> None:
    [code] = re.findall(r"^lowest_first = .*$", PAGE, re.MULTILINE)
    names = {"np": np, "bits": np.packbits(vectors > 0, axis=1)}
    exec(code, names)
    expected = np.packbits(vectors > 0, axis=1, bitorder="little")
    np.testing.assert_array_equal(names["lowest_first"], expected)
