"""The asyncio client."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

import grpc
import numpy as np
from numpy.typing import NDArray

from unitvec_client.connection import DEFAULT_TARGET, ConnectionOptions, open_aio_channel
from unitvec_client.core.core import DEFAULT_TIMEOUT_S, Core
from unitvec_client.core.inputs import Comparable, Vectors, check_iterable
from unitvec_client.core.steps import Script
from unitvec_client.drivers import asynchronous as nonblocking
from unitvec_client.errors import ClientClosedError
from unitvec_client.options import (
    CallKeywords,
    EmbedKeywords,
    SearchKeywords,
    SimilarityKeywords,
    StreamKeywords,
    TokenizeKeywords,
)
from unitvec_client.results import (
    EmbedResult,
    Hit,
    Rankings,
    ServerInfo,
    StreamItem,
    TokenizedText,
)
from unitvec_client.retry import RetryPolicy

T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio: the same methods, to be awaited.

    Opens its channel at the first call, in that call's event loop, and stays with that loop.
    Cancelling a task cancels its calls on the server.

        async with AsyncClient("localhost:50051") as client:
            vectors = await client.embed(["a cat on a mat", "a feline on a rug"])

    Args:
        target: ``host:port`` or any other gRPC target.
        connection: TLS, token and channel options.
        retry: When to send again.
        timeout_s: For calls that name none, in seconds; None for no deadline.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        connection: ConnectionOptions | None = None,
        retry: RetryPolicy | None = None,
        timeout_s: float | None = DEFAULT_TIMEOUT_S,
    ) -> None:
        self._target = target
        self._connection = connection or ConnectionOptions()
        self._core = Core(self._connection, retry or RetryPolicy(), timeout_s)
        self._channel: grpc.aio.Channel | None = None
        self._closed = False

    async def embed(
        self, texts: str | Sequence[str], **options: Unpack[EmbedKeywords]
    ) -> NDArray[Any]:
        """Turn texts into vectors; see `Client.embed`.

        Raises:
            InputError: If an argument is wrong.
            UnitvecError: If the call fails; all or nothing.
        """
        return await self._run(self._core.embed(texts, options))

    async def embed_result(
        self, texts: str | Sequence[str], **options: Unpack[EmbedKeywords]
    ) -> EmbedResult:
        """Like `embed`, with all that came along; see `Client.embed_result`.

        Raises:
            InputError: If an argument is wrong.
            UnitvecError: If the call fails; all or nothing.
        """
        return await self._run(self._core.embed_result(texts, options))

    def embed_stream(
        self, texts: Iterable[str] | AsyncIterable[str], **options: Unpack[StreamKeywords]
    ) -> AsyncIterator[StreamItem]:
        """Turn texts into vectors while they are read; see `Client.embed_stream`.

        Args:
            texts: The texts; an iterable that is not async is read in the event loop.
            **options: As for `Client.embed_stream`.

        Returns:
            An async generator. Where the loop over it is left early, close it with
            `contextlib.aclosing` to end the call at once.

        Raises:
            InputError: If an argument is wrong.
            UnitvecError: If the stream breaks for good.
        """
        script = self._core.embed_stream(options)
        self._check_open()
        return self._iterate(script, check_iterable(texts))

    @overload
    async def similarity(
        self,
        a: Comparable,
        b: Comparable,
        *,
        top_k: None = None,
        **options: Unpack[SimilarityKeywords],
    ) -> NDArray[np.float32]: ...
    @overload
    async def similarity(
        self, a: Comparable, b: Comparable, *, top_k: int, **options: Unpack[SimilarityKeywords]
    ) -> Rankings: ...
    async def similarity(
        self,
        a: Comparable,
        b: Comparable,
        *,
        top_k: int | None = None,
        **options: Unpack[SimilarityKeywords],
    ) -> NDArray[np.float32] | Rankings:
        """Compare every `a` with every `b`, or pair by pair; see `Client.similarity`.

        Raises:
            InputError: If an argument is wrong.
            UnitvecError: If the call fails.
        """
        return await self._run(self._core.similarity(a, b, {**options, "top_k": top_k}))

    async def search(
        self,
        queries: Comparable,
        documents: Iterable[str] | AsyncIterable[str] | Vectors,
        **options: Unpack[SearchKeywords],
    ) -> list[list[Hit]]:
        """Find the best documents for each query; see `Client.search`.

        Raises:
            InputError: If an argument is wrong.
            UnitvecError: If the call fails.
        """
        return await self._run(self._core.search(queries, documents, options), documents)

    @overload
    async def tokenize(  # type: ignore[overload-overlap]  # a str is also a sequence of str
        self, texts: str, **options: Unpack[TokenizeKeywords]
    ) -> TokenizedText: ...
    @overload
    async def tokenize(
        self, texts: Sequence[str], **options: Unpack[TokenizeKeywords]
    ) -> list[TokenizedText]: ...
    async def tokenize(
        self, texts: str | Sequence[str], **options: Unpack[TokenizeKeywords]
    ) -> TokenizedText | list[TokenizedText]:
        """Show how texts are split into tokens; see `Client.tokenize`.

        Raises:
            InputError: If an argument is wrong.
            UnitvecError: If the call fails.
        """
        return await self._run(self._core.tokenize(texts, options))

    async def models(self, **options: Unpack[CallKeywords]) -> ServerInfo:
        """Ask what is served and which limits hold; see `Client.models`.

        Raises:
            UnitvecError: If the call fails.
        """
        return await self._run(self._core.models(options))

    async def health(self, service: str = "", **options: Unpack[CallKeywords]) -> str:
        """Ask whether the server is ready; see `Client.health`.

        Raises:
            UnitvecError: If the call fails; UnavailableError if nobody answers.
        """
        return await self._run(self._core.health(service, options))

    async def close(self) -> None:
        """Close the connection. Calls in flight fail with CallCancelledError."""
        self._closed = True
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _run(self, script: Script[T], source: Any = ()) -> T:
        return await nonblocking.run(self._open_channel(), script, source)

    async def _iterate(self, script: Script[None], source: Any) -> AsyncIterator[Any]:
        items = nonblocking.iterate(self._open_channel(), script, source)
        async with contextlib.aclosing(items):
            async for item in items:
                yield item

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosedError("the client is closed")

    def _open_channel(self) -> grpc.aio.Channel:
        self._check_open()
        if self._channel is None:
            self._channel = open_aio_channel(self._target, self._connection)
        return self._channel
