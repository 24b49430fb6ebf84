"""Figures of quality against cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from bench.quality import Matrix, compare, equal_rows, max_abs_diff, top_k_overlap

RNG = np.random.default_rng(0)


def matrix(rows: int) -> Matrix:
    return RNG.normal(size=(rows, 16)).astype(np.float32)


def test_equal_vectors_have_cosine_one_whatever_their_length() -> None:
    vectors = matrix(50)
    assert compare(3 * vectors, vectors) == pytest.approx((1, 1, 1))


def test_one_bad_vector_shows_in_the_minimum() -> None:
    reference = matrix(200)
    vectors = reference.copy()
    vectors[7] *= -1
    cosines = compare(vectors, reference)
    assert cosines.min == pytest.approx(-1)
    assert cosines.p1 == pytest.approx(1)
    assert cosines.mean == pytest.approx(1 - 2 / 200)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    vectors = matrix(4)
    vectors[0, 0] = value
    with pytest.raises(ValueError, match="not finite"):
        compare(vectors, matrix(4))


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="the reference"):
        compare(matrix(3), matrix(4))


def test_overlap_is_one_for_the_same_and_counts_what_is_missing() -> None:
    queries, documents = np.eye(1, 16, dtype=np.float32), matrix(40)
    documents[:, 0] = np.linspace(5, 1, 40)  # ranked by index
    documents[:, 1:] = 0.1
    expected = (queries, documents)
    assert top_k_overlap(expected, expected) == 1
    moved = documents.copy()
    moved[:3] *= -1  # three of the best ten leave
    assert top_k_overlap((queries, moved), expected) == pytest.approx(0.7)


def test_fewer_documents_than_ten() -> None:
    vectors = (matrix(2), matrix(3))
    assert top_k_overlap(vectors, vectors) == 1


def test_largest_difference() -> None:
    vectors = matrix(5)
    others = vectors.copy()
    others[3, 2] += 0.5
    assert max_abs_diff(vectors, others) == pytest.approx(0.5)


def test_one_changed_bit_makes_a_row_another() -> None:
    vectors = matrix(5)
    others = vectors.copy()
    others[3, 2] = np.nextafter(others[3, 2], np.float32(np.inf))
    assert (equal_rows(vectors, vectors), equal_rows(vectors, others)) == (5, 4)
