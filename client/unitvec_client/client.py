"""The blocking client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

import grpc
import numpy as np
from numpy.typing import NDArray

from unitvec_client.connection import DEFAULT_TARGET, ConnectionOptions, open_channel
from unitvec_client.core.core import DEFAULT_TIMEOUT_S, Core
from unitvec_client.core.inputs import Comparable, Vectors, check_iterable
from unitvec_client.core.steps import Script
from unitvec_client.drivers import blocking
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


class Client:
    """Calls a unitvec server. Connects at the first call; threads may share one client.

    Every method checks its arguments before anything is sent and raises from one tree,
    `UnitvecError`. `timeout_s` bounds a whole call with all its retries.

        with Client("localhost:50051") as client:
            vectors = client.embed(["a cat on a mat", "a feline on a rug"])

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
        connection = connection or ConnectionOptions()
        self._core = Core(connection, retry or RetryPolicy(), timeout_s)
        self._channel: grpc.Channel | None = open_channel(target, connection)

    def embed(self, texts: str | Sequence[str], **options: Unpack[EmbedKeywords]) -> NDArray[Any]:
        """Turn texts into vectors. Any number of texts is split and put together again.

        Args:
            texts: One text or many. An empty text is legal.
            **options: As in `EmbedOptions`: model, normalize, dimensions, prompt_name,
                truncate, dtype, timeout_s.

        Returns:
            float32 (n, D), or (D,) for a single str. float16 for dtype ``float16``; float32,
            rounded to 8 bits, for ``int8``; uint8 (n, ceil(D / 8)) of packed sign bits for
            ``binary``. No texts give (0, D).

        Raises:
            InputError: If an argument is wrong.
            UnitvecError: If the call fails; all or nothing.
        """
        return self._run(self._core.embed(texts, options))

    def embed_result(
        self, texts: str | Sequence[str], **options: Unpack[EmbedKeywords]
    ) -> EmbedResult:
        """Like `embed`, with scales, token counts, truncation, model and timings.

        Args:
            texts: One text or many; one is (1, D) here.
            **options: As for `embed`.

        Raises:
            InputError: If an argument is wrong.
            UnitvecError: If the call fails; all or nothing.
        """
        return self._run(self._core.embed_result(texts, options))

    def embed_stream(
        self, texts: Iterable[str], **options: Unpack[StreamKeywords]
    ) -> Iterator[StreamItem]:
        """Turn texts into vectors while they are read: in order, with bounded memory.

        Reads ahead of what it yields by at most 8 chunks of `chunk_texts`; the iterable is
        read in the thread that consumes. A text that is refused yields its own error and
        harms no other. Where the connection breaks, it is opened again and what was not
        answered is sent again.

        Args:
            texts: The texts.
            **options: As in `StreamOptions`: those of `embed`, and chunk_texts. There is no
                deadline unless `timeout_s` sets one.

        Returns:
            An iterator; closing it (or leaving a loop over it) ends the call.

        Raises:
            InputError: If an argument is wrong.
            UnitvecError: If the stream breaks for good.
        """
        script = self._core.embed_stream(options)
        return blocking.iterate(self._open_channel(), script, check_iterable(texts))

    @overload
    def similarity(
        self,
        a: Comparable,
        b: Comparable,
        *,
        top_k: None = None,
        **options: Unpack[SimilarityKeywords],
    ) -> NDArray[np.float32]: ...
    @overload
    def similarity(
        self, a: Comparable, b: Comparable, *, top_k: int, **options: Unpack[SimilarityKeywords]
    ) -> Rankings: ...
    def similarity(
        self,
        a: Comparable,
        b: Comparable,
        *,
        top_k: int | None = None,
        **options: Unpack[SimilarityKeywords],
    ) -> NDArray[np.float32] | Rankings:
        """Compare every `a` with every `b`, or pair by pair.

        Args:
            a: Texts, or vectors (n, D).
            b: Texts, or vectors (m, D).
            top_k: Return only the best k of `b` for each `a`.
            **options: As in `SimilarityOptions`: metric, pairs, model, normalize, dimensions,
                prompt_name, truncate, timeout_s.

        Returns:
            Scores float32 (n, m); (n,) for pairs; `Rankings` for top_k.

        Raises:
            InputError: If an argument is wrong.
            UnitvecError: If the call fails.
        """
        return self._run(self._core.similarity(a, b, {**options, "top_k": top_k}))

    def search(
        self,
        queries: Comparable,
        documents: Iterable[str] | Vectors,
        **options: Unpack[SearchKeywords],
    ) -> list[list[Hit]]:
        """Find the best documents for each query. Documents are streamed to the server.

        Args:
            queries: A text, texts, or vectors (n, D).
            documents: Texts from any iterable, or vectors (m, D). The texts are kept until
                the call ends, for the hits.
            **options: As in `SearchOptions`: top_k, metric, model, normalize, dimensions,
                query_prompt_name, document_prompt_name, truncate, timeout_s.

        Returns:
            For each query its hits, best first.

        Raises:
            InputError: If an argument is wrong.
            UnitvecError: If the call fails.
        """
        return self._run(self._core.search(queries, documents, options), documents)

    @overload
    def tokenize(  # type: ignore[overload-overlap]  # a str is also a sequence of str
        self, texts: str, **options: Unpack[TokenizeKeywords]
    ) -> TokenizedText: ...
    @overload
    def tokenize(
        self, texts: Sequence[str], **options: Unpack[TokenizeKeywords]
    ) -> list[TokenizedText]: ...
    def tokenize(
        self, texts: str | Sequence[str], **options: Unpack[TokenizeKeywords]
    ) -> TokenizedText | list[TokenizedText]:
        """Show how texts are split into tokens, and what `embed` would cut off.

        Args:
            texts: One text or many.
            **options: As in `TokenizeOptions`: model, prompt_name, truncate, timeout_s.

        Returns:
            One result for each text; a single one for a single str.

        Raises:
            InputError: If an argument is wrong.
            UnitvecError: If the call fails.
        """
        return self._run(self._core.tokenize(texts, options))

    def models(self, **options: Unpack[CallKeywords]) -> ServerInfo:
        """Ask what is served and which limits hold.

        Args:
            **options: timeout_s.

        Raises:
            UnitvecError: If the call fails.
        """
        return self._run(self._core.models(options))

    def health(self, service: str = "", **options: Unpack[CallKeywords]) -> str:
        """Ask whether the server, or one of its services, is ready. Never retried.

        Args:
            service: Full name, such as ``unitvec.v1.EmbeddingService``; empty for all.
            **options: timeout_s.

        Returns:
            ``SERVING``, ``NOT_SERVING``, ``SERVICE_UNKNOWN`` or ``UNKNOWN``.

        Raises:
            UnitvecError: If the call fails; UnavailableError if nobody answers.
        """
        return self._run(self._core.health(service, options))

    def close(self) -> None:
        """Close the connection. Calls in flight fail with CallCancelledError."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, script: Script[T], source: Any = ()) -> T:
        return blocking.run(self._open_channel(), script, source)

    def _open_channel(self) -> grpc.Channel:
        if self._channel is None:
            raise ClientClosedError("the client is closed")
        return self._channel
