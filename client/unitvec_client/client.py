"""The blocking client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
from unitvec_client.drivers.blocking import Link, iterate, run
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


class Client:
    """Calls a unitvec server. Connects at the first call; threads may share one client.

    Every method checks its arguments before anything is sent and raises from one tree,
    `UnitvecError`. A process that is forked off while no call is in flight connects anew.

        with Client("localhost:50051") as client:
            vectors = client.embed(["a cat on a mat", "a feline on a rug"])

    Args:
        target: ``host:port`` or any other gRPC target; None for the variable UNITVEC_TARGET, or
            localhost:50051 where it is not set.
        connection: TLS, token and channel options.
        retry: When to send again.
        timeout_s: Time for a call that names none, in seconds; None for no deadline.
        expect: Fingerprint that all vectors must have, of their space (``s1-...``) or of their bits
            (``b1-...``), as `ModelInfo` and results tell it; None for any. Calls to a model that
            has another raise IdentityMismatchError before any text is sent.
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
    def embed(
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
    def embed(
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
    def embed(
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
    def embed(
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
        """Turn texts into vectors. Any number of texts is split and put together again.

        Args:
            texts: One text or many. An empty text is legal.
            model: Name of the model; empty for the server's default.
            normalize: Scale each vector to unit L2 norm. False returns what the model's own
                pipeline returns.
            dimensions: Keep only this many leading dimensions; None keeps all.
            truncate: What happens to texts that are too long: cut the ``end`` or the ``start``
                off, or the side that the ``model`` itself cuts, or refuse them with an ``error``.
            prompt_name: The prompt put before each text, by name; None for the model's default
                prompt, empty for no prompt.
            dtype: Number type on the wire and in the result: ``float32``; ``float16`` at half
                the bytes; ``int8`` at a quarter; ``binary``, sign bits, at a 32nd.
            windows: Cut long texts into windows instead: `Windows` for a vector of each window,
                `PooledWindows` for one of each text.
            errors: What a text does that cannot be embedded (too large, too long with ``truncate``
                ``error``, not valid Unicode, or one that the model fails on): ``raise`` its error,
                and there are no vectors; or ``return`` it beside the vectors of all others.
            timeout_s: Time for the whole call, retries included, in seconds; None for the
                client's own.

        Returns:
            float32 (n, D), or (D,) for a single str. float16 for dtype ``float16``; float32,
            rounded to 8 bits, for ``int8``; uint8 (n, ceil(D / 8)) of packed sign bits for
            ``binary``. No texts give (0, D). With `errors` ``return``, these vectors, with NaN in
            the rows of texts that failed, and the list of errors: `PartialVectors`. With `Windows`,
            the windows and their vectors: `WindowedResult`, which is no array.

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
            return self._run(self._core.embed_windows(texts, options))
        result, single = self._run(self._core.embed(texts, options)), isinstance(texts, str)
        if errors == "return":
            return result.unpack_partly(single=single)
        return result.unpack(single=single)

    @overload
    def embed_result(
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
    def embed_result(
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
    def embed_result(
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
        """Like `embed`, with scales, token counts, truncation, model and timings.

        Arguments are those of `embed`; a single str is one text, (1, D) here.

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
            return self._run(self._core.embed_windows(texts, options))
        return self._run(self._core.embed(texts, options))

    def embed_stream(
        self,
        texts: Iterable[str],
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
    ) -> Iterator[StreamItem]:
        """Turn texts into vectors while they are read: in order, with bounded memory.

        Reads ahead of what it yields by at most 8 chunks of `chunk_texts`; the iterable is
        read in the thread that consumes. A text that is refused yields its own error and
        harms no other. Where the connection breaks, it is opened again and what was not
        answered is sent again. Further arguments are those of `embed`.

        Args:
            texts: The texts.
            chunk_texts: Texts sent in one message, at most; the server's own limit holds too.
            timeout_s: Time for the whole stream, in seconds; None for no deadline.

        Returns:
            An iterator; closing it (or leaving a loop over it) ends the call.

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
        return iterate(self._link.open(), self._core.embed_stream(options), source)

    @overload
    def similarity(
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
    def similarity(
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
    def similarity(
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
        """Compare every `a` with every `b`, or pair by pair.

        Further arguments are those of `embed`; `prompt_name` holds for both sides.

        Args:
            a: A text, texts, or vectors (n, D).
            b: The same.
            windows: Compare long texts as the mean of their windows, in place of what is left of
                them once they are cut off.
            metric: ``cosine`` and ``dot`` (higher is closer), ``euclidean`` and ``manhattan``
                (distances: lower is closer). A model that was trained for another one than the
                cosine says so as `ModelInfo.similarity_fn_name`; most such models also want
                ``normalize=False``.
            pairs: Compare a[i] with b[i] only.
            top_k: Return the best k of `b` for each of `a`, in place of all scores.

        Returns:
            float32 (n, m); (n,) with `pairs`; `Rankings` with `top_k`.

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
        return self._run(self._core.similarity(a, b, options))

    @overload
    def search(
        self,
        queries: Comparable,
        documents: Iterable[str] | Vectors,
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
    def search(
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
    def search(
        self,
        queries: Comparable,
        documents: Iterable[str] | Vectors | None = None,
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
        """Find the best documents for each query.

        Documents are streamed to the server. Stored vectors, such as `unitvec embed` writes, are
        searched here: exactly, in bounded memory, and only if they are of the queries' space.

        Further arguments are those of `similarity`.

        Args:
            queries: A text, texts, or vectors (n, D).
            documents: Texts from any iterable, or vectors (m, D). The texts are kept until
                the call ends, for the hits.
            vectors: In place of documents a file (.npy, .parquet, .jsonl) or an array (m, D) of
                float32, float16, float64, int8, or uint8 of packed signs. The metric is cosine
                or dot. Rows that are missing or not finite are passed over; zeros score 0.
            group_by: With a file of vectors: a name under which rows of one text have the same,
                such as ``line`` of windows. The best row of each is the hit.
            query_prompt_name: The prompt put before each query, by name; None for the model's
                default prompt, empty for no prompt.
            document_prompt_name: The prompt put before each document.
            top_k: Hits for each query, at most.

        Returns:
            For each query its hits, best first; `StoredHit` where vectors are given.

        Raises:
            InputError: If an argument is wrong.
            IdentityMismatchError: If stored vectors are of another space than the queries.
            UnitvecError: If the call fails.
            OSError: If a file of vectors cannot be read.
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
            return self._run(self._core.search_stored(queries, stored, options))
        return self._run(self._core.search(queries, documents, options), in_python(documents))

    @overload
    def tokenize(  # type: ignore[overload-overlap]  # a str is also a sequence of str
        self,
        texts: str,
        *,
        model: str = "",
        prompt_name: str | None = None,
        truncate: TruncateName = "model",
        timeout_s: float | None = None,
    ) -> TokenizedText: ...
    @overload
    def tokenize(
        self,
        texts: Sequence[str],
        *,
        model: str = "",
        prompt_name: str | None = None,
        truncate: TruncateName = "model",
        timeout_s: float | None = None,
    ) -> list[TokenizedText]: ...
    def tokenize(
        self,
        texts: str | Sequence[str],
        *,
        model: str = "",
        prompt_name: str | None = None,
        truncate: TruncateName = "model",
        timeout_s: float | None = None,
    ) -> TokenizedText | list[TokenizedText]:
        """Show how texts are split into tokens, and what `embed` would cut off.

        Arguments are those of `embed`; the truncation ``error`` is the same as ``model`` here.

        Returns:
            One result for each text; a single one for a single str.

        Raises:
            InputError: If an argument is wrong.
            UnitvecError: If the call fails.
        """
        options = TokenizeOptions(model, prompt_name, truncate, timeout_s=timeout_s)
        found = self._run(self._core.tokenize(texts, options))
        return found[0] if isinstance(texts, str) else found

    def models(self, *, timeout_s: float | None = None) -> ServerInfo:
        """Ask what is served and which limits hold.

        Args:
            timeout_s: Time for the call, in seconds; None for the client's own.

        Raises:
            UnitvecError: If the call fails.
        """
        return self._run(self._core.models(CallOptions(timeout_s=timeout_s)))

    def verify(self, *, model: str = "", timeout_s: float | None = None) -> Verification:
        """Hold vectors of a few texts against those that the model had when it was exported.

        Args:
            model: Name of the model; empty for the server's default.
            timeout_s: Time for the call, in seconds; None for the client's own.

        Raises:
            VerificationError: If they are others: the server computes wrong vectors.
            RefusedError: If the model's artifact is too old to tell.
            UnitvecError: If the call fails.
        """
        return self._run(self._core.verify(VerifyOptions(model=model, timeout_s=timeout_s)))

    def reload_models(
        self, *, model: str = "", timeout_s: float | None = None
    ) -> tuple[ReloadedModel, ...]:
        """Let the server load what the folders of models hold now, and switch to it.

        It is for operators: the server answers where it has an ``--admin-token-file``, and the
        token of the connection is one of that file. Loading goes on when the time is over.

        Args:
            model: Name of the model; empty for all.
            timeout_s: Time for the call, in seconds; None for the client's own.

        Returns:
            What came of each model. One that was refused stays in use as it was.

        Raises:
            UnitvecError: If the call fails.
        """
        options = ReloadOptions(model=model, timeout_s=timeout_s)
        return self._run(self._core.reload_models(options))

    def health(self, service: str = "", *, timeout_s: float | None = None) -> str:
        """Ask whether the server, or one of its services, is ready. Never retried.

        Args:
            service: Full name, such as ``unitvec.v1.EmbeddingService``; empty for all.
            timeout_s: Time for the call, in seconds; None for the client's own.

        Returns:
            ``SERVING``, ``NOT_SERVING``, ``SERVICE_UNKNOWN`` or ``UNKNOWN``.

        Raises:
            UnitvecError: If the call fails; UnavailableError if nobody answers.
        """
        return self._run(self._core.health(service, CallOptions(timeout_s=timeout_s)))

    def close(self) -> None:
        """Close the connection. Calls in flight fail with CallCancelledError."""
        self._link.close()

    def __repr__(self) -> str:
        return f"Client({self._target!r})"

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
        return run(self._link.open(), script, source)
