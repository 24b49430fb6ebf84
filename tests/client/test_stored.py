"""Search over stored vectors, against a search that scores and sorts all rows at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import unitvec_client as uv
from unitvec_client.stored import ranking, rows
from unitvec_client.stored.files import open_rows
from unitvec_client.stored.ranking import rank
from unitvec_client.stored.rows import ArrayRows
from unitvec_client.stored.search import StoredSearch

DIM = 16


def unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return np.asarray(vectors / np.where(norms > 0, norms, 1))


def whole(values: np.ndarray, query: np.ndarray, top_k: int) -> list[int]:
    """The rows with the best cosines, in order; equal ones by index, those not finite left out."""
    scores = unit(values.astype(np.float64)) @ unit(query[None].astype(np.float64))[0]
    usable = [row for row in range(len(values)) if np.isfinite(values[row]).all()]
    return sorted(usable, key=lambda row: (-round(scores[row], 5), row))[:top_k]


def found(stored: Any, query: np.ndarray, **options: Any) -> list[int]:
    [hits] = StoredSearch(stored, **options).run(query[None])
    return [hit.index for hit in hits]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a few rows have several blocks."""
    monkeypatch.setattr(rows, "BLOCK_VALUES", 7 * DIM)
    monkeypatch.setattr(ranking, "BLOCK_VALUES", 7 * DIM)


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 40),
    top_k=st.integers(1, 50),
    dtype=st.sampled_from(["float32", "float16", "float64", "int8"]),
    bad=st.sets(st.integers(0, 39)),
)
def test_it_is_exact(seed: int, count: int, top_k: int, dtype: str, bad: set[int]) -> None:
    """For every type, number of rows and k, with rows of NaN, of infinity and of zeros."""
    generator = np.random.default_rng(seed)
    values = generator.integers(-3, 4, (count, DIM)).astype(dtype)
    for row in (row for row in bad if row < count):
        values[row] = 0 if dtype == "int8" or row % 3 == 0 else (np.nan, np.inf)[row % 2]
    query = generator.integers(-3, 4, DIM).astype(np.float32)
    [best] = rank(ArrayRows(values), query[None], top_k=top_k, metric="cosine")
    scores = unit(values.astype(np.float64)) @ unit(query[None].astype(np.float64))[0]
    wanted = whole(values, query, top_k)
    assert len(best.indices) == len(wanted)
    np.testing.assert_allclose(best.scores, scores[wanted], atol=1e-5)
    np.testing.assert_allclose(best.scores, scores[best.indices], atol=1e-5)
    assert len(set(best.indices.tolist())) == len(best.indices)


@pytest.mark.parametrize("count", [2, ranking._FEW, ranking._FEW + 1, 3 * ranking._FEW])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_queries_together_find_what_each_finds_alone(count: int, dtype: str) -> None:
    generator = np.random.default_rng(count)
    stored = ArrayRows(generator.integers(-9, 10, (40, DIM)).astype(dtype))
    queries = generator.integers(-9, 10, (count, DIM)).astype(np.float32)
    together = rank(stored, queries, top_k=5, metric="cosine")
    for query, best in zip(queries, together, strict=True):
        [alone] = rank(stored, query[None], top_k=5, metric="cosine")
        np.testing.assert_allclose(best.scores, alone.scores, atol=1e-5)
        assert set(best.indices) == set(alone.indices)


def test_no_queries_have_no_hits() -> None:
    stored = StoredSearch(open_rows(np.eye(3, DIM, dtype=np.float32)))
    assert stored.run(np.empty((0, DIM), np.float32)) == []


def test_equal_scores_rank_by_index() -> None:
    values = np.tile(np.eye(DIM, dtype=np.float32)[:2], (20, 1))
    assert found(ArrayRows(values), values[0], top_k=25) == [*range(0, 40, 2), 1, 3, 5, 7, 9]


