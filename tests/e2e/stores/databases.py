"""Databases that run in the process: Chroma, Qdrant, LanceDB, Milvus Lite."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.e2e.stores.store import Store


class Chroma(Store):
    title, package, is_exact = "Chroma", "chromadb", False
    handle = "client"

    @classmethod
    @contextlib.contextmanager
    def opened(cls, folder: Path) -> Iterator[Any]:
        import chromadb

        yield chromadb.PersistentClient(folder)

    def create(self) -> None:
        cosine = {"hnsw": {"space": "cosine"}}
        self.collection = self.session.create_collection(
            self.name, configuration=cosine, embedding_function=None
        )

    def create_default(self) -> None:
        self.collection = self.session.create_collection(self.name, embedding_function=None)

    def fill(self, vectors: NDArray[Any]) -> None:
        self.collection.add(ids=[str(row) for row in range(len(vectors))], embeddings=vectors)

    def search(self, query: NDArray[Any], top_k: int) -> tuple[Sequence[int], Sequence[float]]:
        found = self.collection.query(query_embeddings=[query], n_results=top_k)
        return [int(each) for each in found["ids"][0]], found["distances"][0]

    def read(self, count: int) -> NDArray[Any]:
        ids = [str(row) for row in range(count)]
        found = self.collection.get(ids=ids, include=["embeddings"])
        by_id = dict(zip(found["ids"], found["embeddings"], strict=True))
        return np.array([by_id[each] for each in ids])

    def limits(self) -> str:
        return f"{self.session.get_max_batch_size():,} rows of one `add`"


class Qdrant(Store):
    title, package = "Qdrant, local mode", "qdrant-client"
    handle = "client"

    @classmethod
    @contextlib.contextmanager
    def opened(cls, folder: Path) -> Iterator[Any]:
        from qdrant_client import QdrantClient

        with contextlib.closing(QdrantClient(":memory:")) as client:
            yield client

    def create(self) -> None:
        from qdrant_client import models

        cosine = models.VectorParams(size=self.dim, distance=models.Distance.COSINE)
        self.session.create_collection(self.name, vectors_config=cosine)

    def fill(self, vectors: NDArray[Any]) -> None:
        from qdrant_client import models

        points = models.Batch(ids=[*range(len(vectors))], vectors=vectors.tolist())
        self.session.upsert(self.name, points=points)

    def search(self, query: NDArray[Any], top_k: int) -> tuple[Sequence[int], Sequence[float]]:
        found = self.session.query_points(self.name, query=query, limit=top_k).points
        return [point.id for point in found], [point.score for point in found]

    def read(self, count: int) -> NDArray[Any]:
        found = self.session.retrieve(self.name, [*range(count)], with_vectors=True)
        return np.array([point.vector for point in found], np.float32)


class Lance(Store):
    title, package = "LanceDB", "lancedb"
    handle = "database"
    metric = "cosine"

    @classmethod
    @contextlib.contextmanager
    def opened(cls, folder: Path) -> Iterator[Any]:
        import lancedb

        yield lancedb.connect(folder)

    def create(self) -> None:
        """A table is made of its rows."""

    def create_default(self) -> None:
        self.metric = ""

    def fill(self, vectors: NDArray[Any]) -> None:
        import pyarrow as pa

        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        rows = pa.table({"id": range(len(vectors)), "vector": column})
        self.table = self.session.create_table(self.name, rows)

    def search(self, query: NDArray[Any], top_k: int) -> tuple[Sequence[int], Sequence[float]]:
        searching = self.table.search(query).limit(top_k)
        if self.metric:
            searching = searching.distance_type(self.metric)
        found = searching.to_arrow()
        return found["id"].to_pylist(), found["_distance"].to_pylist()

    def read(self, count: int) -> NDArray[Any]:
        column = self.table.to_arrow().sort_by("id")["vector"].combine_chunks()
        read: NDArray[Any] = column.flatten().to_numpy().reshape(count, -1)
        return read


class LanceFloat16(Lance):
    title, dtype = "LanceDB, float16", "float16"
    has_recipe = False


class LanceBinary(Lance):
    title, dtype, metric = "LanceDB, uint8", "binary", "hamming"


class Milvus(Store):
    title, package = "Milvus Lite", "milvus-lite"
    handle = "client"

    @classmethod
    @contextlib.contextmanager
    def opened(cls, folder: Path) -> Iterator[Any]:
        from pymilvus import MilvusClient

        with contextlib.closing(MilvusClient(str(folder / "milvus.db"))) as client:
            yield client

    def create(self) -> None:
        self.session.create_collection(self.name, dimension=self.dim, metric_type="COSINE")

    def create_default(self) -> None:
        self.session.create_collection(self.name, dimension=self.dim)

    def fill(self, vectors: NDArray[Any]) -> None:
        rows = [{"id": row, "vector": vector} for row, vector in enumerate(vectors)]
        self.session.insert(self.name, rows)

    def search(self, query: NDArray[Any], top_k: int) -> tuple[Sequence[int], Sequence[float]]:
        [found] = self.session.search(self.name, data=[query], limit=top_k)
        return [hit["id"] for hit in found], [hit["distance"] for hit in found]

    def read(self, count: int) -> NDArray[Any]:
        found = self.session.get(self.name, [*range(count)], output_fields=["vector"])
        by_id = {row["id"]: row["vector"] for row in found}
        return np.array([by_id[row] for row in range(count)], np.float32)

    def limits(self) -> str:
        """Types of vectors that Milvus has and its small relative refuses."""
        from pymilvus import DataType, MilvusException

        for kind in ("FLOAT16_VECTOR", "BFLOAT16_VECTOR", "INT8_VECTOR", "BINARY_VECTOR"):
            schema = self.session.create_schema()
            schema.add_field("id", DataType.INT64, is_primary=True)
            schema.add_field("vector", DataType[kind], dim=self.dim)
            with contextlib.suppress(MilvusException):
                self.session.create_collection("other", schema=schema)
                raise AssertionError(f"{kind} is taken")
        return "float32 alone"


STORES = (Chroma, Qdrant, Lance, LanceFloat16, LanceBinary, Milvus)
