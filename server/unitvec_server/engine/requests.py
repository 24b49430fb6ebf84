"""What the engine is asked for, by whom, of which model, and what comes of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

from unitvec_server.config import FIXED_LIMITS
from unitvec_server.engine.counters import Work
from unitvec_server.errors import RequestError
from unitvec_server.model.canary import Canary
from unitvec_server.model.fingerprints import NO_FINGERPRINTS, Fingerprints
from unitvec_server.model.manifest import Manifest
from unitvec_server.model.memory import NO_FOOTPRINT, Footprint
from unitvec_server.model.tokenizer import Tokenizer, Truncation
from unitvec_server.vectors.packing import Floats


@dataclasses.dataclass(frozen=True)
class Model:
    """One served model.

    Attributes:
        name: Name of the model in requests.
        manifest: Manifest of its artifact.
        tokenizer: Tokenizer of its texts.
        precision: Precision of its graph.
        provider: Execution provider that runs it.
        max_batch_tokens: Most tokens in one run of it, padding included.
        identity: Fingerprints of its vectors.
        is_reproducible: Whether equal `bits` mean equal bytes, whatever a text is batched with.
        queue: Name of its queue: that of the model, but for routes.
        routes: The model that embeds texts with a prompt, by the name of the prompt, which is empty
            for those that name none. None for most models, which embed all texts themselves.
        canary: What it has to make of a few texts; None in older artifacts.
        footprint: Memory that it takes, with its routes.
    """

    name: str
    manifest: Manifest
    tokenizer: Tokenizer
    precision: str
    provider: str
    max_batch_tokens: int
    identity: Fingerprints = NO_FINGERPRINTS
    is_reproducible: bool = False
    queue: str = ""
    routes: Mapping[str, Model] = dataclasses.field(default_factory=dict)
    canary: Canary | None = None
    footprint: Footprint = NO_FOOTPRINT

    def __post_init__(self) -> None:
        object.__setattr__(self, "queue", self.queue or self.name)


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of one request, named as in `ServerConfig` and `FixedLimits`."""

    max_texts_per_request: int
    max_text_bytes: int
    max_message_bytes: int
    max_windows_per_request: int = FIXED_LIMITS.max_windows_per_request


@dataclasses.dataclass(frozen=True)
class Caller:
    """The unary call or stream on whose behalf work is done.

    Attributes:
        flow: Identity of the unary call or stream, which has one place in the queue.
        deadline_s: Time of its deadline on the monotonic clock.
        waits: Whether it waits for room, as streams do, rather than be refused, as unary calls are.
        note: Function that is told of each list of texts that was embedded.
    """

    flow: Hashable
    deadline_s: float = math.inf
    waits: bool = False
    note: Callable[[Work], object] | None = None


@dataclasses.dataclass(frozen=True)
class WindowOptions:
    """How long texts are cut into windows.

    Attributes:
        tokens: Most tokens of a window, special tokens and prompt included; 0 for the longest text
            of the model.
        overlap_tokens: Most tokens that a window shares with the one before it.
        is_pooled: Whether the windows of a text are joined to one row.
    """

    tokens: int = 0
    overlap_tokens: int = 0
    is_pooled: bool = False


@dataclasses.dataclass(frozen=True)
class EncodeOptions:
    """How texts become vectors.

    Attributes:
        normalize: Whether vectors are scaled to unit L2 norm.
        dimensions: Number of leading dimensions to keep; 0 keeps all.
        prompt_name: Name of the prompt; None for the model's default, empty for none.
        side: Side that is cut off too long texts; None for that of the model's own files.
        refuses_long: Whether too long texts are refused instead.
        expected: Fingerprints that vectors must have; those that are empty do not count.
        windows: How they are cut into windows instead; None where they are not.
        route_only: Whether the name of the prompt chooses the route alone, without its text.
    """

    normalize: bool = True
    dimensions: int = 0
    prompt_name: str | None = None
    side: Truncation | None = None
    refuses_long: bool = False
    expected: Fingerprints = NO_FINGERPRINTS
    windows: WindowOptions | None = None
    route_only: bool = False


@dataclasses.dataclass(frozen=True)
class TextList:
    """Texts that are embedded alike.

    Attributes:
        texts: Texts, at least one.
        options: Options for all of them.
        field: Name of the texts in the caller's message, for errors.
        is_partial: Whether texts that cannot be embedded are told apart from the others, which
            then have their vectors.
    """

    texts: Sequence[str]
    options: EncodeOptions
    field: str = "texts"
    is_partial: bool = False


@dataclasses.dataclass(frozen=True)
class IdsList:
    """Texts that the caller has split, embedded alike.

    Attributes:
        ids: Token ids of each text, at least one text. The special tokens around a text may be
            there or missing, and are added where they are missing.
        options: Options for all of them.
        field: Name of the ids in the caller's message, for errors.
        is_partial: As in `TextList`.
    """

    ids: Sequence[Sequence[int]]
    options: EncodeOptions
    field: str = "ids"
    is_partial: bool = False


class Window(NamedTuple):
    """The part of a text that a row is the vector of, without the prompt; ends are exclusive.

    Attributes:
        text_index: Index of the text.
        byte_start: Start in its UTF-8 bytes.
        byte_end: End in its UTF-8 bytes.
        char_start: Start in its code points.
        char_end: End in its code points.
        tokens: Number of tokens that were encoded.
    """

    text_index: int
    byte_start: int
    byte_end: int
    char_start: int
    char_end: int
    tokens: int


@dataclasses.dataclass(frozen=True)
class Embedded:
    """The outcome of a list of n texts.

    Attributes:
        vectors: Matrix (n, D) float32; rows of texts that failed are NaN. With windows that are
            not pooled, (r, D), a row for each window.
        tokens: Number of tokens that were encoded of each text; 0 for one that failed.
        truncated: Number of tokens left out of each text that was cut, by its index, ascending.
        tokenize_ns: Time from text to tokens.
        queue_ns: Time from submission to the start of the first run.
        infer_ns: Time from then to the end of the last run.
        failures: Errors of the texts that failed, by index, ascending; empty unless the list is
            partial.
        windows: What each row is the vector of, if windows were asked for that are not pooled.
    """

    vectors: Floats
    tokens: list[int]
    truncated: Mapping[int, int]
    tokenize_ns: int
    queue_ns: int
    infer_ns: int
    failures: Mapping[int, RequestError] = dataclasses.field(default_factory=dict)
    windows: Sequence[Window] = ()
