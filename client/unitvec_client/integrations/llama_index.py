"""unitvec as `BaseEmbedding` of LlamaIndex (the extra ``llama-index``)."""

from __future__ import annotations

from unitvec_client.connection import ConnectionOptions
from unitvec_client.integrations.extras import missing
from unitvec_client.methods.core import DEFAULT_TIMEOUT_S
from unitvec_client.providers.endpoint import Endpoint
from unitvec_client.providers.provider import (
    Provider,
    TextOptions,
    document_options,
    provider_of,
    query_options,
    to_lists,
)

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import Field, PrivateAttr
    from pydantic import InstanceOf
except ImportError as exc:
    raise missing("llama-index", exc) from exc


class UnitvecEmbedding(BaseEmbedding):
    """Embeds for LlamaIndex's indices and retrievers, by a unitvec server.

    Connects at the first call. Threads and event loops may share one; it can be pickled.
    `to_dict` leaves `connection` out, for what it may hold; `token_env_var` is kept.

        Settings.embed_model = UnitvecEmbedding(target="localhost:50051")
    """

    target: str | None = Field(
        default=None,
        description="host:port, or any gRPC target; None for the variable UNITVEC_TARGET, or "
        "localhost:50051 where it is not set.",
    )
    model_name: str = Field(
        default="", description="Name of the model; empty for the server's default."
    )
    embed_batch_size: int = Field(
        default=256,
        description="Texts handed over at a time; how they are batched, the server knows.",
        gt=0,
        le=2048,
    )
    num_workers: int | None = Field(
        default=4, description="Calls in flight at a time, of those that are awaited."
    )
    query_prompt_name: str | None = Field(
        default=None,
        description="The prompt put before each query, by name; empty for no prompt. None takes "
        "the model's own prompt `query`, if it has one.",
    )
    document_prompt_name: str | None = Field(
        default=None,
        description="The same for texts of nodes, and the prompt `document`.",
    )
    dimensions: int | None = Field(
        default=None, description="Keep only so many leading dimensions; None keeps all."
    )
    connection: InstanceOf[ConnectionOptions] | None = Field(
        default=None, description="TLS, token and channel options.", exclude=True, repr=False
    )
    token_env_var: str | None = Field(
        default=None, description="Name of the environment variable that holds the token."
    )
    timeout_s: float | None = Field(
        default=DEFAULT_TIMEOUT_S,
        description="For each 512 texts of a call, in seconds; None for no deadline.",
    )
    expect: str | None = Field(
        default=None,
        description="Fingerprint that all vectors must have, such as s1-...; None for any.",
    )
    _opened: Provider | None = PrivateAttr(default=None)

    @classmethod
    def class_name(cls) -> str:
        """Return the name in serialized forms."""
        return "UnitvecEmbedding"

    def close(self) -> None:
        """Close the connections. A later call opens them again."""
        if self._opened is not None:
            self._opened.close()

    async def aclose(self) -> None:
        """`close`, in the event loop that made calls: its connection is closed at once."""
        if self._opened is not None:
            await self._opened.aclose()

    def _get_query_embedding(self, query: str) -> list[float]:
        return to_lists(self._provider().embed([query], self._queries()))[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return to_lists(await self._provider().aembed([query], self._queries()))[0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return to_lists(self._provider().embed(texts, self._documents()))

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return to_lists(await self._provider().aembed(texts, self._documents()))

    def _queries(self) -> TextOptions:
        return query_options(self.query_prompt_name, self.dimensions)

    def _documents(self) -> TextOptions:
        return document_options(self.document_prompt_name, self.dimensions)

    def _provider(self) -> Provider:
        # Fields may be assigned after the first call.
        endpoint = Endpoint(
            self.target,
            self.model_name,
            self.connection,
            self.token_env_var,
            self.timeout_s,
            self.expect,
        )
        self._opened = provider_of(endpoint, self._opened)
        return self._opened
