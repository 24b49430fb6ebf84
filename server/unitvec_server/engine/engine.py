"""The path of a request: check -> admit -> tokenize -> schedule -> shape.

Knows nothing of protobuf or gRPC; what it raises are domain errors.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import TypeVar

import numpy as np

from unitvec_server.engine.admission import Ticket, TokenGate, count_tokens
from unitvec_server.engine.counters import EmbedTally, Work
from unitvec_server.engine.scheduler import Scheduler
from unitvec_server.errors import DeadlineExpired, InvalidRequest, ModelNotFound
from unitvec_server.model.artifact import Manifest
from unitvec_server.model.tokenizer import Encoding, TokenizedText, Tokenizer, Truncation
from unitvec_server.vectors.packing import Floats, shape_embeddings

_T = TypeVar("_T")

_TOKENIZED_BYTES = 16  # of a reply, for each token: id, text and two offsets of up to 3 bytes
_SPECIAL_TOKENS = 2  # most models add a first and a last one; an estimate needs no more
# Chunks bound what a cancelled call leaves behind and how long another caller waits.
_TOKENIZE_CHUNK_TEXTS = 128
_TOKENIZE_CHUNK_CHARS = 65_536
# What splits sooner than another thread takes over: 0.1 ms for 75 bytes, 0.25 ms for a hop.
_INLINE_TEXTS = 4
_INLINE_BYTES = 256
_BYTES_PER_TOKEN = 4.0  # of English prose (4.4 in WordNet); other languages and code have fewer


@dataclasses.dataclass(frozen=True)
class Model:
    """One served model.

    Attributes:
        name: Its name in requests.
        manifest: What it is.
        tokenizer: Splits its texts.
        precision: Of its graph.
        provider: Where it runs.
        max_batch_tokens: Tokens in one run of it, padding included.
    """

    name: str
    manifest: Manifest
    tokenizer: Tokenizer
    precision: str
    provider: str
    max_batch_tokens: int


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of one request. Named as in `ServerConfig`."""

    max_texts_per_request: int
    max_text_bytes: int
    max_message_bytes: int


@dataclasses.dataclass(frozen=True)
class Caller:
    """On whose behalf work is done.

    Attributes:
        flow: Shares one place in the queue.
        deadline_s: On the monotonic clock.
        waits: Wait for room (streams) rather than be refused (unary calls).
        note: Is told of each list of texts that was embedded.
    """

    flow: Hashable
    deadline_s: float = math.inf
    waits: bool = False
    note: Callable[[Work], object] | None = None


@dataclasses.dataclass(frozen=True)
class EncodeOptions:
    """How texts become vectors.

    Attributes:
        normalize: Scale to unit L2 norm.
        dimensions: Leading dimensions to keep; 0 keeps all.
        prompt_name: Which prompt; None for the model's default, empty for none.
        truncation: Side to cut of too long texts; None refuses them.
    """

    normalize: bool = True
    dimensions: int = 0
    prompt_name: str | None = None
    truncation: Truncation | None = Truncation.END


@dataclasses.dataclass(frozen=True)
class Embedded:
    """What became of n texts.

    Attributes:
        vectors: (n, D) float32.
        tokens: Tokens encoded of each text.
        truncated: Indices of the texts that were cut.
        tokenize_ns: Text to tokens.
        queue_ns: Tokenized to first batch starting.
        infer_ns: First batch starting to last one done.
    """

    vectors: Floats
    tokens: list[int]
    truncated: list[int]
    tokenize_ns: int
    queue_ns: int
    infer_ns: int


