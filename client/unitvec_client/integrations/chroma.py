"""unitvec as `EmbeddingFunction` of Chroma (the extra ``chroma``)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Unpack, cast

import numpy as np

from unitvec_client.errors import InputError
from unitvec_client.integrations.extras import missing
from unitvec_client.providers.connections import from_config, to_config
from unitvec_client.providers.endpoint import Endpoint, EndpointKeywords
from unitvec_client.providers.filling import Filling, read_filling
from unitvec_client.providers.provider import Provider, TextOptions, document_options, query_options

try:
    from chromadb import Collection
    from chromadb.api.types import Documents, EmbeddingFunction, Embeddings, Space
    from chromadb.utils.embedding_functions import register_embedding_function
except ImportError as exc:
    raise missing("chroma", exc) from exc

# Other vectors than these are not comparable with those that a collection holds.
_FIXED = ("model", "dimensions", "query_prompt_name", "document_prompt_name")


class MetricWarning(UserWarning):
    """A collection compares by another metric than the cosine."""


@register_embedding_function
class UnitvecEmbeddingFunction(EmbeddingFunction[Documents]):
    """Embeds the documents and queries of a collection, by a unitvec server.

    Chroma stores how it was made beside the collection: once this module is imported,
    `get_collection(name)` makes it again. A token is never stored, only the name of the
    variable that holds it. Connects at the first call; threads may share one.

        collection = client.create_collection(
            "faq", embedding_function=UnitvecEmbeddingFunction("localhost:50051")
        )

    Args:
        target: ``host:port`` or any other gRPC target; None for the variable UNITVEC_TARGET, or
            localhost:50051 where it is not set.
        query_prompt_name: The prompt put before each query, by name; empty for no prompt. None
            takes the model's own prompt ``query``, if it has one.
        document_prompt_name: The same for documents, and the prompt ``document``.
        dimensions: Keep only this many leading dimensions; None keeps all.
        filled_with: What a stored collection is filled with, which Chroma keeps with it.
        **endpoint: As in `Endpoint`: model, connection, token_env_var, timeout_s, expect.
            Certificates are named by their paths.

    Raises:
        InputError: If an argument is wrong, or cannot be stored.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        query_prompt_name: str | None = None,
        document_prompt_name: str | None = None,
        dimensions: int | None = None,
        filled_with: Mapping[str, Any] | None = None,
        **endpoint: Unpack[EndpointKeywords],
    ) -> None:
        self._queries = query_options(query_prompt_name, dimensions)
        self._documents = document_options(document_prompt_name, dimensions)
        self._provider = Provider(Endpoint(target, **endpoint))
        self._filled_with = filled_with
        self._warned = False
        to_config(self._provider.endpoint.connection)

    def __call__(self, input: Documents) -> Embeddings:  # noqa: A002  # Chroma checks the name
        """Return one float32 vector (D,) for each document.

        Raises:
            UnitvecError: If the call fails; all or nothing.
        """
        return self._embed(input, self._documents)

    def embed_query(self, input: Documents) -> Embeddings:  # noqa: A002
        """Return one float32 vector (D,) for each query.

        Raises:
            UnitvecError: If the call fails; all or nothing.
        """
        return self._embed(input, self._queries)

    @staticmethod
    def name() -> str:
        """Return the name under which Chroma stores and finds it."""
        return "unitvec"

    def default_space(self) -> Space:
        """Return the metric of new collections: cosine."""
        return "cosine"

    def get_config(self) -> dict[str, Any]:
        """Return all that makes it again, ready for JSON, without the token.

        Of a new one the server is asked what it fills a collection with, if it can be reached.
        """
        endpoint = self._provider.endpoint
        if self._filled_with is None and (filling := self._filling()) is not None:
            self._filled_with = asdict(filling)
        return {
            "target": endpoint.target,
            "model": endpoint.model,
            "connection": to_config(endpoint.connection),
            "token_env_var": endpoint.token_env_var,
            "timeout_s": endpoint.timeout_s,
            "expect": endpoint.expect,
            "dimensions": self._documents.dimensions,
            "query_prompt_name": self._queries.prompt_name,
            "document_prompt_name": self._documents.prompt_name,
            "filled_with": self._filled_with,
        }

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> UnitvecEmbeddingFunction:
        """Return the function that `get_config` describes. Nothing is opened."""
        connection = from_config(config.get("connection"))
        return UnitvecEmbeddingFunction(**{**config, "connection": connection})

    def validate_config_update(
        self, old_config: dict[str, Any], new_config: dict[str, Any]
    ) -> None:
        """Allow a stored collection another server, but no other vectors.

        Raises:
            InputError: If the model, a prompt, the dimensions or what is expected would change.
        """
        # What expected nothing may come to expect the vectors that it holds.
        fixed = (*_FIXED, "expect") if old_config.get("expect") else _FIXED
        for key in fixed:
            if key in new_config and new_config[key] != old_config.get(key):
                raise InputError(f"{key} of a collection cannot change: its vectors would not fit")
        before, after = old_config.get("filled_with"), new_config.get("filled_with")
        if before and after and (differences := Filling(**after).differences(before)):
            raise InputError(f"the collection was filled with {', '.join(differences)}")

    def check(self, collection: Collection) -> None:
        """Look at a collection that was made before, and warn of what does not fit.

        Chroma lets any function be used with a collection that was made without one, whose metric
        is l2. One that was made with this function is looked at by itself.

        Args:
            collection: Where this function is to be used.

        Raises:
            UnitvecError: If the server cannot be asked for the model.
        """
        config = collection.configuration_json
        name, metric = f"the collection {collection.name!r}", _metric(collection)
        if metric != self.default_space():
            warnings.warn(
                f"{name} compares by {metric}, not by cosine, so that 1 - distance is no cosine: "
                "to_similarities(collection, distances) is",
                MetricWarning,
                stacklevel=2,
            )
        stored = (config.get("embedding_function") or {}).get("config") or {}
        self._provider.model()
        if (filling := self._filling()) is not None:
            filling.warn_of(stored.get("filled_with") or {}, name)

    def close(self) -> None:
        """Close the connection. A later call opens it again."""
        self._provider.close()

    def _embed(self, texts: Documents, options: TextOptions) -> Embeddings:
        result = self._provider.embed(texts, options)
        if self._filled_with is not None and not self._warned:
            self._warned = self._compare(self._filled_with, result.space)
        return cast("Embeddings", list(result.values().astype(np.float32, copy=False)))

    def _filling(self) -> Filling | None:
        return read_filling(self._provider, self._queries, self._documents)

    def _compare(self, stored: Mapping[str, Any], space: str) -> bool:
        """Warn of vectors that do not fit those that a collection was filled with."""
        filling = self._filling()
        return filling is not None and replace(filling, space=space).warn_of(
            stored, "the collection"
        )


def to_similarities(
    collection: Collection, distances: Sequence[Sequence[float]]
) -> list[list[float]]:
    """Return the cosines that the distances of queries stand for; more is closer.

    Args:
        collection: Of vectors of unit length, compared by cosine, ip or l2.
        distances: A row for each query. Chroma's l2 is the squared distance. The distance of a
            vector to itself may be a little less than 0.

    Returns:
        Rows as long, within [-1, 1].
    """
    halves = 2 if _metric(collection) == "l2" else 1
    return [np.clip(1 - np.asarray(row) / halves, -1, 1).tolist() for row in distances]


def _metric(collection: Collection) -> str:
    config = collection.configuration_json
    index = config.get("hnsw") or config.get("spann") or {}
    return str(index.get("space") or "l2")
