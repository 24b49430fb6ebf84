"""The window of `embed_stream`: which texts form a request, what a reply means, what may go out.

Every text between the first unanswered one and the last one pulled is inside the window, and the
window is bounded in texts and in bytes; that bounds memory. It does no I/O: `streaming` is the
order in which it is asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from unitvec_client.core.backoff import Backoff
from unitvec_client.core.calls import CallContext
from unitvec_client.core.decoding import decode_errors
from unitvec_client.core.failures import Failure, failure_of_item
from unitvec_client.core.inputs import check_text, utf8_bytes
from unitvec_client.core.splitting import Budget, Measure
from unitvec_client.errors import (
    InputTypeError,
    ProtocolError,
    UnitvecError,
    at_field,
)
from unitvec_client.methods.embedding import decode_reply, embed_request
from unitvec_client.methods.windowing import decode_windowed
from unitvec_client.options import DTYPES, StreamOptions, Windows
from unitvec_client.results import EmbedResult, StreamItem
from unitvec_client.windowed import WindowedResult
from unitvec_protos.v1 import embedding_pb2 as pb

MAX_WINDOW_CHUNKS = 8
"""Requests of one stream in flight, at most; the server's own limit holds too."""


@dataclass(slots=True)
class _Chunk:
    indices: list[int]
    texts: list[str]
    backoff: Backoff
    due_s: float = 0.0
    alone: bool = False


