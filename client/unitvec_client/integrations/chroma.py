"""unitvec as `EmbeddingFunction` of Chroma (the extra ``chroma``)."""

from __future__ import annotations

from typing import Any, Unpack, cast

import numpy as np

from unitvec_client.errors import InputError
from unitvec_client.integrations.connections import from_config, to_config
from unitvec_client.integrations.extras import missing
from unitvec_client.integrations.provider import (
    Endpoint,
    EndpointKeywords,
    Provider,
    TextOptions,
    document_options,
    query_options,
)

try:
    from chromadb.api.types import Documents, EmbeddingFunction, Embeddings, Space
    from chromadb.utils.embedding_functions import register_embedding_function
except ImportError as exc:
    raise missing("chroma", exc) from exc

# Other vectors than these are not comparable with those that a collection holds.
_FIXED = ("model", "dimensions", "query_prompt_name", "document_prompt_name")


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
            takes the model's own prompt ``query`` if it has one, else its default prompt.
        document_prompt_name: The same for documents: ``document``, ``passage`` or ``corpus``.
        dimensions: Keep only this many leading dimensions; None keeps all.
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
        **endpoint: Unpack[EndpointKeywords],
    ) -> None:
        self._queries = query_options(query_prompt_name, dimensions)
        self._documents = document_options(document_prompt_name, dimensions)
        self._provider = Provider(Endpoint(target, **endpoint))
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
        """Return all that makes it again, ready for JSON, without the token."""
        endpoint = self._provider.endpoint
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

    def close(self) -> None:
        """Close the connection. A later call opens it again."""
        self._provider.close()

    def _embed(self, texts: Documents, options: TextOptions) -> Embeddings:
        vectors = self._provider.embed(texts, options).values()
        return cast("Embeddings", list(vectors.astype(np.float32, copy=False)))
