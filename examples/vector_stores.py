"""Chroma and Qdrant behind one face: what `vector_databases.py` asks of either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import chromadb
import numpy as np
from chromadb.config import Settings
from numpy.typing import NDArray
from qdrant_client import QdrantClient, models

from corpora import Gloss

NAME = "glosses"
CHUNK = 1000
"""Documents written at a time; Chroma takes 5,461 at most."""


@dataclass(frozen=True)
class Found:
    """A passage found in a database.

    Attributes:
        id: Of the gloss.
        text: Words and their meaning, as stored.
        category: As stored.
        score: Cosine with the question.
    """

    id: str
    text: str
    category: str
    score: float


class Store(Protocol):
    """What is asked of a database.

    Args:
        folder: Where it keeps its files; what is there is opened.
    """

    def __init__(self, folder: Path) -> None: ...

    def fill(self, glosses: Sequence[Gloss], vectors: NDArray[np.float32]) -> None:
        """Makes the collection anew of these glosses and their vectors (n, D)."""

    def find(
        self, vector: NDArray[np.float32], *, top_k: int, category: str | None = None
    ) -> list[Found]:
        """Returns the closest passages, best first, of one category or of all."""

    def close(self) -> None:
        """Writes what is left to write, and lets go of the files."""


class Chroma:
    """Chroma in a folder; see `Store`."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(anonymized_telemetry=False)
        self._client = chromadb.PersistentClient(path=str(folder), settings=settings)
        self._collection = self._open()

    def _open(self) -> chromadb.Collection:
        # Without None, Chroma would load a model of its own for texts that come without vectors.
        return self._client.get_or_create_collection(
            NAME, embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
        )

    def fill(self, glosses: Sequence[Gloss], vectors: NDArray[np.float32]) -> None:
        """See `Store`."""
        self._client.delete_collection(NAME)
        self._collection = self._open()
        for start in range(0, len(glosses), CHUNK):
            chunk = glosses[start : start + CHUNK]
            self._collection.add(
                ids=[gloss.id for gloss in chunk],
                embeddings=vectors[start : start + CHUNK],
                documents=[passage(gloss) for gloss in chunk],
                metadatas=[{"category": gloss.category} for gloss in chunk],
            )

    def find(
        self, vector: NDArray[np.float32], *, top_k: int, category: str | None = None
    ) -> list[Found]:
        """See `Store`."""
        found = self._collection.query(
            query_embeddings=vector[np.newaxis],
            n_results=top_k,
            where=None if category is None else {"category": category},
        )
        documents, metadatas = found["documents"], found["metadatas"]
        distances = found["distances"]
        assert documents is not None  # None is for what was not asked for.
        assert metadatas is not None
        assert distances is not None
        rows = zip(found["ids"][0], documents[0], metadatas[0], distances[0], strict=True)
        # Chroma's "cosine" is the distance: 1 minus the cosine.
        return [Found(key, text, str(meta["category"]), 1 - far) for key, text, meta, far in rows]

    def close(self) -> None:
        """See `Store`."""
        self._client.close()  # type: ignore[attr-defined]  # missing in the type it is declared as


class Qdrant:
    """Qdrant in a folder, without a server: for thousands of documents rather than millions.

    It compares with every vector, and commits every document by itself. See `Store`.
    """

    def __init__(self, folder: Path) -> None:
        self._client = QdrantClient(path=str(folder))

    def fill(self, glosses: Sequence[Gloss], vectors: NDArray[np.float32]) -> None:
        """See `Store`."""
        self._client.delete_collection(NAME)
        size = models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE)
        self._client.create_collection(NAME, vectors_config=size)
        points = (
            # Its ids are numbers or UUIDs; those of WordNet are eight digits.
            models.PointStruct(id=int(gloss.id), vector=vector.tolist(), payload=payload(gloss))
            for gloss, vector in zip(glosses, vectors, strict=True)
        )
        self._client.upload_points(NAME, points, batch_size=CHUNK)

    def find(
        self, vector: NDArray[np.float32], *, top_k: int, category: str | None = None
    ) -> list[Found]:
        """See `Store`."""
        match = models.MatchValue(value=category or "")
        only = models.Filter(must=[models.FieldCondition(key="category", match=match)])
        answer = self._client.query_points(
            NAME,
            query=vector.tolist(),
            limit=top_k,
            query_filter=None if category is None else only,
        )
        return [
            Found(
                point.payload["id"], point.payload["text"], point.payload["category"], point.score
            )
            for point in answer.points
            if point.payload is not None
        ]

    def close(self) -> None:
        """See `Store`."""
        self._client.close()


def passage(gloss: Gloss) -> str:
    """Returns what is stored and shown: the words and what they mean."""
    return f"{', '.join(gloss.words)}: {gloss.text}"


def payload(gloss: Gloss) -> dict[str, str]:
    """Returns what Qdrant keeps beside a vector."""
    return {"id": gloss.id, "text": passage(gloss), "category": gloss.category}
