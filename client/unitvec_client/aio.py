"""The asyncio client."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from unitvec_client.connection import ConnectionOptions
from unitvec_client.core.inputs import (
    Comparable,
    Vectors,
    check_iterable,
    in_python,
)
from unitvec_client.core.steps import Script
from unitvec_client.drivers.asynchronous import Link, iterate, run
from unitvec_client.expectation import read_expectation
from unitvec_client.methods.core import DEFAULT_TIMEOUT_S, Core
from unitvec_client.options import (
    CallOptions,
    DtypeName,
    EmbedOptions,
    ErrorsName,
    MetricName,
    PooledWindows,
    ReloadOptions,
    SearchOptions,
    SimilarityOptions,
    StreamOptions,
    TokenizeOptions,
    TruncateName,
    VerifyOptions,
    Windows,
)
from unitvec_client.results import (
    EmbedResult,
    Hit,
    PartialVectors,
    Rankings,
    ReloadedModel,
    ServerInfo,
    StoredHit,
    StreamItem,
    TokenizedText,
)
from unitvec_client.retry import RetryPolicy
from unitvec_client.stored.search import StoredVectors, open_search
from unitvec_client.targets import resolve_target
from unitvec_client.verification import Verification
from unitvec_client.windowed import WindowedResult

T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio: the same methods, to be awaited.

    Opens its channel at the first call, in that call's event loop, and stays with that loop.
    Cancelling a task cancels its calls on the server.

        async with AsyncClient("localhost:50051") as client:
            vectors = await client.embed(["a cat on a mat", "a feline on a rug"])

    Args:
        target: ``host:port`` or any other gRPC target; None for the variable UNITVEC_TARGET, or
            localhost:50051 where it is not set.
        connection: TLS, token and channel options.
        retry: When to send again.
        timeout_s: Time for a call that names none, in seconds; None for no deadline.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        connection: ConnectionOptions | None = None,
        retry: RetryPolicy | None = None,
        timeout_s: float | None = DEFAULT_TIMEOUT_S,
        expect: str | None = None,
    ) -> None:
        connection = connection or ConnectionOptions()
        self._target = resolve_target(target, tls=connection.tls)
        wanted = read_expectation(expect)
        self._core = Core(self._target, connection, retry or RetryPolicy(), timeout_s, wanted)
        self._link = Link(self._target, connection)

    @overload
    async def embed(
        self,
        texts: str | Sequence[str],
        *,
        model: str = "",
        normalize: bool = True,
        dimensions: int | None = None,
        truncate: TruncateName = "model",
        prompt_name: str | None = None,
        dtype: DtypeName = "float32",
        windows: PooledWindows | None = None,
        errors: Literal["raise"] = "raise",
        timeout_s: float | None = None,
    ) -> NDArray[Any]: ...
    @overload
    async def embed(
        self,
        texts: str | Sequence[str],
        *,
        model: str = "",
        normalize: bool = True,
        dimensions: int | None = None,
        truncate: TruncateName = "model",
        prompt_name: str | None = None,
        dtype: DtypeName = "float32",
        windows: PooledWindows | None = None,
        errors: Literal["return"],
        timeout_s: float | None = None,
    ) -> PartialVectors: ...
    @overload
    async def embed(
        self,
        texts: str | Sequence[str],
        *,
        model: str = "",
        normalize: bool = True,
        dimensions: int | None = None,
        truncate: TruncateName = "model",
        prompt_name: str | None = None,
        dtype: DtypeName = "float32",
        windows: Windows,
        errors: ErrorsName = "raise",
        timeout_s: float | None = None,
    ) -> WindowedResult: ...
    async def embed(
        self,
        texts: str | Sequence[str],
        *,
        model: str = "",
        normalize: bool = True,
        dimensions: int | None = None,
        truncate: TruncateName = "model",
        prompt_name: str | None = None,
        dtype: DtypeName = "float32",
        windows: Windows | PooledWindows | None = None,
        errors: ErrorsName = "raise",
        timeout_s: float | None = None,
    ) -> NDArray[Any] | PartialVectors | WindowedResult:
        """Turn texts into vectors; see `Client.embed`.

        Raises:
            InputError: If an argument is wrong.
            UnitvecError: If the call fails, or a text while `errors` is ``raise``.
        """
        options = EmbedOptions(
            model,
            normalize,
            dimensions,
            truncate,
            prompt_name,
            dtype,
            windows,
            errors,
            timeout_s=timeout_s,
        )
        if isinstance(windows, Windows):
            return await self._run(self._core.embed_windows(texts, options))
        result, single = await self._run(self._core.embed(texts, options)), isinstance(texts, str)
        if errors == "return":
            return result.unpack_partly(single=single)
        return result.unpack(single=single)

    @overload
    async def embed_result(
        self,
        texts: str | Sequence[str],
        *,
        model: str = "",
        normalize: bool = True,
        dimensions: int | None = None,
        truncate: TruncateName = "model",
        prompt_name: str | None = None,
        dtype: DtypeName = "float32",
        windows: PooledWindows | None = None,
        errors: ErrorsName = "raise",
        timeout_s: float | None = None,
    ) -> EmbedResult: ...
    @overload
    async def embed_result(
        self,
        texts: str | Sequence[str],
        *,
        model: str = "",
        normalize: bool = True,
        dimensions: int | None = None,
        truncate: TruncateName = "model",
        prompt_name: str | None = None,
        dtype: DtypeName = "float32",
        windows: Windows,
        errors: ErrorsName = "raise",
        timeout_s: float | None = None,
    ) -> WindowedResult: ...
    async def embed_result(
        self,
        texts: str | Sequence[str],
        *,
        model: str = "",
        normalize: bool = True,
        dimensions: int | None = None,
        truncate: TruncateName = "model",
        prompt_name: str | None = None,
        dtype: DtypeName = "float32",
        windows: Windows | PooledWindows | None = None,
        errors: ErrorsName = "raise",
        timeout_s: float | None = None,
    ) -> EmbedResult | WindowedResult:
        """Like `embed`, with all that came along; see `Client.embed_result`.

        Raises:
            InputError: If an argument is wrong.
            UnitvecError: If the call fails, or a text while `errors` is ``raise``.
        """
        options = EmbedOptions(
            model,
            normalize,
            dimensions,
            truncate,
            prompt_name,
            dtype,
            windows,
            errors,
            timeout_s=timeout_s,
        )
        if isinstance(windows, Windows):
            return await self._run(self._core.embed_windows(texts, options))
        return await self._run(self._core.embed(texts, options))

    def embed_stream(
        self,
        texts: Iterable[str] | AsyncIterable[str],
        *,
        model: str = "",
        normalize: bool = True,
        dimensions: int | None = None,
        truncate: TruncateName = "model",
        prompt_name: str | None = None,
        dtype: DtypeName = "float32",
        windows: Windows | PooledWindows | None = None,
        chunk_texts: int = 64,
        timeout_s: float | None = None,
    ) -> AsyncIterator[StreamItem]:
        """Turn texts into vectors while they are read; see `Client.embed_stream`.

        Args:
            texts: The texts; an iterable that is not async is read in the event loop.

        Returns:
            An async generator. Where the loop over it is left early, close it with
            `contextlib.aclosing` to end the call at once.

        Raises:
            InputError: If an argument is wrong.
            UnitvecError: If the stream breaks for good.
        """
        options = StreamOptions(
            model,
            normalize,
            dimensions,
            truncate,
            prompt_name,
            dtype,
            windows,
            chunk_texts,
            timeout_s=timeout_s,
        )
        source = check_iterable(texts)
        self._link.check_open()
        return self._iterate(self._core.embed_stream(options), source)

    @overload
    async def similarity(
        self,
        a: Comparable,
        b: Comparable,
        *,
        model: str = "",
        normalize: bool = True,
        dimensions: int | None = None,
        truncate: TruncateName = "model",
        windows: PooledWindows | None = None,
        prompt_name: str | None = None,
        metric: MetricName = "cosine",
        pairs: bool = False,
        top_k: None = None,
        timeout_s: float | None = None,
    ) -> NDArray[np.float32]: ...
    @overload
    async def similarity(
        self,
        a: Comparable,
        b: Comparable,
        *,
        model: str = "",
        normalize: bool = True,
        dimensions: int | None = None,
        truncate: TruncateName = "model",
        windows: PooledWindows | None = None,
        prompt_name: str | None = None,
        metric: MetricName = "cosine",
        pairs: bool = False,
        top_k: int,
        timeout_s: float | None = None,
    ) -> Rankings: ...
    async def similarity(
        self,
        a: Comparable,
        b: Comparable,
        *,
        model: str = "",
        normalize: bool = True,
        dimensions: int | None = None,
        truncate: TruncateName = "model",
        windows: PooledWindows | None = None,
        prompt_name: str | None = None,
        metric: MetricName = "cosine",
        pairs: bool = False,
        top_k: int | None = None,
        timeout_s: float | None = None,
    ) -> NDArray[np.float32] | Rankings:
        """Compare every `a` with every `b`, or pair by pair; see `Client.similarity`.

        Raises:
            InputError: If an argument is wrong.
            UnitvecError: If the call fails.
        """
        options = SimilarityOptions(
            model,
            normalize,
            dimensions,
            truncate,
            windows,
            prompt_name,
            metric,
            pairs,
            top_k,
            timeout_s=timeout_s,
        )
        return await self._run(self._core.similarity(a, b, options))

    @overload
    async def search(
        self,
        queries: Comparable,
        documents: Iterable[str] | AsyncIterable[str] | Vectors,
        *,
        model: str = "",
        normalize: bool = True,
        dimensions: int | None = None,
        truncate: TruncateName = "model",
        windows: PooledWindows | None = None,
        query_prompt_name: str | None = None,
        document_prompt_name: str | None = None,
        metric: MetricName = "cosine",
        top_k: int = 10,
        timeout_s: float | None = None,
    ) -> list[list[Hit]]: ...
    @overload
    async def search(
        self,
        queries: Comparable,
        *,
        vectors: StoredVectors,
        group_by: str | None = None,
        model: str = "",
        normalize: bool = True,
        dimensions: int | None = None,
        truncate: TruncateName = "model",
        windows: PooledWindows | None = None,
        query_prompt_name: str | None = None,
        metric: MetricName = "cosine",
        top_k: int = 10,
        timeout_s: float | None = None,
    ) -> list[list[StoredHit]]: ...
    async def search(
        self,
        queries: Comparable,
        documents: Iterable[str] | AsyncIterable[str] | Vectors | None = None,
        *,
        vectors: StoredVectors | None = None,
        group_by: str | None = None,
        model: str = "",
        normalize: bool = True,
        dimensions: int | None = None,
        truncate: TruncateName = "model",
        windows: PooledWindows | None = None,
        query_prompt_name: str | None = None,
        document_prompt_name: str | None = None,
        metric: MetricName = "cosine",
        top_k: int = 10,
        timeout_s: float | None = None,
    ) -> list[list[Hit]] | list[list[StoredHit]]:
        """Find the best documents or stored vectors for each query; see `Client.search`.

        Raises:
            InputError: If an argument is wrong.
            UnitvecError: If the call fails.
        """
        options = SearchOptions(
            model,
            normalize,
            dimensions,
            truncate,
            windows,
            query_prompt_name,
            document_prompt_name,
            metric,
            top_k,
            timeout_s=timeout_s,
        )
        stored = open_search(documents, vectors, top_k=top_k, metric=metric, group_by=group_by)
        if stored is not None:
            return await self._run(self._core.search_stored(queries, stored, options))
        return await self._run(self._core.search(queries, documents, options), in_python(documents))

    @overload
    async def tokenize(  # type: ignore[overload-overlap]  # a str is also a sequence of str
        self,
        texts: str,
        *,
        model: str = "",
        prompt_name: str | None = None,
        truncate: TruncateName = "model",
        timeout_s: float | None = None,
    ) -> TokenizedText: ...
    @overload
    async def tokenize(
        self,
        texts: Sequence[str],
        *,
        model: str = "",
        prompt_name: str | None = None,
        truncate: TruncateName = "model",
        timeout_s: float | None = None,
    ) -> list[TokenizedText]: ...
    async def tokenize(
        self,
        texts: str | Sequence[str],
        *,
        model: str = "",
        prompt_name: str | None = None,
        truncate: TruncateName = "model",
        timeout_s: float | None = None,
    ) -> TokenizedText | list[TokenizedText]:
        """Show how texts are split into tokens; see `Client.tokenize`.

        Raises:
            InputError: If an argument is wrong.
            UnitvecError: If the call fails.
        """
        options = TokenizeOptions(model, prompt_name, truncate, timeout_s=timeout_s)
        found = await self._run(self._core.tokenize(texts, options))
        return found[0] if isinstance(texts, str) else found

    async def models(self, *, timeout_s: float | None = None) -> ServerInfo:
        """Ask what is served and which limits hold; see `Client.models`.

        Raises:
            UnitvecError: If the call fails.
        """
        return await self._run(self._core.models(CallOptions(timeout_s=timeout_s)))

    async def verify(self, *, model: str = "", timeout_s: float | None = None) -> Verification:
        """Hold vectors against those of the model's export; see `Client.verify`.

        Raises:
            VerificationError: If they are others.
            UnitvecError: If the call fails.
        """
        return await self._run(self._core.verify(VerifyOptions(model=model, timeout_s=timeout_s)))

    async def reload_models(
        self, *, model: str = "", timeout_s: float | None = None
    ) -> tuple[ReloadedModel, ...]:
        """Let the server load models anew; see `Client.reload_models`.

        Raises:
            UnitvecError: If the call fails.
        """
        options = ReloadOptions(model=model, timeout_s=timeout_s)
        return await self._run(self._core.reload_models(options))

    async def health(self, service: str = "", *, timeout_s: float | None = None) -> str:
        """Ask whether the server is ready; see `Client.health`.

        Raises:
            UnitvecError: If the call fails; UnavailableError if nobody answers.
        """
        return await self._run(self._core.health(service, CallOptions(timeout_s=timeout_s)))

    async def close(self) -> None:
        """Close the connection. Calls in flight fail with CallCancelledError."""
        await self._link.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self._target!r})"

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
        return await run(self._link.open(), script, source)

    async def _iterate(self, script: Script[None], source: Any) -> AsyncIterator[Any]:
        items = iterate(self._link.open(), script, source)
        async with contextlib.aclosing(items):
            async for item in items:
                yield item
