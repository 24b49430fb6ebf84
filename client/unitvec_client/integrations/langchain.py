"""unitvec as `Embeddings` of LangChain (the extra ``langchain``)."""

from __future__ import annotations

from typing import Unpack

from unitvec_client.integrations.extras import missing
from unitvec_client.providers.endpoint import Endpoint, EndpointKeywords
from unitvec_client.providers.provider import Provider, document_options, query_options, to_lists

try:
    from langchain_core.embeddings import Embeddings
except ImportError as exc:
    raise missing("langchain", exc) from exc


class UnitvecEmbeddings(Embeddings):
    """Embeds for LangChain's vector stores and retrievers, by a unitvec server.

    Connects at the first call. Threads and event loops may share one; it can be pickled.

        store = InMemoryVectorStore(UnitvecEmbeddings("localhost:50051"))

    Args:
        target: ``host:port`` or any other gRPC target; None for the variable UNITVEC_TARGET, or
            localhost:50051 where it is not set.
        query_prompt_name: The prompt put before each query, by name; empty for no prompt. None
            takes the model's own prompt ``query``, if it has one.
        document_prompt_name: The same for documents, and the prompt ``document``.
        dimensions: Keep only this many leading dimensions; None keeps all.
        **endpoint: As in `Endpoint`: model, connection, token_env_var, timeout_s, expect.

    Raises:
        InputError: If an argument is wrong.
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

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return one vector for each text; any number of texts in one call.

        Raises:
            UnitvecError: If the call fails; all or nothing.
        """
        return to_lists(self._provider.embed(texts, self._documents))

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query.

        Raises:
            UnitvecError: If the call fails.
        """
        return to_lists(self._provider.embed([text], self._queries))[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """`embed_documents`, awaited.

        Raises:
            UnitvecError: If the call fails; all or nothing.
        """
        return to_lists(await self._provider.aembed(texts, self._documents))

    async def aembed_query(self, text: str) -> list[float]:
        """`embed_query`, awaited.

        Raises:
            UnitvecError: If the call fails.
        """
        return to_lists(await self._provider.aembed([text], self._queries))[0]

    def close(self) -> None:
        """Close the connections. A later call opens them again."""
        self._provider.close()

    async def aclose(self) -> None:
        """`close`, in the event loop that made calls: its connection is closed at once."""
        await self._provider.aclose()
