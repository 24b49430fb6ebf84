"""Texts on their way to token ids: estimates of their tokens, and which threads split them."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

from unitvec_server.engine.admission import count_tokens
from unitvec_server.engine.parts import Part
from unitvec_server.engine.requests import IdsList
from unitvec_server.engine.watchdog import run_off_loop
from unitvec_server.engine.windowing import TextCutter, Windows
from unitvec_server.errors import InvalidRequest, RequestError
from unitvec_server.model.tokenizer import Encoding, mark_unpooled

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


def are_tiny(sizes_bytes: Sequence[int]) -> bool:
    """Whether texts of these sizes are split on the event loop."""
    return len(sizes_bytes) <= _TINY_TEXTS and sum(sizes_bytes) <= _TINY_BYTES


def estimate_tokens(parts: Sequence[Part]) -> int:
    """About as many tokens as the texts can count, before they are split.

    That is one token for each byte, up to the longest text. Windows have no such bound, and nobody
    else would be let in beside a long text: they count as many tokens as are likely.
    """
    return sum(
        count_tokens(
            length for size in part.sizes_bytes for length in _likely_windows(part.windows, size)
        )
        if part.windows
        else count_tokens(
            min(size + _SPECIAL_TOKENS, part.model.manifest.max_seq_length)
            for size in part.sizes_bytes
        )
        for part in parts
    )


def likely_lengths(parts: Sequence[Part]) -> list[int]:
    """About the lengths in tokens of all different texts of a model, or of their windows."""
    longest, lengths = parts[0].model.manifest.max_seq_length, []
    sizes = {
        (part.prompt, key): (size, part.windows)
        for part in parts
        for key, size in zip(part.keys(), part.sizes_bytes, strict=True)
    }
    for size, windows in sizes.values():
        likely = _likely_windows(windows, size) if windows else [likely_tokens(size)]
        lengths += [min(length, longest) for length in likely]
    return lengths


def _likely_windows(windows: Windows, size_bytes: int) -> list[int]:
    return windows.lengths(likely_tokens(size_bytes))


def likely_tokens(size_bytes: int) -> int:
    """About as many tokens as a text of this size has."""
    return _SPECIAL_TOKENS + math.ceil(size_bytes / _BYTES_PER_TOKEN)


async def split(parts: Sequence[Part], *, executor: Executor | None) -> int:
    """Splits texts into tokens. Those of partial lists that are too long fail here.

    Args:
        parts: Lists of texts, which are filled in.
        executor: Pool whose threads do it; None to do it here and now.

    Returns:
        Number of tokens that all the texts count against the bound of the queue.

    Raises:
        InvalidRequest: A text is too long and its options forbid to cut it, or it has too many
            windows, and its list is not partial.
    """
    for part in parts:
        wanted, part.started_ns = part.wanted, time.monotonic_ns()
        if part.windows:
            await _cut(part, part.windows, executor=executor)
        else:
            part.encodings = await encode(part, executor=executor)
        if part.unpooled_tokens:
            part.encodings = mark_unpooled(part.encodings, part.unpooled_tokens)
        part.tokens = [len(encoding.input_ids) for encoding in part.encodings]
        part.tokenize_ns = time.monotonic_ns() - part.started_ns
        if wanted.options.refuses_long:
            _check_uncut(part)
    return sum([count_tokens(part.tokens) for part in parts])


async def encode(part: Part, *, executor: Executor | None) -> Sequence[Encoding]:
    """Encodes the texts of a part on the threads of a pool; None for here and now."""
    is_ids, tokenizer = isinstance(part.wanted, IdsList), part.model.tokenizer
    work = functools.partial(tokenizer.encode_ids if is_ids else tokenizer.encode, **_how(part))
    return await in_chunks(executor, work, part.texts) if executor else work(part.texts)


async def _cut(part: Part, windows: Windows, *, executor: Executor | None) -> None:
    """Cuts the texts of a part into windows, and encodes these."""
    work, texts = TextCutter(part.model, windows, _how(part)).cut, part.texts
    found = await in_chunks(executor, work, texts) if executor else work(texts)
    part.take_windows(found)


def _how(part: Part) -> dict[str, Any]:
    return {"prompt": part.prompt, "side": part.wanted.options.side}


def _check_uncut(part: Part) -> None:
    """Refuses texts that are longer than the model takes: the first, or each of a partial list."""
    errors: dict[int, RequestError] = {}
    for index, encoding in zip(part.indices, part.encodings, strict=True):
        if encoding.truncated:
            field = part.field(index)
            errors[index] = InvalidRequest(
                f"{field} has {encoding.full_length} tokens; model {part.model.name} takes "
                f"{part.model.manifest.max_seq_length}; shorten it, or ask for truncation",
                reason="TEXT_TOO_LONG",
                field=field,
            )
            if not part.wanted.is_partial:
                raise errors[index]
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
