"""What `docs/stores.md` says beside its tables."""

from __future__ import annotations

import re
from collections.abc import Iterator

import faiss
import numpy as np
import pytest

from tests.e2e.stores.page import PAGE
from tests.serving import Server
from unitvec_client import Client

pytestmark = pytest.mark.deep
TEXTS = [f"{number} apples and {number % 7} pears" for number in range(400)]


@pytest.fixture(scope="module")
def vectors(minilm_server: Server) -> np.ndarray:
    with Client(minilm_server.target) as client:
        return client.embed(TEXTS)


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
    [code] = re.findall(r"^lowest_first = .*$", PAGE.read_text("utf-8"), re.MULTILINE)
    names = {"np": np, "bits": np.packbits(vectors > 0, axis=1)}
    exec(code, names)
    expected = np.packbits(vectors > 0, axis=1, bitorder="little")
    np.testing.assert_array_equal(names["lowest_first"], expected)
