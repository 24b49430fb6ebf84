"""What a caller may ask for, checked before anything is sent.

The options of each method are one frozen dataclass. Its fields are the keyword parameters of
that method in `Client` and in `AsyncClient`, in the same order; a test holds the three together.
What an option means is said once, in the docstring of the method of `Client`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from unitvec_client.errors import InputError
from unitvec_client.expectation import Expectation
from unitvec_client.values import (
    check_choice,
    check_type,
    read_count,
    read_flag,
    read_seconds,
    read_text,
)
from unitvec_protos.v1 import embedding_pb2 as pb

TruncateName = Literal["model", "end", "start", "error"]
DtypeName = Literal["float32", "float16", "int8", "binary"]
ErrorsName = Literal["raise", "return"]
MetricName = Literal["cosine", "dot", "euclidean", "manhattan"]

TRUNCATES: dict[str, pb.Truncate] = {
    "model": pb.TRUNCATE_UNSPECIFIED,
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
ERRORS: dict[str, bool] = {"raise": False, "return": True}
"""Whether texts fail one by one, by name."""
METRICS: dict[str, pb.Metric] = {
    "cosine": pb.METRIC_COSINE,
    "dot": pb.METRIC_DOT,
    "euclidean": pb.METRIC_EUCLIDEAN,
    "manhattan": pb.METRIC_MANHATTAN,
}


@dataclass(frozen=True, slots=True)
class CallOptions:
    """Options of every call. `timeout_s` comes last in all that inherit from it."""

    timeout_s: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for name, declared in self.__dataclass_fields__.items():
            value = getattr(self, name)
            if value is not declared.default and name in _READERS:
                # The value is taken over in Python's own type, such as int for numpy's int64.
                object.__setattr__(self, name, _READERS[name](name, value))


@dataclass(frozen=True, slots=True)
class EncodeOptions(CallOptions):
    """How texts become vectors."""

    model: str = ""
    normalize: bool = True
    dimensions: int | None = None
    truncate: TruncateName = "model"

    def to_proto(self, prompt_name: str | None, expect: Expectation) -> pb.EncodeOptions:
        """Return the message.

        Args:
            expect: Fingerprints that the vectors must have.
            prompt_name: The prompt put before each text: None for the model's default, empty
                for no prompt.
        """
        return pb.EncodeOptions(
            normalize=self.normalize,
            dimensions=self.dimensions or 0,
            prompt_name=prompt_name,
            truncate=TRUNCATES[self.truncate],
            expected_space=expect.space,
            expected_bits=expect.bits,
        )


@dataclass(frozen=True, slots=True)
class _WindowOptions:
    tokens: int | None = None
    overlap_tokens: int = 0
    pooled: ClassVar[bool]

    def __post_init__(self) -> None:
        if self.tokens is not None:
            object.__setattr__(self, "tokens", read_count("tokens", self.tokens))
        if self.overlap_tokens:
            overlap = read_count("overlap_tokens", self.overlap_tokens)
            object.__setattr__(self, "overlap_tokens", overlap)

    def to_proto(self) -> pb.Windows:
        """Return the message."""
        return pb.Windows(
            tokens=self.tokens or 0, overlap_tokens=self.overlap_tokens, pooled=self.pooled
        )


@dataclass(frozen=True, slots=True)
class Windows(_WindowOptions):
    """Cut long texts into windows, each of which has a vector of its own.

    A window is embedded as if it were a text by itself. It ends with a sentence or a word where
    there is one near its end; docs/long-texts.md has the rules.

    Attributes:
        tokens: Most tokens of a window, special tokens and prompt included; None for as many as
            the model takes.
        overlap_tokens: Most tokens that a window shares with the one before it.
    """

    pooled = False


@dataclass(frozen=True, slots=True)
class PooledWindows(_WindowOptions):
    """Cut long texts into windows, and join the vectors of each text to one.

    It is the mean of the vectors of the windows, weighted by their tokens, and normalized.

    Attributes:
        tokens: As in `Windows`.
        overlap_tokens: As in `Windows`.
    """

    pooled = True


@dataclass(frozen=True, slots=True)
class VectorOptions(EncodeOptions):
    """How texts become vectors that are sent back."""

    prompt_name: str | None = None
    dtype: DtypeName = "float32"
    windows: Windows | PooledWindows | None = None

    def to_proto(self, prompt_name: str | None, expect: Expectation) -> pb.EncodeOptions:
        """Return the message, with the windows."""
        return _cut(EncodeOptions.to_proto(self, prompt_name, expect), self.windows)


def _cut(options: pb.EncodeOptions, windows: Windows | PooledWindows | None) -> pb.EncodeOptions:
    if windows is not None:
        options.windows.CopyFrom(windows.to_proto())
    return options


@dataclass(frozen=True, slots=True)
class EmbedOptions(VectorOptions):
    """Options of `embed` and `embed_result`."""

    errors: ErrorsName = "raise"


@dataclass(frozen=True, slots=True)
class StreamOptions(VectorOptions):
    """Options of `embed_stream`."""

    chunk_texts: int = 64


@dataclass(frozen=True, slots=True)
class ComparisonOptions(EncodeOptions):
    """How texts become vectors that are compared: one of each text."""

    windows: PooledWindows | None = None

    def __post_init__(self) -> None:
        CallOptions.__post_init__(self)  # In a dataclass with slots, super() does not work.
        check_type("windows", self.windows, (PooledWindows, type(None)))

    def to_proto(self, prompt_name: str | None, expect: Expectation) -> pb.EncodeOptions:
        """Return the message, with the windows."""
        return _cut(EncodeOptions.to_proto(self, prompt_name, expect), self.windows)


@dataclass(frozen=True, slots=True)
class SimilarityOptions(ComparisonOptions):
    """Options of `similarity`."""

    prompt_name: str | None = None
    metric: MetricName = "cosine"
    pairs: bool = False
    top_k: int | None = None

    def __post_init__(self) -> None:
        ComparisonOptions.__post_init__(self)
        if self.pairs and self.top_k is not None:
            raise InputError("pairs and top_k exclude each other")


@dataclass(frozen=True, slots=True)
class SearchOptions(ComparisonOptions):
    """Options of `search`."""

    query_prompt_name: str | None = None
    document_prompt_name: str | None = None
    metric: MetricName = "cosine"
    top_k: int = 10

    def for_queries(self) -> EmbedOptions:
        """Return how the texts of queries are embedded, where vectors are searched here."""
        return EmbedOptions(
            *(self.model, self.normalize, self.dimensions, self.truncate, self.query_prompt_name),
            windows=self.windows,
            timeout_s=self.timeout_s,
        )


@dataclass(frozen=True, slots=True)
class VerifyOptions(CallOptions):
    """Options of `verify`."""

    model: str = ""


@dataclass(frozen=True, slots=True)
class ReloadOptions(CallOptions):
    """Options of `reload_models`."""

    model: str = ""


@dataclass(frozen=True, slots=True)
class TokenizeOptions(CallOptions):
    """Options of `tokenize`."""

    model: str = ""
    prompt_name: str | None = None
    truncate: TruncateName = "model"


def _read_windows(name: str, value: object) -> object:
    check_type(name, value, (Windows, PooledWindows, type(None)))
    return value


def _choice(choices: dict[str, Any]) -> Callable[[str, object], str]:
    def read(name: str, value: object) -> str:
        check_choice(name, value, choices)
        return str(value)

    return read


# Each option by its name, which means the same in every method. A value that is the default is
# not read: None is legal where None is the default.
_READERS: dict[str, Callable[[str, object], Any]] = {
    "timeout_s": read_seconds,
    "model": read_text,
    "normalize": read_flag,
    "dimensions": read_count,
    "truncate": _choice(TRUNCATES),
    "prompt_name": read_text,
    "query_prompt_name": read_text,
    "document_prompt_name": read_text,
    "dtype": _choice(DTYPES),
    "windows": _read_windows,
    "errors": _choice(ERRORS),
    "chunk_texts": read_count,
    "metric": _choice(METRICS),
    "pairs": read_flag,
    "top_k": read_count,
}
