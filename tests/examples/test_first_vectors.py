"""First vectors: as sentence-transformers makes them, in every number type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from sklearn.metrics.pairwise import paired_cosine_distances

from corpora import load_glosses
from first_vectors import (
    SENTENCES,
    Size,
    as_numbers,
    constant_dimensions,
    count_bytes,
    draw_spread,
    main,
    measure_sizes,
    row_cosines,
)
from unitvec_client import Client, EmbedResult, Timings

TEXTS = [gloss.text for gloss in load_glosses(120)]


@pytest.fixture(scope="module")
def exact(client: Client) -> EmbedResult:
    return client.embed_result(TEXTS)


@pytest.fixture(scope="module")
def sizes(client: Client, exact: EmbedResult) -> dict[str, Size]:
    return measure_sizes(client, TEXTS, exact=exact)


def test_vectors_and_token_counts_are_those_of_the_reference(
    client: Client, reference_model: Any
) -> None:
    result = client.embed_result(SENTENCES)
    assert result.vectors.shape == (len(SENTENCES), 384)
    np.testing.assert_allclose(result.vectors, reference_model.encode(list(SENTENCES)), atol=1e-5)
    ids = reference_model.tokenizer(list(SENTENCES))["input_ids"]
    assert result.tokens.tolist() == [len(row) for row in ids]


def test_constant_dimensions_are_those_of_the_reference(
    exact: EmbedResult, reference_model: Any
) -> None:
    reference = reference_model.encode(TEXTS)
    still = constant_dimensions(exact.vectors)
    assert still.tolist() == np.flatnonzero(reference.std(axis=0) < 1e-6).tolist()
    assert len(still) > 0


@pytest.mark.parametrize(
    ("dtype", "bytes_per_vector"),
    [("float32", 384 * 4), ("float16", 384 * 2), ("int8", 384 + 4), ("binary", 384 / 8)],
)
def test_bytes_of_a_vector(sizes: dict[str, Size], dtype: str, bytes_per_vector: float) -> None:
    assert sizes[dtype].bytes_per_vector == bytes_per_vector


def test_fewer_bytes_are_less_true(sizes: dict[str, Size]) -> None:
    error = {name: 1 - size.cosines.astype(np.float64).mean() for name, size in sizes.items()}
    assert abs(error["float32"]) < 1e-6
    assert abs(error["float16"]) < 1e-6
    assert 1e-6 < error["int8"] < 1e-3
    # The cosine of normal values to their signs is sqrt(2 / pi).
    assert 1 - error["binary"] == pytest.approx(np.sqrt(2 / np.pi), abs=0.03)


def test_bits_are_the_signs_that_the_reference_takes(client: Client, exact: EmbedResult) -> None:
    from sentence_transformers import quantize_embeddings

    result = client.embed_result(TEXTS, dtype="binary")
    expected = np.unpackbits(quantize_embeddings(exact.vectors, "ubinary"), axis=1) * 2.0 - 1
    # Values next to zero have the sign of a rounding error.
    sure = np.abs(exact.vectors) > 1e-6
    np.testing.assert_array_equal(as_numbers(result, dim=384)[sure], expected[sure])


def test_bits_of_a_dimension_that_fills_no_byte() -> None:
    result = EmbedResult(
        vectors=np.array([[0b10100000]], np.uint8),
        scales=None,
        tokens=np.ones(1, np.uint32),
        truncated=(),
        model="",
        timings=Timings(),
    )
    assert as_numbers(result, dim=5).tolist() == [[1, -1, 1, -1, -1]]
    assert count_bytes(result) == 1


def test_row_cosines_are_those_of_scikit_learn() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 20, 7)).astype(np.float32)
    np.testing.assert_allclose(row_cosines(a, b), 1 - paired_cosine_distances(a, b), atol=1e-6)


def test_constant_dimensions() -> None:
    vectors = np.array([[1, 2, 3], [1, 5, 3 + 1e-7]], np.float32)
    assert constant_dimensions(vectors).tolist() == [0, 2]


def test_main_prints_and_draws(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--target", target, "--output", str(tmp_path), "--count", "60"]) == 0
    printed = capsys.readouterr().out
    assert "float32 (5, 384), model all-MiniLM-L6-v2" in printed
    assert "All 23,040 values of 60 glosses" in printed
    assert "The model reads 256 of them" in printed
    assert "its vector changes by 0.000000:" in printed
    assert imread(tmp_path / "first_vectors.png").shape[1] == pytest.approx(990, abs=30)


def test_a_short_text_is_read_whole(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--target", target, "--output", str(tmp_path), "--count", "3"])
    assert "The model reads them all." in capsys.readouterr().out


def test_other_values_make_another_picture(tmp_path: Path) -> None:
    made = []
    for scale in (1, 2):
        path = tmp_path / f"{scale}.png"
        draw_spread(np.random.default_rng(0).normal(0, scale / 20, (50, 384)), path)
        made.append(imread(path))
    assert not np.array_equal(*made)
