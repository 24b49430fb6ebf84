"""What is checked and measured before the first caller."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitvec_server.errors import ArtifactError
from unitvec_server.model.warmup import choose_width, measure_batch_tokens, warm_up

WIDTHS = (128, 256, 512)


@pytest.mark.parametrize(
    ("rates", "width"),
    [
        pytest.param([[100, 100], [100, 100], [100, 100]], 128, id="all alike: the narrowest"),
        pytest.param([[98, 98], [100, 100], [99, 99]], 128, id="near the best"),
        pytest.param([[80, 80], [100, 100], [101, 101]], 256, id="the narrowest near the best"),
        pytest.param([[50, 50], [80, 80], [100, 100]], 512, id="wide pays"),
        pytest.param([[100, 50], [90, 95], [70, 100]], 256, id="good at both lengths"),
    ],
)
def test_width(rates: list[list[float]], width: int) -> None:
    assert choose_width(WIDTHS, np.array(rates)) == width


@given(st.lists(st.lists(st.floats(1, 1e6), min_size=2, max_size=2), min_size=3, max_size=3))
def test_never_far_from_the_best(rates: list[list[float]]) -> None:
    """Whatever is measured, the choice is within 3 % of the best on average."""
    array = np.array(rates)
    relative = (array / array.max(axis=0)).mean(axis=1)
    assert relative[WIDTHS.index(choose_width(WIDTHS, array))] >= 0.97 * relative.max()


class Graph:
    """An encoder that notes its runs and returns what it is told to."""

    dim = 4

    def __init__(self, value: float = 1.0, dim: int = 4) -> None:
        self._row = np.full(dim, value, np.float32)
        self.runs: list[tuple[int, int]] = []

    def encode(self, rows: list[np.ndarray]) -> np.ndarray:
        self.runs.append((len(rows), len(rows[0])))
        return np.stack([self._row] * len(rows))


def test_warm_up_runs_short_and_longest_texts_within_the_width() -> None:
    length, s_per_token = warm_up(graph := Graph(), max_seq_length=256, max_batch_tokens=512)
    assert length == 256
    assert s_per_token > 0
    assert [length for _, length in graph.runs] == [2, 16, 64, 256]
    assert all(count * length <= 512 for count, length in graph.runs)


@pytest.mark.parametrize(
    "graph", [Graph(np.nan), Graph(np.inf), Graph(dim=3)], ids=["NaN", "infinity", "shape"]
)
def test_a_graph_that_returns_rubbish_ends_the_start(graph: Graph) -> None:
    with pytest.raises(ArtifactError, match="export it again"):
        warm_up(graph, max_seq_length=8, max_batch_tokens=64)


def test_measuring_tries_all_widths_and_chooses_one() -> None:
    graph = Graph()
    width = measure_batch_tokens(graph, max_seq_length=32, workers=2, candidates=WIDTHS)
    assert width in WIDTHS
    assert {count * length for count, length in graph.runs} == set(WIDTHS)
