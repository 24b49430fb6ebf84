"""What calls return. All arrays are writable, in native byte order, and own their memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unitvec_client.errors import UnitvecError


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the server's time went, in nanoseconds, summed over the requests it took.

    Attributes:
        tokenize_ns: Time from text to tokens.
        queue_ns: Time of waiting for the first batch to start.
        infer_ns: Time from the start of the first batch to the end of the last one.
        total_ns: Time from the decoded request to the finished response.
    """

    tokenize_ns: int = 0
    queue_ns: int = 0
    infer_ns: int = 0
    total_ns: int = 0


@dataclass(frozen=True, slots=True)
class FailedText:
    """A text that has no vector, among others that have theirs.

    Attributes:
        index: Place of the text in the input, from 0.
        error: Reason; its `field` names the text.
    """

    index: int
    error: UnitvecError


class PartialVectors(NamedTuple):
    """Vectors of the texts that could be embedded, and why the others could not.

    Attributes:
        vectors: As `Client.embed` returns them, a row for each text. Rows of texts that failed are
            NaN; those of dtype ``binary``, which has no NaN, are 0.
        errors: The texts that failed, in order.
    """

    vectors: NDArray[Any]
    errors: list[FailedText]

    def __repr__(self) -> str:
        return f"<PartialVectors {describe(self.vectors)}, {len(self.errors):,} failed>"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class EmbedResult:
    """Vectors as they came, and what they cost.

    Attributes:
        vectors: (n, D) float32 or float16; (n, D) int8, to be multiplied by `scales`; or
            (n, ceil(D / 8)) uint8 of packed sign bits, the first value in the highest bit.
        scales: (n,) float32, for int8 only.
        tokens: (n,) uint32: tokens encoded for each text, special tokens included; 0 for one that
            failed.
        truncated: Indices of the texts that were cut, ascending.
        model: Name of the model that made them.
        timings: Parts of the server's time.
        left_out_tokens: Number of tokens left out of each text in `truncated`, in that order.
        errors: Texts that failed, in order; their rows are as in `PartialVectors`. Empty unless
            errors are returned.
        space: Fingerprint of their space: vectors of one space may be compared.
        bits: Fingerprint of how they were computed. Both are empty if the server does not tell.
    """

    vectors: NDArray[Any]
    scales: NDArray[np.float32] | None
    tokens: NDArray[np.uint32]
    truncated: tuple[int, ...]
    model: str
    timings: Timings
    left_out_tokens: tuple[int, ...] = ()
    errors: tuple[FailedText, ...] = ()
    space: str = ""
    bits: str = ""

    def __len__(self) -> int:
        return len(self.vectors)

    def __repr__(self) -> str:
        cut = f", {len(self.truncated)} truncated" if self.truncated else ""
        failed = f", {len(self.errors)} failed" if self.errors else ""
        return f"<EmbedResult {describe(self.vectors)} of {self.model!r}{cut}{failed}>"

    def unpack(self, *, single: bool) -> NDArray[Any]:
        """Return the vectors as numbers, as `Client.embed` does.

        Args:
            single: Whether one str was given, so that the vector is (D,).
        """
        values = scale_rows(self.vectors, self.scales)
        return values[0] if single else values

    def unpack_partly(self, *, single: bool) -> PartialVectors:
        """Return the vectors as numbers and what failed, as `Client.embed` does on request.

        Args:
            single: Whether one str was given, so that the vector is (D,).
        """
        return PartialVectors(self.unpack(single=single), list(self.errors))

    def values(self) -> NDArray[Any]:
        """Return the vectors as numbers: int8 becomes (n, D) float32; others are as they are."""
        return scale_rows(self.vectors, self.scales)


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a text that a vector is of: ``text[start:end]``.

    Attributes:
        text_index: Place of the text in the input, from 0.
        start: Start in the text, in code points.
        end: End in the text, in code points, exclusive.
        byte_start: Start in the text's UTF-8 bytes.
        byte_end: End in the text's UTF-8 bytes, exclusive.
        tokens: Number of tokens encoded, special tokens and prompt included.
    """

    text_index: int
    start: int
    end: int
    byte_start: int
    byte_end: int
    tokens: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class StreamItem:
    """The answer to one text of a stream: a vector or an error.

    Attributes:
        index: Place of the text in the input, from 0.
        vector: (D,) float32 or float16, or (ceil(D / 8),) uint8 for binary; rows of one
            chunk share memory. None if there is an error.
        error: Reason why there is none.
        tokens: Number of tokens encoded; 0 if there is an error.
        truncated: Whether the text was cut.
        left_out_tokens: Number of tokens that were cut off.
        windows: The windows of the text, where they are asked for and not pooled; `vector` is then
            None.
        vectors: Their vectors, (w, D), of the type of `vector`; None without windows.
        space: Fingerprint of the space of the vector.
        bits: Fingerprint of how it was computed.
        scales: Factors of whole numbers for dtype ``int8``, (1,), or (w,) of `vectors`: a vector
            divided by its factor is 8-bit numbers, but for rounding. None for other types.
    """

    index: int
    vector: NDArray[Any] | None = None
    error: UnitvecError | None = None
    tokens: int = 0
    truncated: bool = False
    left_out_tokens: int = 0
    windows: tuple[Window, ...] = ()
    vectors: NDArray[Any] | None = None
    space: str = ""
    bits: str = ""
    scales: NDArray[np.float32] | None = None

    def __repr__(self) -> str:
        found = self.vector if self.vectors is None else self.vectors
        answer = repr(self.error) if found is None else describe(found)
        return f"<StreamItem {self.index}: {answer}{', truncated' if self.truncated else ''}>"


class Rankings(NamedTuple):
    """The best of `b` for each of `a`, best first; equal scores rank by index.

    Attributes:
        indices: Places in `b`, (n, k) uint32, k at most the size of `b`.
        scores: Their scores, (n, k) float32, in the metric's own unit.
    """

    indices: NDArray[np.uint32]
    scores: NDArray[np.float32]

    def __repr__(self) -> str:
        n, k = self.indices.shape
        return f"<Rankings of {n:,}, the best {k:,} of each>"


@dataclass(frozen=True, slots=True)
class Hit:
    """A document found by a query.

    Attributes:
        index: Place of the document in the input, from 0.
        score: Score in the metric's own unit.
        text: The document, where documents were given as texts.
    """

    index: int
    score: float
    text: str | None


@dataclass(frozen=True, slots=True)
class StoredHit(Hit):
    """A stored vector found by a query.

    Attributes:
        index: Row of the vector in its file, from 0.
        score: Score in the metric's own unit.
        text: The text, where the file has it.
        fields: What else the file says of the row, such as ``line`` or the span of a window.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TokenizedText:
    """A text as its model sees it, before truncation.

    Attributes:
        ids: (t,) uint32, special tokens included.
        tokens: The t tokens.
        offsets: (t, 2) uint32: start and end of each token in the text, prompt included, in
            code points; special tokens have (0, 0).
        kept_tokens: Number of them that `embed` would encode.
        kept_start: First code point that `embed` would encode; where the start of the text is
            cut off, that of what is left after the prompt, which is kept.
        kept_end: End of what `embed` would encode, exclusive.
    """

    ids: NDArray[np.uint32]
    tokens: tuple[str, ...]
    offsets: NDArray[np.uint32]
    kept_tokens: int
    kept_start: int
    kept_end: int

    @property
    def truncated(self) -> bool:
        """Whether `embed` would cut the text."""
        return self.kept_tokens < len(self.ids)

    def __repr__(self) -> str:
        return f"<TokenizedText of {len(self.ids):,} tokens, {self.kept_tokens:,} kept>"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A served model.

    Attributes:
        name: Name that calls use.
        model_id: Source that it was exported from.
        revision: Revision of the source, if known.
        dim: Dimension of its vectors.
        max_seq_length: Longest text in tokens, special tokens included.
        pooling: ``mean``, ``cls``, ``max``, ``mean_sqrt_len_tokens``, ``weightedmean``,
            ``lasttoken``, ``concatenated`` where there are several, or ``unspecified``.
        normalized: Whether the model's own pipeline ends in L2 normalization.
        prompts: Prompts by name.
        default_prompt_name: Name of the prompt where a call names none; empty if there is none.
        precision: Precision of its graph: fp32, int16, bf16, int8 or fp16.
        provider: Place where it runs: cpu or cuda.
        is_default: Whether it answers calls that name no model.
        parity_cosine_min: Lowest cosine to sentence-transformers measured at its export; 0
            if not measured.
        similarity_fn_name: Measure by which its own files say that vectors are compared:
            ``cosine``, ``dot``, ``euclidean`` or ``manhattan``.
        space: Fingerprint of the space of its vectors: those of one space may be compared. Empty
            if the server does not tell.
        bits: Fingerprint of how its vectors are computed.
        reproducible: Whether equal bits mean equal bytes.
        unpooled_prompts: Whether pooling leaves out the tokens of prompts, which the server does
            for those that are named, not for those that are part of a text.
        routed: Whether the name of a prompt also chooses the route of a text through the model.
    """

    name: str
    model_id: str
    revision: str
    dim: int
    max_seq_length: int
    pooling: str
    normalized: bool
    prompts: dict[str, str] = field(hash=False)
    default_prompt_name: str
    precision: str
    provider: str
    is_default: bool
    parity_cosine_min: float
    similarity_fn_name: str = "cosine"
    space: str = ""
    bits: str = ""
    reproducible: bool = False
    unpooled_prompts: bool = False
    routed: bool = False


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """The bounds of a server.

    Attributes:
        max_texts_per_request: Highest number of texts in one request or message.
        max_text_bytes: Highest number of UTF-8 bytes in one text.
        max_queued_tokens: Highest number of tokens that wait or run in the whole server.
        max_stream_documents: Highest number of documents in one search.
        max_message_bytes: Highest number of bytes in one message, either way.
        max_stream_requests: Highest number of requests of one stream in work at a time.
        max_scores: Highest number of scores in one reply.
        max_stream_bytes: Bytes of vectors (float32) that one search holds.
        max_comparisons: Queries times documents in one request.
        max_windows_per_request: Highest number of windows of the texts of one request; 0 of a
            server that knows no windows.
    """

    max_texts_per_request: int
    max_text_bytes: int
    max_queued_tokens: int
    max_stream_documents: int
    max_message_bytes: int
    max_stream_requests: int
    max_scores: int
    max_stream_bytes: int
    max_comparisons: int
    max_windows_per_request: int = 0


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What is served.

    Attributes:
        models: Models that are served, the default first.
        limits: Bounds of the server.
        server_version: Version of the server.
    """

    models: tuple[ModelInfo, ...]
    limits: ServerLimits
    server_version: str


@dataclass(frozen=True, slots=True)
class ReloadedModel:
    """One model after a reload.

    Attributes:
        model: Name of the model.
        outcome: ``switched`` to what its folder holds now; ``unchanged``, as it holds what is
            served already; or ``refused``, and the model stays as it was.
        reason: Why it was refused; else empty.
        space: Fingerprint of the space of the vectors that it makes now; empty if unknown.
        bits: Fingerprint of how they are computed; empty if unknown.
    """

    model: str
    outcome: str
    reason: str
    space: str
    bits: str


def scale_rows(vectors: NDArray[Any], scales: NDArray[np.float32] | None) -> NDArray[Any]:
    """Return vectors (n, D) times scales (n,) as float32; without scales, as they are."""
    if scales is None:
        return vectors
    return vectors.astype(np.float32) * scales[:, np.newaxis]


def describe(array: NDArray[Any]) -> str:
    """Return the shape and the type of an array in a few words."""
    return f"{' x '.join(f'{length:,}' for length in array.shape)} {array.dtype}"
