"""hnswlib and annoy, which a compiler builds, and the index of DuckDB 1."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.e2e.stores.store import Store


class Hnswlib(Store):
    title, package, is_exact = "hnswlib", "hnswlib", False

    def create(self) -> None:
        import hnswlib

        self.index = hnswlib.Index(space="cosine", dim=self.dim)

    def fill(self, vectors: NDArray[Any]) -> None:
        self.index.init_index(max_elements=len(vectors), ef_construction=200, M=16)
        self.index.add_items(vectors, np.arange(len(vectors)))

    def search(self, query: NDArray[Any], top_k: int) -> tuple[Sequence[int], Sequence[float]]:
        self.index.set_ef(max(100, top_k))
        ids, distances = self.index.knn_query(query, top_k)
        return ids[0], distances[0]

    def read(self, count: int) -> NDArray[Any]:
        return np.asarray(self.index.get_items(np.arange(count)), np.float32)


class Annoy(Store):
    title, package, is_exact = 'annoy `"angular"`', "annoy", False

    def create(self) -> None:
        from annoy import AnnoyIndex

        self.index = AnnoyIndex(self.dim, "angular")

    def create_default(self) -> None:
        from annoy import AnnoyIndex

        self.index = AnnoyIndex(self.dim)

    def fill(self, vectors: NDArray[Any]) -> None:
        for row, vector in enumerate(vectors):
            self.index.add_item(row, vector)
        self.index.build(n_trees=20)

    def search(self, query: NDArray[Any], top_k: int) -> tuple[Sequence[int], Sequence[float]]:
        ids, distances = self.index.get_nns_by_vector(query, top_k, include_distances=True)
        return ids, distances

    def read(self, count: int) -> NDArray[Any]:
        return np.array([self.index.get_item_vector(row) for row in range(count)], np.float32)


class DuckdbIndex(Store):
    title, package, is_exact = "DuckDB 1, `vss`", "duckdb", False
    handle = "connection"

    @classmethod
    @contextlib.contextmanager
    def opened(cls, folder: Path) -> Iterator[Any]:
        import duckdb
        from duckdb_extensions import import_extension

        import_extension("vss")
        with duckdb.connect() as connection:
            connection.execute("LOAD vss")
            yield connection

    def create(self) -> None:
        self.metric = "WITH (metric = 'cosine')"
        self.function = "array_cosine_distance"
        self.session.execute(f"CREATE TABLE {self.name} (id INTEGER, vector FLOAT[{self.dim}])")

    def create_default(self) -> None:
        self.create()
        self.metric, self.function = "", "array_distance"

    def fill(self, vectors: NDArray[Any]) -> None:
        # As text: parameters that are lists of floats take ten times as long.
        rows = [(row, str(vector)) for row, vector in enumerate(vectors.tolist())]
        values = f"(?, ?::FLOAT[{self.dim}])"
        self.session.executemany(f"INSERT INTO {self.name} VALUES {values}", rows)
        index = f"CREATE INDEX i{self.name} ON {self.name} USING HNSW (vector) {self.metric}"
        self.session.execute(index)

    def search(self, query: NDArray[Any], top_k: int) -> tuple[Sequence[int], Sequence[float]]:
        score = f"{self.function}(vector, ?::FLOAT[{self.dim}])"
        sql = f"SELECT id, {score} AS score FROM {self.name} ORDER BY score LIMIT {top_k}"
        found = self.session.execute(sql, [query.tolist()]).fetchall()
        return [row[0] for row in found], [row[1] for row in found]

    def read(self, count: int) -> NDArray[Any]:
        rows = self.session.execute(f"SELECT vector FROM {self.name} ORDER BY id LIMIT {count}")
        return np.array([row[0] for row in rows.fetchall()], np.float32)

    def limits(self) -> str:
        """Numbers of what the index takes; and that it is what answers."""
        import duckdb

        rows = np.random.default_rng(0).standard_normal((1000, self.dim))
        self.fill(rows.astype(np.float32))
        score = f"{self.function}(vector, ?::FLOAT[{self.dim}])"
        sql = f"EXPLAIN SELECT id FROM {self.name} ORDER BY {score} LIMIT 10"
        assert "HNSW_INDEX_SCAN" in self.session.execute(sql, [rows[0].tolist()]).fetchall()[0][1]
        self.session.execute("CREATE TABLE wide (vector DOUBLE[3])")
        with contextlib.suppress(duckdb.Error):
            self.session.execute("CREATE INDEX wide_index ON wide USING HNSW (vector)")
            raise AssertionError("DOUBLE is taken")
        return "`FLOAT` alone"


STORES = (Hnswlib, Annoy, DuckdbIndex)
