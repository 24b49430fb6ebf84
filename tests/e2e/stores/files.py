"""Files that `unitvec embed` wrote, read by pyarrow, Polars, DuckDB, datasets and numpy."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.e2e.stores.store import Sample

DtypeName = Literal["float32", "float16", "int8", "binary"]
DTYPES: tuple[DtypeName, ...] = ("float32", "float16", "int8", "binary")
FAILED_ROW = 1
"""The second line of the input has no text."""


class Column(NamedTuple):
    """What a reader has of the column ``vector``.

    Attributes:
        kind: Its own name of the type.
        rows: The vectors, without the row that failed.
        failed: What it has in the place of the row that failed.
    """

    kind: str
    rows: NDArray[Any]
    failed: Any


def read_pyarrow(path: Path) -> Column:
    import pyarrow.parquet as pq

    column = pq.read_table(path)["vector"].combine_chunks()
    rows = column.flatten().to_numpy().reshape(-1, column.type.list_size)
    return Column(str(column.type), rows, column[FAILED_ROW].as_py())


def read_polars(path: Path) -> Column:
    import polars as pl

    column = pl.read_parquet(path)["vector"]
    return Column(str(column.dtype), column.drop_nulls().to_numpy(), column[FAILED_ROW])


def read_duckdb(path: Path) -> Column:
    import duckdb

    with duckdb.connect() as connection:
        lists = connection.execute(f"SELECT vector FROM '{path}'")
        kind, values = str(lists.description[0][1]), lists.fetchall()
        array = kind.replace("[]", f"[{len(values[0][0])}]")
        arrays = connection.execute(f"SELECT vector::{array} AS vector FROM '{path}'")
        rows = arrays.fetchnumpy()["vector"]
    return Column(kind, np.stack(np.ma.compressed(rows)), values[FAILED_ROW][0])


def read_datasets(path: Path) -> Column:
    import datasets

    datasets.disable_progress_bars()
    found = datasets.Dataset.from_parquet(str(path), cache_dir=str(path.parent / "cache"))
    feature = found.features["vector"]
    good = found.filter(lambda vector: vector is not None, input_columns="vector")
    rows = good.with_format("numpy")["vector"][:]
    kind = f"List({feature.feature.dtype}, {feature.length})"
    return Column(kind, np.asarray(rows), found[FAILED_ROW]["vector"])


def read_numpy(path: Path) -> Column:
    rows = np.load(path.with_suffix(".npy"))
    failed = rows[FAILED_ROW]
    shown = "NaN" if np.isnan(failed.astype(np.float64)).all() else str(failed.max())
    return Column(str(rows.dtype), np.delete(rows, FAILED_ROW, axis=0), shown)


READERS: dict[str, tuple[str, Callable[[Path], Column]]] = {
    "Parquet, pyarrow": ("pyarrow", read_pyarrow),
    "Parquet, Polars": ("polars", read_polars),
    "Parquet, DuckDB": ("duckdb", read_duckdb),
    "Parquet, datasets": ("datasets", read_datasets),
    "`.npy`, numpy": ("numpy", read_numpy),
}


def observe(folder: Path) -> dict[str, dict[str, str]]:
    """Cells of each reader, of the files in the folder of a sample."""
    expected = Sample.load(folder).rows
    products = {**expected, "int8": expected["int8"] * expected["scales"][:, np.newaxis]}
    # Other graphs than that of the fused operator may give other last bits to each file.
    tolerance = 0 if json.loads((folder / "server.json").read_text())["reproducible"] else 1e-5
    found = {}
    for title, (package, read) in READERS.items():
        wanted = products if read is read_numpy else expected
        columns = {dtype: read(folder / f"{dtype}.parquet") for dtype in DTYPES}
        cells = {dtype: _cell(columns[dtype], wanted[dtype], tolerance) for dtype in DTYPES}
        failed = ", ".join(dict.fromkeys(str(column.failed) for column in columns.values()))
        found[title] = {"version": version(package), **cells, "failed": failed}
    return found


def _cell(column: Column, expected: NDArray[Any], tolerance: float) -> str:
    """The type alone, where all is as it was."""
    given, found = expected.astype(np.float64), column.rows.astype(np.float64)
    assert np.mean(np.abs(found - given) <= tolerance) > (0.99 if tolerance else 0.9999999), column
    same = column.rows.dtype == expected.dtype
    return f"`{column.kind}`" if same else f"`{column.kind}`, as {column.rows.dtype}"