@given(seed=st.integers(0, 2**32 - 1), top_k=st.integers(1, 9))
def test_groups_count_by_their_best_row(seed: int, top_k: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((60, DIM)).astype(np.float32)
    groups = generator.integers(0, 12, 60).tolist()
    query = generator.standard_normal(DIM).astype(np.float32)
    best: dict[int, int] = {}
    for row in whole(values, query, 60):
        best.setdefault(groups[row], row)

    class Grouped(ArrayRows):
        def blocks(self, group_by: str | None, most_rows: int | None = None) -> Any:
            for block in super().blocks(None, most_rows):
                keys = groups[block.start : block.start + len(block.values)]
                yield rows.Block(block.start, block.values, keys)

    [result] = rank(Grouped(values), query[None], top_k=top_k, metric="cosine", group_by="line")
    assert result.indices.tolist() == list(best.values())[:top_k]


def test_signs_are_ranked_again() -> None:
    """By the values of the query; rows of zeros, as those that failed are stored, are no hits."""
    generator = np.random.default_rng(5)
    vectors = generator.standard_normal((500, 64)).astype(np.float32)
    packed = np.packbits(vectors > 0, axis=1)
    packed[3] = 0
    query = generator.standard_normal(64).astype(np.float32)
    [best] = rank(ArrayRows(packed), query[None], top_k=5, metric="cosine")
    signs = np.where(vectors > 0, 1.0, -1.0)
    scores = signs @ (query / np.linalg.norm(query)) / 8
    scores[3] = -2
    np.testing.assert_allclose(best.scores, scores[best.indices], atol=1e-5)
    assert best.indices[0] == scores.argmax()


def write_npy(folder: Path, values: np.ndarray) -> Path:
    np.save(folder / "v.npy", values)
    return folder / "v.npy"


def write_records(folder: Path, values: np.ndarray) -> Path:
    kind = np.dtype([("line", "<u4"), ("vector", values.dtype, (DIM,))])
    records = np.zeros(len(values), kind)
    records["line"], records["vector"] = np.arange(len(values)) // 2, values
    return write_npy(folder, records)


def write_parquet(folder: Path, values: np.ndarray) -> Path:
    vectors = [None if np.isnan(row).any() else row.tolist() for row in values]
    kind = pa.list_(pa.float32(), DIM)
    lines = [row // 2 for row in range(len(values))]
    table = pa.table({"line": lines, "vector": pa.array(vectors, kind)})
    pq.write_table(table, folder / "v.parquet", row_group_size=9)
    return folder / "v.parquet"


def write_jsonl(folder: Path, values: np.ndarray) -> Path:
    lines = [
        {"line": row // 2, "error": "no"}
        if np.isnan(vector).any()
        else {"line": row // 2, "text": f"text {row}", "vector": vector.tolist()}
        for row, vector in enumerate(values)
    ]
    path = folder / "v.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


Write = Callable[[Path, np.ndarray], Path]
GROUPED: list[Write] = [write_records, write_parquet, write_jsonl]
ALL = [write_npy, *GROUPED]


@pytest.fixture
def values() -> np.ndarray:
    """Vectors, the fourth of which is missing."""
    values = np.random.default_rng(1).standard_normal((50, DIM)).astype(np.float32)
    values[3] = np.nan
    return values


@pytest.mark.parametrize("write", ALL)
def test_every_format_has_the_same_hits(write: Write, tmp_path: Path, values: np.ndarray) -> None:
    stored = open_rows(write(tmp_path, values))
    assert found(stored, values[7], top_k=60) == whole(values, values[7], 60)


@pytest.mark.parametrize("write", GROUPED)
def test_windows_of_a_text_are_one_hit(write: Write, tmp_path: Path, values: np.ndarray) -> None:
    search = StoredSearch(open_rows(write(tmp_path, values)), 30, group_by="line")
    [hits] = search.run(values[7:8])
    lines = [hit.fields["line"] for hit in hits]
    assert sorted(lines) == list(range(25))
    best: dict[int, int] = {}
    for row in whole(values, values[7], 60):
        best.setdefault(row // 2, row)
    assert [hit.index for hit in hits] == list(best.values())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("write", ALL)
def test_files_that_are_cut_are_refused(write: Write, tmp_path: Path, values: np.ndarray) -> None:
    path = write(tmp_path, values)
    cut(path)
    with pytest.raises(uv.InputError, match=r"v\.(npy|parquet|jsonl)"):
        found(open_rows(path), values[7])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.npy", b"no", "is no .npy file"),
        ("a.parquet", b"no", "is no Parquet file"),
        ("a.parquet", b"PAR1" + b"\x15" * 99 + b"\x32\0\0\0PAR1", "is no Parquet file"),
        ("a.jsonl", b"no", "line 1 is no JSON"),
        ("a.jsonl", b'{"vector": [1, 2]}\n\n{"vector"', "line 3 is no JSON"),
        ("a.jsonl", b"\xff", "line 1 is no JSON"),
        ("a.jsonl", b"[" * 100_000, "line 1 is no JSON"),
        ("a.jsonl", b'{"vector": [1, ' + b"9" * 400 + b"]}", "no list of numbers"),
        ("a.jsonl", b'{"text": "a"}\n', "line 1 has no vector"),
        ("a.jsonl", b'{"vector": [1, "a"]}\n', "no list of numbers"),
        ("a.jsonl", b'{"vector": [1]}\n{"vector": [1, 2]}\n', "row 1 has 2 dimensions, not 1"),
        ("a.txt", b"no", "are read from .npy, .parquet and .jsonl"),
    ],
)
def test_what_is_no_file_of_vectors(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(uv.InputError, match=said):
        found(open_rows(path), np.ones(2, np.float32))


def test_parquet_of_vectors_alone(tmp_path: Path) -> None:
    """Without another column there is nothing to tell of a row but its index."""
    path = tmp_path / "v.parquet"
    vectors = np.eye(3, 4, dtype=np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 4)
    pq.write_table(pa.table({"vector": column}), path)
    [hits] = StoredSearch(open_rows(path)).run(vectors[1:2])
    assert (hits[0].index, hits[0].text, hits[0].fields) == (1, None, {})


@pytest.mark.parametrize("about", [b"[]", b"{bad", b"\xff"])
def test_parquet_whose_metadata_are_of_others(tmp_path: Path, about: bytes) -> None:
    path = tmp_path / "v.parquet"
    column = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(4, np.float32)), 4)
    table = pa.table({"vector": column}).replace_schema_metadata({"unitvec": about})
    pq.write_table(table, path)
    with pytest.raises(uv.InputError, match="the metadata unitvec are no JSON"):
        open_rows(path)


def test_arrays_that_are_no_vectors(tmp_path: Path) -> None:
    for array in (np.zeros(4), np.zeros((2, 2, 2)), np.zeros((2, 2), np.int64)):
        with pytest.raises(uv.InputError):
            open_rows(write_npy(tmp_path, array))
    with pytest.raises(uv.InputError, match="Fortran"):
        open_rows(write_npy(tmp_path, np.asfortranarray(np.ones((3, 2), np.float32))))
    with pytest.raises(uv.InputTypeError):
        open_rows(3)  # type: ignore[arg-type]


def test_parquet_of_int8_is_compared_with_its_scales(tmp_path: Path) -> None:
    """Which `unitvec embed` writes beside: so dot products can be had, and rows have lengths."""
    generator = np.random.default_rng(1)
    codes = generator.integers(-127, 128, (20, DIM)).astype(np.int8)
    scales = generator.uniform(0.001, 0.1, 20).astype(np.float32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(codes.reshape(-1)), DIM)
    columns = {"vector": lists, "line": [*range(20)], "scale": scales}
    pq.write_table(pa.table(columns), tmp_path / "v.parquet")
    stored, query = open_rows(tmp_path / "v.parquet"), generator.standard_normal(DIM).astype("f4")
    expected = np.argsort(-(codes * scales[:, None]) @ query).tolist()
    assert found(stored, query, metric="dot", top_k=20) == expected
    assert found(stored, query, metric="dot", top_k=20, group_by="line") == expected
    assert found(stored, query, top_k=20) == whole(codes, query, 20)


def test_wrong_options(values: np.ndarray) -> None:
    stored = ArrayRows(values)
    for options in ({"top_k": 0}, {"metric": "euclidean"}):
        with pytest.raises(uv.InputError):
            StoredSearch(stored, **options)
    with pytest.raises(uv.InputError, match="16 dimensions, the queries have 8"):
        found(stored, values[0, :8])
    with pytest.raises(uv.InputError, match="without scales"):
        found(ArrayRows(np.ones((2, DIM), np.int8)), values[0], metric="dot")
    with pytest.raises(uv.InputError, match="group by"):
        found(stored, values[0], group_by="line")
    with pytest.raises(uv.InputError, match="finite"):
        found(stored, values[3])