@dataclass(slots=True)
class StreamWindow:
    """The texts that lie between the caller's iterable and the caller.

    Attributes:
        context: Circumstances of the call.
        options: Wishes of the caller.
        budget: Bounds of one request.
        max_chunks: Highest number of requests in the window.
        on_refused: Function that is told of each error that becomes an item.
    """

    context: CallContext
    options: StreamOptions
    budget: Budget
    max_chunks: int = MAX_WINDOW_CHUNKS
    on_refused: Callable[[UnitvecError], None] = lambda _: None
    _measure: Measure = field(init=False)
    _forming: _Chunk = field(init=False)
    _waiting: deque[_Chunk] = field(default_factory=deque)
    _sent: dict[str, _Chunk] = field(default_factory=dict)
    _items: dict[int, StreamItem] = field(default_factory=dict)
    _sizes_bytes: dict[int, int] = field(default_factory=dict)
    _size_bytes: int = 0
    _pulled: int = 0
    _emitted: int = 0
    _next_id: int = 0
    _ended: bool = False

    def __post_init__(self) -> None:
        self._renew_forming()

    @property
    def wants_text(self) -> bool:
        """Whether there is room for another text."""
        window_texts = self.max_chunks * min(self.budget.items, self.budget.reply_items)
        window_bytes = self.max_chunks * self.budget.request_bytes
        open_texts = self._pulled - self._emitted
        return not self._ended and open_texts < window_texts and self._size_bytes < window_bytes

    @property
    def done(self) -> bool:
        """Whether every text was answered and emitted."""
        return self._ended and self._emitted == self._pulled

    @property
    def in_flight(self) -> bool:
        """Whether any request waits for its reply."""
        return bool(self._sent)

    def feed(self, text: object) -> None:
        """Take the next text in.

        One that is not valid Unicode, or larger than a message, is answered with its error.

        Raises:
            InputTypeError: If it is not a str.
        """
        index = self._pulled
        name = f"texts[{index}]"
        try:
            checked = check_text(text, name)
            size_bytes = utf8_bytes(checked)
            self.budget.check_size(size_bytes, name)
        except InputTypeError:
            raise
        except UnitvecError as error:
            self._pulled += 1
            self._items[index] = StreamItem(index, error=error)
            return
        self._pulled += 1
        self._admit(index, checked, size_bytes)

    def _admit(self, index: int, text: str, size_bytes: int) -> None:
        if not self._measure.fits(size_bytes):
            self._close_forming()
        self._measure.add(size_bytes)
        self._forming.indices.append(index)
        self._forming.texts.append(text)
        if not self._measure.fits(0):
            self._close_forming()  # It is full, and can go while the next text is pulled.
        self._sizes_bytes[index] = size_bytes
        self._size_bytes += size_bytes

    def end(self) -> None:
        """Note that there are no more texts."""
        self._ended = True
        self._close_forming()

    def take_request(self) -> pb.StreamEmbedRequest | None:
        """Return the next request to be sent now; None if there is none."""
        if not self._ended and not self.wants_text:
            self._close_forming()  # It cannot grow before something is answered.
        now_s = self.context.clock()
        chunk = next((chunk for chunk in self._waiting if chunk.due_s <= now_s), None)
        if chunk is None:
            return None
        alone = chunk.alone or any(sent.alone for sent in self._sent.values())
        if len(self._sent) >= (1 if alone else self.max_chunks):
            return None
        self._waiting.remove(chunk)
        request_id = str(self._next_id)
        self._next_id += 1
        self._sent[request_id] = chunk
        request = embed_request(chunk.texts, self.options, self.context.expect, partial=True)
        return pb.StreamEmbedRequest(id=request_id, request=request)

    def wait_s(self) -> float:
        """Return the seconds until the next request may be sent again."""
        now_s = self.context.clock()
        return max(0.0, min((chunk.due_s for chunk in self._waiting), default=now_s) - now_s)

    def take_item(self) -> StreamItem | None:
        """Return the next item in order; None if it is not known yet."""
        item = self._items.pop(self._emitted, None)
        if item is not None:
            self._emitted += 1
            self._size_bytes -= self._sizes_bytes.pop(item.index, 0)
        return item

    def resend_unanswered(self) -> None:
        """Note that the stream broke: what was not answered is sent again, oldest first."""
        chunks = [*self._sent.values(), *self._waiting]
        self._sent.clear()
        self._waiting = deque(sorted(chunks, key=lambda chunk: chunk.indices[0]))

    def on_too_large(self, failure: Failure) -> None:
        """Note that the stream broke on a message that is larger than someone on the way takes.

        Which one it was is not said. So each unanswered text is sent alone, and the one on which
        the stream breaks again gets the error.
        """
        chunks = list(self._sent.values())
        self._sent.clear()
        texts = [pair for chunk in chunks for pair in zip(chunk.indices, chunk.texts, strict=True)]
        if len(texts) == 1:
            index = texts[0][0]
            error = at_field(self.context.error(failure), f"texts[{index}]")
            self.on_refused(error)
            self._items[index] = StreamItem(index, error=error)
            return
        backoff = Backoff(self.context.policy)
        alone = [_Chunk([index], [text], backoff, alone=True) for index, text in sorted(texts)]
        self._waiting.extendleft(reversed(alone))

    def on_reply(self, reply: pb.StreamEmbedResponse) -> None:
        """Take a reply in.

        Raises:
            ProtocolError: If it answers nothing that was asked, or does not fit it.
        """
        chunk = self._sent.pop(reply.id, None)
        outcome = reply.WhichOneof("outcome")
        if chunk is None or outcome is None:
            raise ProtocolError(f"bad reply: id {reply.id!r} is unknown or has no outcome")
        if outcome == "error":
            self._on_error(chunk, failure_of_item(reply.error))
        else:
            self._on_vectors(chunk, reply.response)

    def _on_vectors(self, chunk: _Chunk, response: pb.EmbedResponse) -> None:
        dtype, count = DTYPES[self.options.dtype], len(chunk.texts)
        result: EmbedResult | WindowedResult
        if isinstance(self.options.windows, Windows):
            result = decode_windowed(response, count, dtype)
        else:
            result = decode_reply(response, count, dtype)
        failures = decode_errors(response, count)
        left_out = dict(zip(result.truncated, result.left_out_tokens, strict=True))
        answers = _answers(result, chunk.indices)
        for row, (index, answer) in enumerate(zip(chunk.indices, answers, strict=True)):
            if row in failures:
                self._refuse(index, failures[row])
                continue
            self._items[index] = StreamItem(
                index,
                tokens=int(result.tokens[row]),
                truncated=row in left_out,
                left_out_tokens=left_out.get(row, 0),
                space=result.space,
                bits=result.bits,
                **answer,
            )

    def _on_error(self, chunk: _Chunk, failure: Failure) -> None:
        row = failure.text_index
        if row is not None and row < len(chunk.texts):
            # One text is at fault. It gets the error, and the others are sent again without it.
            self._refuse(chunk.indices.pop(row), failure)
            chunk.texts.pop(row)
            if chunk.texts:
                self._waiting.appendleft(chunk)
            return
        delay_s = chunk.backoff.next_delay_s(failure, self.context.remaining_s())
        if delay_s is not None:
            chunk.due_s = self.context.clock() + delay_s
            self._waiting.appendleft(chunk)
            return
        for index in chunk.indices:
            self._refuse(index, failure)

    def _refuse(self, index: int, failure: Failure) -> None:
        error = self.context.error(failure)
        self.on_refused(error)
        if failure.text_index is not None:
            error = at_field(error, f"texts[{index}]")
        self._items[index] = StreamItem(index, error=error)

    def _close_forming(self) -> None:
        if self._forming.texts:
            self._waiting.append(self._forming)
            self._renew_forming()

    def _renew_forming(self) -> None:
        self._measure = self.budget.measure()
        self._forming = _Chunk([], [], Backoff(self.context.policy))


def _answers(
    result: EmbedResult | WindowedResult, indices: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Yield what each text has of its own: a vector, or windows with theirs."""
    scales = result.scales
    if isinstance(result, EmbedResult):
        for row, vector in enumerate(result.values()):
            of_row = None if scales is None else scales[row : row + 1]
            yield {"vector": vector, "scales": of_row}
        return
    for row, index in enumerate(indices):
        rows = result.rows_of(row)
        yield {
            "windows": tuple(replace(each, text_index=index) for each in result.windows[rows]),
            "vectors": result.vectors[rows],
            "scales": None if scales is None else scales[rows],
        }
