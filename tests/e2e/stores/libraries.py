"""Libraries of indexes in memory: FAISS and usearch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.e2e.stores.store import Store


class FaissFlat(Store):
    title, package = "FAISS `IndexFlatIP`", "faiss-cpu"

    def create(self) -> None:
        import faiss

        self.index = faiss.IndexFlatIP(self.dim)

    def create_default(self) -> None:
        import faiss

        self.index = faiss.index_factory(self.dim, "Flat")

    def fill(self, vectors: NDArray[Any]) -> None:
        self.index.add(vectors)

    def search(self, query: NDArray[Any], top_k: int) -> tuple[Sequence[int], Sequence[float]]:
        scores, ids = self.index.search(query[None], top_k)
        return ids[0][ids[0] >= 0], scores[0][ids[0] >= 0]

    def read(self, count: int) -> NDArray[Any]:
        read: NDArray[Any] = self.index.reconstruct_n(0, count)
        return read

    def own_bits(self, vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
        import faiss

        made = np.empty((len(vectors), self.dim // 8), np.uint8)
        pointers = (faiss.swig_ptr(np.ascontiguousarray(vectors)), faiss.swig_ptr(made))
        faiss.fvecs2bitvecs(*pointers, self.dim, len(vectors))
        return made


class FaissHnsw(FaissFlat):
    title, is_exact = "FAISS `IndexHNSWFlat`", False

    def create(self) -> None:
        import faiss

        self.index = faiss.IndexHNSWFlat(self.dim, 32, faiss.METRIC_INNER_PRODUCT)

    def create_default(self) -> None:
        import faiss

        self.index = faiss.IndexHNSWFlat(self.dim, 32)

    def search(self, query: NDArray[Any], top_k: int) -> tuple[Sequence[int], Sequence[float]]:
        self.index.hnsw.efSearch = max(64, top_k)
        scores, ids = self.index.search(query[None], top_k)
        return ids[0][ids[0] >= 0], scores[0][ids[0] >= 0]

    def own_bits(self, vectors: NDArray[np.float32]) -> None:
        return None


class FaissBinary(FaissFlat):
    title, dtype = "FAISS `IndexBinaryFlat`", "binary"

    def create(self) -> None:
        import faiss

        self.index = faiss.IndexBinaryFlat(self.dim)

    create_default = create


class _Usearch(Store):
    package, is_exact = "usearch", False
    kind: str

    def create(self) -> None:
        from usearch.index import Index

        self.index = Index(ndim=self.dim, metric="cos", dtype=self.kind)

    def create_default(self) -> None:
        from usearch.index import Index

        self.index = Index(ndim=self.dim, dtype=self.kind)

    def fill(self, vectors: NDArray[Any]) -> None:
        self.index.add(np.arange(len(vectors)), vectors)

    def search(self, query: NDArray[Any], top_k: int) -> tuple[Sequence[int], Sequence[float]]:
        found = self.index.search(query, top_k)
        return found.keys, found.distances

    def read(self, count: int) -> NDArray[Any]:
        return np.asarray(self.index.get(np.arange(count)))


class UsearchF32(_Usearch):
    title, kind = 'usearch `"f32"`', "f32"


class UsearchF16(_Usearch):
    title, kind, dtype = 'usearch `"f16"`', "f16", "float16"
    has_recipe = False


class UsearchBf16(_Usearch):
    title, kind = 'usearch `"bf16"`', "bf16"
    has_recipe = False
    tolerance = 1e-2


class UsearchI8(_Usearch):
    title, kind, dtype = 'usearch `"i8"`', "i8", "int8"


class UsearchI8OfFloats(_Usearch):
    title, kind = 'usearch `"i8"`, of float32', "i8"
    has_recipe = False
    tolerance = 3e-2

    def read(self, count: int) -> NDArray[Any]:
        return np.float32(super().read(count)) / 127


class UsearchB1(_Usearch):
    title, kind, dtype = 'usearch `"b1"`', "b1", "binary"

    def create(self) -> None:
        from usearch.index import Index

        self.index = Index(ndim=self.dim, metric="hamming", dtype="b1")


STORES = (
    FaissFlat,
    FaissHnsw,
    FaissBinary,
    UsearchF32,
    UsearchF16,
    UsearchBf16,
    UsearchI8,
    UsearchI8OfFloats,
    UsearchB1,
)
