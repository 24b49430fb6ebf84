"""Windows of long texts: the options held against a model, and texts cut and encoded.

A text is split into tokens as a whole only to see where it can be cut. Each window is then encoded
as a text by itself, so that its vector is the one that its text alone would have.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from unitvec_server.engine.requests import EncodeOptions, Limits, Model, Window, WindowOptions
from unitvec_server.errors import InvalidRequest, RequestError
from unitvec_server.model.tokenizer import Encoding
from unitvec_server.policy.windows import Places, Span, cut

_LEAST_ROOM_TOKENS = 8
"""Tokens of a text that a window must have room for: less is no context."""

_ROW_BYTES = 32
"""Bytes of a `Window` in a reply, besides its vector."""

_FLOAT_BYTES = 4


@dataclasses.dataclass(frozen=True)
class Windows:
    """Window options that fit a model.

    Attributes:
        tokens: Most tokens of a window, special tokens and prompt included.
        room: Those of them that are left for the text.
        overlap: Most tokens that a window shares with the one before it.
        most: Most windows of a request.
        is_pooled: Whether the windows of a text are joined to one row.
    """

    tokens: int
    room: int
    overlap: int
    most: int
    is_pooled: bool

    def lengths(self, tokens: int) -> list[int]:
        """About the lengths of the windows of a text of so many tokens."""
        if tokens <= self.tokens:
            return [tokens]
        count = min(math.ceil(tokens / (self.room - self.overlap)), self.most + 1)
        return [self.tokens] * count


def read_windows(
    model: Model, options: EncodeOptions, *, prompt: str, limits: Limits
) -> Windows | None:
    """Holds window options against a model; None where there are none.

    Raises:
        InvalidRequest: A window is longer than the model takes or has no room for text, or the
            overlap is too large.
    """
    wanted = options.windows
    if wanted is None:
        return None
    longest = model.manifest.max_seq_length
    tokens = wanted.tokens or longest
    if tokens > longest:
        raise _refused("tokens", "WINDOW_TOO_LONG", f"is {tokens}; the model takes {longest}")
    around = model.tokenizer.overhead_tokens(prompt)
    room = tokens - around
    if room < _LEAST_ROOM_TOKENS:
        message = (
            f"is {tokens}, of which special tokens and prompt take {around}; "
            f"set at least {around + _LEAST_ROOM_TOKENS}"
        )
        raise _refused("tokens", "WINDOW_TOO_SHORT", message)
    if wanted.overlap_tokens > room // 2:
        message = f"is {wanted.overlap_tokens}; set at most {room // 2}, half of the room for text"
        raise _refused("overlap_tokens", "OVERLAP_TOO_LARGE", message)
    return Windows(
        tokens,
        room,
        wanted.overlap_tokens,
        _most_windows(model, wanted, options, limits),
        wanted.is_pooled,
    )


def _most_windows(
    model: Model, wanted: WindowOptions, options: EncodeOptions, limits: Limits
) -> int:
    """Most windows of a request: a reply must have room for their vectors."""
    if wanted.is_pooled:
        return limits.max_windows_per_request
    row_bytes = _ROW_BYTES + _FLOAT_BYTES * (options.dimensions or model.manifest.dim)
    return min(limits.max_windows_per_request, limits.max_message_bytes // row_bytes)


def _refused(name: str, reason: str, message: str) -> InvalidRequest:
    field = f"options.windows.{name}"
    return InvalidRequest(f"{field} {message}", reason=reason, field=field)


@dataclasses.dataclass(frozen=True)
class CutText:
    """A text as its windows.

    Attributes:
        spans: Spans of the windows.
        encodings: Encoding of each window.
    """

    spans: Sequence[Span]
    encodings: Sequence[Encoding]


class TextCutter:
    """Cuts the texts of one request. For one thread at a time.

    Args:
        model: Model whose tokenizer splits them.
        windows: How they are cut.
        how: Options of `Tokenizer.encode`.
    """

    def __init__(self, model: Model, windows: Windows, how: Mapping[str, object]) -> None:
        self._model = model
        self._windows = windows
        self._how = how
        self._left = windows.most

    def cut(self, texts: Sequence[str]) -> list[CutText | RequestError]:
        """Cuts texts, each as a whole: one that has too many windows is an error in its place."""
        return [
            self._cut(text, encoding)
            for text, encoding in zip(texts, self._encode(texts), strict=True)
        ]

    def _encode(self, texts: Sequence[str]) -> list[Encoding]:
        how: dict[str, object] = dict(self._how)
        return self._model.tokenizer.encode(texts, **how)  # type: ignore[arg-type]

    def _cut(self, text: str, whole: Encoding) -> CutText | RequestError:
        windows, encodings = self._windows, {Span(0, len(text)): whole}
        if whole.full_length <= windows.tokens:
            spans = list(encodings)
        else:

            def excess(span: Span) -> int:
                if span not in encodings:
                    [encodings[span]] = self._encode([text[span.start : span.end]])
                return encodings[span].full_length - windows.tokens

            places = Places(text, self._model.tokenizer.offsets(text))
            spans = []
            for span in cut(places, room=windows.room, overlap=windows.overlap, excess=excess):
                spans.append(span)
                if len(spans) > self._left:
                    break
        if len(spans) > self._left:
            return self._too_many()
        self._left -= len(spans)
        return CutText(spans, [encodings[span] for span in spans])

    def _too_many(self) -> RequestError:
        return InvalidRequest(
            f"takes the request to more than {self._windows.most} windows "
            "(max_windows_per_request, and what a message holds); send fewer texts at a time, cut "
            "the text, or take longer windows",
            reason="TOO_MANY_WINDOWS",
        )


def locate(index: int, text: str, cut_text: CutText) -> Iterable[Window]:
    """The windows of a text, with their places in its bytes."""
    at = _byte_places(text, {place for span in cut_text.spans for place in span})
    for span, encoding in zip(cut_text.spans, cut_text.encodings, strict=True):
        tokens = len(encoding.input_ids)
        yield Window(index, at[span.start], at[span.end], span.start, span.end, tokens)


def _byte_places(text: str, places: Iterable[int]) -> dict[int, int]:
    """Where code points begin in the UTF-8 bytes of a text."""
    if text.isascii():
        return {place: place for place in places}
    at, last, size_bytes = {}, 0, 0
    for place in sorted(places):
        size_bytes += len(text[last:place].encode())
        at[place], last = size_bytes, place
    return at