class Engine:
    """Serves several models. All methods run on one event loop.

    Args:
        models: By name, the default first.
        scheduler: A started scheduler of the same models.
        gate: Bounds the queue.
        executor: Runs tokenization and other short work off the loop.
        comparing: Runs comparisons of vectors, which may take long.
        limits: Bounds of one request.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        *,
        scheduler: Scheduler,
        gate: TokenGate,
        executor: Executor,
        comparing: Executor,
        limits: Limits,
    ) -> None:
        self.models = models
        self.comparing = comparing
        self.executor = executor
        self.tallies = {name: EmbedTally() for name in models}
        self._scheduler = scheduler
        self._gate = gate
        self._limits = limits

    @property
    def gate(self) -> TokenGate:
        """What bounds the queue."""
        return self._gate

    def model(self, name: str) -> Model:
        """The model of this name; empty for the default.

        Raises:
            ModelNotFound: There is none.
        """
        if not name:
            return next(iter(self.models.values()))
        model = self.models.get(name)
        if model is None:
            served = ", ".join(self.models)
            raise ModelNotFound(f"no model {name[:100]!r}; served: {served}", field="model")
        return model

    async def embed(
        self,
        model: Model,
        texts: Sequence[str],
        options: EncodeOptions,
        *,
        caller: Caller,
        field: str = "texts",
    ) -> Embedded:
        """Embeds texts, all or none.

        Args:
            model: Which model.
            texts: At least one.
            options: How.
            caller: For whom.
            field: Name of the texts in the request, for errors.

        Raises:
            RequestError: See `errors`; nothing else.
        """
        prompt = self._prompt(model, options.prompt_name)
        self.check_texts(texts, field=field)
        if options.dimensions:
            self._check_dimensions(model, options.dimensions)
        bound = self._gate.bound(waits=caller.waits)
        sizes_bytes = _sizes_bytes(texts, prompt)
        estimate = min(_most_tokens(model, sizes_bytes), bound)
        with await self._admit(estimate, caller) as ticket:
            started_ns = time.monotonic_ns()
            side = options.truncation or Truncation.END
            _check_deadline(caller)  # waiting for room may have taken long
            is_tiny = len(texts) <= _INLINE_TEXTS and sum(sizes_bytes) <= _INLINE_BYTES
            if not is_tiny:
                self._check_turn(model, texts, sizes_bytes, caller)
            encode = functools.partial(model.tokenizer.encode, prompt=prompt, side=side)
            encodings = encode(texts) if is_tiny else await self._in_chunks(encode, texts)
            tokenized_ns = time.monotonic_ns()
            tokens = [len(encoding.input_ids) for encoding in encodings]
            counted = count_tokens(tokens)
            self._gate.check_size(counted, bound)
            ticket.settle(counted)
            truncated = [i for i, encoding in enumerate(encodings) if encoding.truncated]
            if truncated and options.truncation is None:
                raise _too_long(model, encodings[truncated[0]], f"{field}[{truncated[0]}]")
            encoded = await self._scheduler.encode(
                model.name,
                [encoding.input_ids for encoding in encodings],
                flow=caller.flow,
                deadline_s=caller.deadline_s,
            )
        embedded = Embedded(
            vectors=await self._shape(model, encoded.vectors, options),
            tokens=tokens,
            truncated=truncated,
            tokenize_ns=tokenized_ns - started_ns,
            queue_ns=encoded.queue_ns,
            infer_ns=encoded.infer_ns,
        )
        self._count(model, embedded, started_ns, caller)
        return embedded

    def _count(self, model: Model, embedded: Embedded, started_ns: int, caller: Caller) -> None:
        work = Work(
            model.name,
            len(embedded.tokens),
            sum(embedded.tokens),
            started_ns,
            *(embedded.tokenize_ns, embedded.queue_ns, embedded.infer_ns),
        )
        self.tallies[model.name].add(work, truncated=len(embedded.truncated))
        if caller.note:
            caller.note(work)

    def _check_turn(
        self, model: Model, texts: Sequence[str], sizes_bytes: Sequence[int], caller: Caller
    ) -> None:
        """Before tokenization, which takes a good part of the time that a refusal does."""
        if caller.deadline_s < math.inf and self._scheduler.lanes[model.name].queue.waiting_items:
            distinct = dict(zip(texts, sizes_bytes, strict=True))
            self._scheduler.check_turn(
                model.name,
                [_likely_tokens(model, size_bytes) for size_bytes in distinct.values()],
                flow=caller.flow,
                deadline_s=caller.deadline_s,
            )

    async def tokenize(
        self, model: Model, texts: Sequence[str], *, prompt_name: str | None, side: Truncation
    ) -> list[TokenizedText]:
        """Splits texts without cutting them.

        Raises:
            RequestError: See `errors`; nothing else.
        """
        prompt = self._prompt(model, prompt_name)
        self.check_texts(texts, field="texts")
        self._check_tokenize_size(texts)
        tokenize = functools.partial(model.tokenizer.tokenize, prompt=prompt, side=side)
        return await self._in_chunks(tokenize, texts)

    def _check_tokenize_size(self, texts: Sequence[str]) -> None:
        """The reply must fit a message, and each byte may become a token."""
        bound = self._limits.max_message_bytes // _TOKENIZED_BYTES
        size_bytes = sum(len(text.encode()) for text in texts)
        if size_bytes > bound:
            raise InvalidRequest(
                f"texts have {size_bytes} bytes; the reply of Tokenize fits max_message_bytes "
                f"({self._limits.max_message_bytes}) for {bound} bytes of text; split the request",
                reason="TEXT_TOO_LARGE",
                field="texts",
            )

    def check_texts(self, texts: Sequence[str], *, field: str) -> None:
        """Holds texts against the limits.

        Raises:
            InvalidRequest: There are none, too many, or one is too long.
        """
        if not texts:
            raise InvalidRequest(
                f"{field} is empty; send at least one text", reason="NO_TEXTS", field=field
            )
        if len(texts) > self._limits.max_texts_per_request:
            raise InvalidRequest(
                f"{field} has {len(texts)} texts; the limit max_texts_per_request is "
                f"{self._limits.max_texts_per_request}; split the request",
                reason="TOO_MANY_TEXTS",
                field=field,
            )
        bound = self._limits.max_text_bytes
        for index, text in enumerate(texts):
            # A code point takes at most 4 bytes, so most texts need no encoding to be counted.
            if len(text) * 4 > bound and (size_bytes := len(text.encode())) > bound:
                raise InvalidRequest(
                    f"{field}[{index}] has {size_bytes} bytes; the limit max_text_bytes is {bound}",
                    reason="TEXT_TOO_LARGE",
                    field=f"{field}[{index}]",
                )

    def _prompt(self, model: Model, name: str | None) -> str:
        if name is None:
            name = model.manifest.default_prompt_name or ""
        if not name:
            return ""
        prompt = model.manifest.prompts.get(name)
        if prompt is None:
            have = ", ".join(model.manifest.prompts) or "none"
            raise InvalidRequest(
                f"no prompt {name[:100]!r} in model {model.name}; it has: {have}",
                reason="UNKNOWN_PROMPT",
                field="options.prompt_name",
            )
        return prompt

    @staticmethod
    def _check_dimensions(model: Model, dimensions: int) -> None:
        """Before the work, not after it."""
        shape_embeddings(
            np.empty((0, model.manifest.dim), np.float32), normalize=False, dimensions=dimensions
        )

    async def _admit(self, tokens: int, caller: Caller) -> Ticket:
        if caller.waits:
            return await self._gate.admit_when_free(tokens, flow=caller.flow)
        return self._gate.admit(tokens)

    async def _in_chunks(
        self, work: Callable[[Sequence[str]], list[_T]], texts: Sequence[str]
    ) -> list[_T]:
        """Off the loop, chunk by chunk, so that callers take turns and cancelled calls stop."""
        results: list[_T] = []
        for chunk in _chunks(texts):
            results += await run_in(self.executor, functools.partial(work, chunk))
        return results

    async def _shape(self, model: Model, vectors: Floats, options: EncodeOptions) -> Floats:
        if not options.dimensions and (model.manifest.normalized or not options.normalize):
            return vectors
        shape = functools.partial(
            shape_embeddings,
            vectors,
            normalize=options.normalize,
            dimensions=options.dimensions,
        )
        return await run_in(self.executor, shape)


async def run_in(executor: Executor, work: Callable[[], _T]) -> _T:
    """Runs work off the loop."""
    return await asyncio.get_running_loop().run_in_executor(executor, work)


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    """Texts in order, in lists that are short in both ways."""
    chunk: list[str] = []
    chars = 0
    for text in texts:
        full = len(chunk) == _TOKENIZE_CHUNK_TEXTS or chars + len(text) > _TOKENIZE_CHUNK_CHARS
        if chunk and full:
            yield chunk
            chunk, chars = [], 0
        chunk.append(text)
        chars += len(text)
    yield chunk


def _sizes_bytes(texts: Sequence[str], prompt: str) -> list[int]:
    extra = len(prompt.encode())
    return [(len(text) if text.isascii() else len(text.encode())) + extra for text in texts]


def _most_tokens(model: Model, sizes_bytes: Sequence[int]) -> int:
    """About the most tokens that texts can have, until they are split: one for each byte."""
    most = model.manifest.max_seq_length
    return count_tokens(min(size_bytes + _SPECIAL_TOKENS, most) for size_bytes in sizes_bytes)


def _likely_tokens(model: Model, size_bytes: int) -> int:
    """About as many as the text has: what is refused by it is not tokenized."""
    tokens = _SPECIAL_TOKENS + math.ceil(size_bytes / _BYTES_PER_TOKEN)
    return min(tokens, model.manifest.max_seq_length)


def _check_deadline(caller: Caller) -> None:
    if caller.deadline_s <= time.monotonic():
        raise DeadlineExpired("the deadline passed before the work began; not run")


def _too_long(model: Model, encoding: Encoding, field: str) -> InvalidRequest:
    return InvalidRequest(
        f"{field} has {encoding.full_length} tokens; model {model.name} takes "
        f"{model.manifest.max_seq_length} and truncate is ERROR",
        reason="TEXT_TOO_LONG",
        field=field,
    )
