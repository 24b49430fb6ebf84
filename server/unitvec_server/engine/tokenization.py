"""Texts on their way to token ids: estimates of their tokens, and which threads split them."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

from unitvec_server.engine.admission import count_tokens
from unitvec_server.engine.parts import Part
from unitvec_server.engine.requests import IdsList, Model
from unitvec_server.engine.watchdog import run_off_loop
from unitvec_server.errors import InvalidRequest, RequestError
from unitvec_server.model.tokenizer import Encoding

_T = TypeVar("_T")
_Text = TypeVar("_Text", bound=Sequence[Any])

_CHUNK_TEXTS = 128
_CHUNK_CHARS = 65_536
"""Bounds of what a thread splits in one go: they limit what a cancelled call leaves behind, and how
long another caller waits."""

_TINY_TEXTS = 4
_TINY_BYTES = 256
"""Bounds of texts that are split sooner than another thread takes over: 75 bytes take 0.1 ms, a hop
to a thread and back takes 0.25 ms."""

_SPECIAL_TOKENS = 2
"""Tokens that most models add to a text, a first and a last one; an estimate needs no more."""

_BYTES_PER_TOKEN = 4.0
"""Bytes of a token of English prose (4.4 in WordNet); other languages and code have fewer."""


async def encode(model: Model, part: Part, *, executor: Executor | None) -> Sequence[Encoding]:
    """Encodes the texts of a part on the threads of a pool; None for here and now."""
    how: dict[str, Any] = {"prompt": part.prompt, "side": part.wanted.options.side}
    is_ids = isinstance(part.wanted, IdsList)
    tokenizer = model.tokenizer
    work = functools.partial(tokenizer.encode_ids if is_ids else tokenizer.encode, **how)
    return await in_chunks(executor, work, part.texts) if executor else work(part.texts)


def are_tiny(sizes_bytes: Sequence[int]) -> bool:
    """Whether texts of these sizes are split on the event loop."""
    return len(sizes_bytes) <= _TINY_TEXTS and sum(sizes_bytes) <= _TINY_BYTES


def most_tokens(sizes_bytes: Iterable[int], *, max_seq_length: int) -> int:
    """About the most that texts of these sizes can count, one token for each byte."""
    return count_tokens(min(size + _SPECIAL_TOKENS, max_seq_length) for size in sizes_bytes)


def likely_tokens(size_bytes: int, *, max_seq_length: int) -> int:
    """About as many tokens as a text of this size has."""
    return min(_SPECIAL_TOKENS + math.ceil(size_bytes / _BYTES_PER_TOKEN), max_seq_length)


async def split(model: Model, parts: Sequence[Part], *, executor: Executor | None) -> int:
    """Splits texts into tokens. Those of partial lists that are too long fail here.

    Args:
        model: Model whose tokenizer splits them.
        parts: Lists of texts, which are filled in.
        executor: Pool whose threads do it; None to do it here and now.

    Returns:
        Number of tokens that all the texts count against the bound of the queue.

    Raises:
        InvalidRequest: A text is too long, its options forbid to cut it, and its list is not
            partial.
    """
    for part in parts:
        wanted, part.started_ns = part.wanted, time.monotonic_ns()
        part.encodings = await encode(model, part, executor=executor)
        part.tokens = [len(encoding.input_ids) for encoding in part.encodings]
        part.tokenize_ns = time.monotonic_ns() - part.started_ns
        if wanted.options.refuses_long:
            _check_uncut(model, part)
    return sum([count_tokens(part.tokens) for part in parts])


def _check_uncut(model: Model, part: Part) -> None:
    """Refuses texts that are longer than the model takes: the first, or each of a partial list."""
    errors: dict[int, RequestError] = {}
    for place, encoding in enumerate(part.encodings):
        if encoding.truncated:
            field = part.field(part.indices[place])
            errors[place] = InvalidRequest(
                f"{field} has {encoding.full_length} tokens; model {model.name} takes "
                f"{model.manifest.max_seq_length}; shorten it, or ask for truncation",
                reason="TEXT_TOO_LONG",
                field=field,
            )
            if not part.wanted.is_partial:
                raise errors[place]
    if errors:
        part.drop(errors)


async def in_chunks(
    executor: Executor, work: Callable[[Sequence[_Text]], list[_T]], texts: Sequence[_Text]
) -> list[_T]:
    """Works on texts off the loop, chunk by chunk: callers take turns and cancelled calls stop."""
    results: list[_T] = []
    for chunk in _chunks(texts):
        results += await run_off_loop(executor, functools.partial(work, chunk))
    return results


def _chunks(texts: Sequence[_Text]) -> Iterator[list[_Text]]:
    """Texts, or their token ids, in order, in lists that are short in both ways."""
    chunk: list[_Text] = []
    chars = 0
    for text in texts:
        is_full = len(chunk) == _CHUNK_TEXTS or chars + len(text) > _CHUNK_CHARS
        if chunk and is_full:
            yield chunk
            chunk, chars = [], 0
        chunk.append(text)
        chars += len(text)
    yield chunk
