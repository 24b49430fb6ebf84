"""What a caller may ask for, checked before anything is sent.

Each method's options are one frozen dataclass here (what the core reads) and one TypedDict
(what the methods accept as keywords); a test holds the two to the same names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, TypeVar

from unitvec_client.errors import InputError, InputTypeError
from unitvec_protos.v1 import embedding_pb2 as pb

TruncateName = Literal["end", "start", "error"]
DtypeName = Literal["float32", "float16", "int8", "binary"]
MetricName = Literal["cosine", "dot", "euclidean", "manhattan"]

TRUNCATES: dict[str, pb.Truncate] = {
    "end": pb.TRUNCATE_END,
    "start": pb.TRUNCATE_START,
    "error": pb.TRUNCATE_ERROR,
}
DTYPES: dict[str, pb.Dtype] = {
    "float32": pb.DTYPE_FLOAT32,
    "float16": pb.DTYPE_FLOAT16,
    "int8": pb.DTYPE_INT8,
    "binary": pb.DTYPE_BINARY,
}
METRICS: dict[str, pb.Metric] = {
    "cosine": pb.METRIC_COSINE,
    "dot": pb.METRIC_DOT,
    "euclidean": pb.METRIC_EUCLIDEAN,
    "manhattan": pb.METRIC_MANHATTAN,
}

T = TypeVar("T")
_MAX_UINT32 = 2**32 - 1


class CallKeywords(TypedDict, total=False):
    """Keywords of every call; see `CallOptions`."""

    timeout_s: float | None


class EncodeKeywords(CallKeywords, total=False):
    """Keywords of every call that embeds texts; see `EncodeOptions`."""

    model: str
    normalize: bool
    dimensions: int | None
    truncate: TruncateName


class EmbedKeywords(EncodeKeywords, total=False):
    """Keywords of `embed` and `embed_result`; see `EmbedOptions`."""

    prompt_name: str | None
    dtype: DtypeName


class StreamKeywords(EmbedKeywords, total=False):
    """Keywords of `embed_stream`; see `StreamOptions`."""

    chunk_texts: int


class SimilarityKeywords(EncodeKeywords, total=False):
    """Keywords of `similarity`; see `SimilarityOptions`."""

    metric: MetricName
    pairs: bool
    prompt_name: str | None


class SearchKeywords(EncodeKeywords, total=False):
    """Keywords of `search`; see `SearchOptions`."""

    metric: MetricName
    top_k: int
    query_prompt_name: str | None
    document_prompt_name: str | None


class TokenizeKeywords(CallKeywords, total=False):
    """Keywords of `tokenize`; see `TokenizeOptions`."""

    model: str
    prompt_name: str | None
    truncate: TruncateName


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """Options of every call.

    Attributes:
        timeout_s: Time for the whole call, retries included, in seconds; None for the client's own,
            which its constructor sets (a stream of texts has none).
    """

    timeout_s: float | None = None

    def __post_init__(self) -> None:
        if self.timeout_s is None:
            return
        check_type("timeout_s", self.timeout_s, (int, float))
        if not (math.isfinite(self.timeout_s) and self.timeout_s > 0):
            raise InputError(f"timeout_s must be positive, not {self.timeout_s}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeOptions(CallOptions):
    """How texts become vectors.

    Attributes:
        model: Name of the model; empty for the server's default.
        normalize: Scale each vector to unit L2 norm. False returns what the model's own
            pipeline returns.
        dimensions: Keep only this many leading dimensions; None keeps all.
        truncate: What happens to texts that are too long: cut the ``end`` or the ``start``
            off, or refuse them with an ``error``.
    """

    model: str = ""
    normalize: bool = True
    dimensions: int | None = None
    truncate: TruncateName = "end"

    def __post_init__(self) -> None:
        # Zero-argument super() does not work in a dataclass with slots.
        CallOptions.__post_init__(self)
        check_type("model", self.model, (str,))
        check_type("normalize", self.normalize, (bool,))
        check_choice("truncate", self.truncate, TRUNCATES)
        check_count("dimensions", self.dimensions)

    def to_proto(self, prompt_name: str | None) -> pb.EncodeOptions:
        """Return the message.

        Args:
            prompt_name: The prompt put before each text: None for the model's default, empty
                for no prompt.
        """
        options = pb.EncodeOptions(
            normalize=self.normalize,
            dimensions=self.dimensions or 0,
            truncate=TRUNCATES[self.truncate],
        )
        if prompt_name is not None:
            options.prompt_name = prompt_name
        return options


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedOptions(EncodeOptions):
    """Options of `embed` and `embed_result`.

    Attributes:
        prompt_name: The prompt put before each text, by name; None for the model's default
            prompt, empty for no prompt.
        dtype: Number type on the wire and in the result: ``float32``; ``float16`` at half
            the bytes; ``int8`` at a quarter; ``binary``, sign bits, at a 32nd.
    """

    prompt_name: str | None = None
    dtype: DtypeName = "float32"

    def __post_init__(self) -> None:
        EncodeOptions.__post_init__(self)
        check_type("prompt_name", self.prompt_name, (str, type(None)))
        check_choice("dtype", self.dtype, DTYPES)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions(EmbedOptions):
    """Options of `embed_stream`.

    Attributes:
        chunk_texts: Texts sent in one message, at most; the server's own limit holds too.
    """

    chunk_texts: int = 64

    def __post_init__(self) -> None:
        EmbedOptions.__post_init__(self)
        check_type("chunk_texts", self.chunk_texts, (int,))
        check_count("chunk_texts", self.chunk_texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarityOptions(EncodeOptions):
    """Options of `similarity`.

    Attributes:
        metric: ``cosine`` and ``dot`` (higher is closer), ``euclidean`` and ``manhattan``
            (distances: lower is closer).
        pairs: Compare a[i] with b[i] only.
        top_k: Return the best k of `b` for each of `a`, in place of all scores.
        prompt_name: As in `EmbedOptions`, for both sides.
    """

    metric: MetricName = "cosine"
    pairs: bool = False
    top_k: int | None = None
    prompt_name: str | None = None

    def __post_init__(self) -> None:
        EncodeOptions.__post_init__(self)
        check_choice("metric", self.metric, METRICS)
        check_type("pairs", self.pairs, (bool,))
        check_type("prompt_name", self.prompt_name, (str, type(None)))
        check_count("top_k", self.top_k)
        if self.pairs and self.top_k is not None:
            raise InputError("pairs and top_k exclude each other")


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions(EncodeOptions):
    """Options of `search`.

    Attributes:
        metric: As in `SimilarityOptions`.
        top_k: Hits for each query, at most.
        query_prompt_name: The prompt put before each query, as in `EmbedOptions`.
        document_prompt_name: The prompt put before each document.
    """

    metric: MetricName = "cosine"
    top_k: int = 10
    query_prompt_name: str | None = None
    document_prompt_name: str | None = None

    def __post_init__(self) -> None:
        EncodeOptions.__post_init__(self)
        check_choice("metric", self.metric, METRICS)
        check_type("top_k", self.top_k, (int,))
        check_count("top_k", self.top_k)
        check_type("query_prompt_name", self.query_prompt_name, (str, type(None)))
        check_type("document_prompt_name", self.document_prompt_name, (str, type(None)))


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizeOptions(CallOptions):
    """Options of `tokenize`.

    Attributes:
        model: Name of the model; empty for the server's default.
        prompt_name: As in `EmbedOptions`.
        truncate: Which side `embed` would cut; ``error`` is the same as ``end`` here.
    """

    model: str = ""
    prompt_name: str | None = None
    truncate: TruncateName = "end"

    def __post_init__(self) -> None:
        CallOptions.__post_init__(self)
        check_type("model", self.model, (str,))
        check_type("prompt_name", self.prompt_name, (str, type(None)))
        check_choice("truncate", self.truncate, TRUNCATES)


def parse_options(kind: type[T], keywords: Any) -> T:
    """Return options of this kind from a method's keywords.

    Raises:
        InputTypeError: If a keyword is unknown.
        InputError: If a value is not valid.
    """
    known = set(kind.__dataclass_fields__)  # type: ignore[attr-defined]  # kinds are dataclasses
    unknown = sorted(set(keywords) - known)
    if unknown:
        expected = ", ".join(sorted(known))
        raise InputTypeError(f"unknown option {unknown[0]!r}; expected {expected}")
    return kind(**keywords)


def check_type(name: str, value: object, kinds: tuple[type, ...]) -> None:
    """Raise InputTypeError unless the value is of one of these types; a bool is no number."""
    if isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds):
        return
    expected = " or ".join("None" if kind is type(None) else kind.__name__ for kind in kinds)
    raise InputTypeError(f"{name} must be {expected}, not {type(value).__name__}")


def check_choice(name: str, value: object, choices: dict[str, Any]) -> None:
    """Raise InputError unless the value is one of these names."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def check_count(name: str, value: int | None) -> None:
    """Raise InputError unless the value is None or at least 1."""
    if value is None:
        return
    check_type(name, value, (int,))
    if not 1 <= value <= _MAX_UINT32:
        raise InputError(f"{name} must be at least 1, not {value}")
