"""The path of a request: check -> split into tokens -> admit -> schedule -> shape.

Knows nothing of protobuf or gRPC; what it raises are domain errors.
"""

from __future__ import annotations

import copy
import functools
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor

from unitvec_server.engine.admission import Ticket, TokenGate
from unitvec_server.engine.checks import check_ids, check_texts
from unitvec_server.engine.counters import BatchTally, EmbedTally, Work
from unitvec_server.engine.parts import Part, answer, by_queue, together, vectors_of
from unitvec_server.engine.pending import Encoded
from unitvec_server.engine.prompts import find_prompt
from unitvec_server.engine.reading import read_part
from unitvec_server.engine.requests import (
    Caller,
    Embedded,
    EncodeOptions,
    IdsList,
    Limits,
    Model,
    TextList,
)
from unitvec_server.engine.scheduler import Scheduler
from unitvec_server.engine.tokenization import (
    are_tiny,
    estimate_tokens,
    in_chunks,
    likely_lengths,
    split,
)
from unitvec_server.engine.watchdog import run_off_loop
from unitvec_server.errors import (
    DeadlineExpired,
    InvalidRequest,
    ModelNotFound,
)
from unitvec_server.model.tokenizer import TokenizedText, Truncation
from unitvec_server.vectors.packing import Floats, shape_embeddings
from unitvec_server.vectors.pooling import pool_windows

_TOKENIZED_BYTES = 16
"""Bytes of a token in the reply of Tokenize: id, text and two offsets of up to 3 bytes."""


RELOAD_OUTCOMES = ("switched", "unchanged", "refused")


class Engine:
    """Serves several models. All methods run on one event loop.

    Its models never change. Where one is replaced another engine takes over, and whoever works
    with this one keeps its models to the end of the call or stream.

    Args:
        models: Models by name, the default first.
        scheduler: A started scheduler of the same models.
        gate: Bound of the queue.
        executor: Pool for tokenization and other short work off the loop.
        comparing: Pool for comparisons of vectors, which may take long.
        limits: Bounds of one request.

    Attributes:
        models: Served models by name.
        gate: Bound of the queue.
        executor: Pool for short work.
        comparing: Pool for comparisons.
        tallies: Counts of what each model answered, by name.
        reloads: Counts of attempts to replace a model, by its name and their outcome.
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
        self.gate = gate
        self.executor = executor
        self.comparing = comparing
        self.tallies = {name: EmbedTally() for name in models}
        # All are there before the first: Prometheus would not see the first event of a series.
        self.reloads = Counter({(name, end): 0 for name in models for end in RELOAD_OUTCOMES})
        self._scheduler = scheduler
        self._limits = limits
        self._have(models)

    def _have(self, models: Mapping[str, Model]) -> None:
        self.models = models
        self._queues = self._scheduler.queues

    def with_model(self, model: Model) -> Engine:
        """An engine that has this model under its name and shares all else with this one.

        Args:
            model: Model that the scheduler already has under its name.
        """
        successor = copy.copy(self)
        successor._have({**self.models, model.name: model})  # noqa: SLF001 - its own kind
        return successor

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

    def batches(self, name: str) -> BatchTally:
        """The counts of what a model ran, which other threads write."""
        return self._queues[name].batches

    async def embed(
        self, model: Model, lists: Sequence[TextList | IdsList], *, caller: Caller
    ) -> list[Embedded]:
        """Embeds lists of texts as one request, admitted and scheduled together.

        All are embedded or none, apart from the texts of partial lists that fail by themselves.

        Args:
            model: Model that embeds them.
            lists: At least one list of texts or of their token ids, each with options of its own.
            caller: Unary call or stream that asks for it.

        Raises:
            RequestError: See `errors`; nothing else.
        """
        parts = [read_part(model, wanted, self._limits) for wanted in lists]
        encoded = await self._encode(parts, caller)
        results: list[Embedded] = []
        starts = dict.fromkeys(encoded, 0)
        for part in parts:
            route, options = part.model, part.wanted.options
            outcome, start = encoded[route.queue], starts[route.queue]
            starts[route.queue] += len(part.encodings)
            vectors = vectors_of(part, outcome, start)
            if part.windows and part.windows.is_pooled:
                vectors = await self._pool(vectors, part)
            if options.dimensions or (options.normalize and not route.manifest.normalized):
                vectors = await self._shape(vectors, options)
            results.append(answer(part, outcome, vectors))
            self._note(model, results[-1], part.started_ns, caller)
        return results

    async def _encode(self, parts: Sequence[Part], caller: Caller) -> dict[str, Encoded]:
        """Splits the texts and runs them, with permission to queue their tokens.

        Returns:
            The outcome of the parts of each queue, one after the other, by its name.

        Tiny requests are split here and now, and admitted by their true count. Others are admitted
        by an estimate, since splitting them takes time and memory, and the estimate is corrected
        later.
        """
        is_tiny = are_tiny([size for part in parts for size in part.sizes_bytes])
        if is_tiny:
            tokens = await split(parts, executor=None)
        else:
            tokens = min(estimate_tokens(parts), self.gate.bound(waits=caller.waits))
        with await self._admit(tokens, caller) as ticket:
            if caller.deadline_s < math.inf:
                self._check_deadline(() if is_tiny else parts, caller)
            if not is_tiny:
                tokens = await split(parts, executor=self.executor)
            if tokens <= ticket.tokens:
                ticket.correct(tokens)
                return await self._run_all(parts, caller)
        # Windows had more tokens than was likely: what was let in for them is given back first, so
        # that no two requests wait for each other's room.
        with await self._admit(tokens, caller):
            return await self._run_all(parts, caller)

    async def _admit(self, tokens: int, caller: Caller) -> Ticket:
        if caller.waits:
            return await self.gate.admit_when_free(tokens, flow=caller.flow)
        return self.gate.admit(tokens)

    async def _run_all(self, parts: Sequence[Part], caller: Caller) -> dict[str, Encoded]:
        runs = [self._run(queue, some, caller) for queue, some in by_queue(parts).items()]
        return dict([await runs[0]] if len(runs) == 1 else await together(runs))

    async def _run(self, queue: str, parts: Sequence[Part], caller: Caller) -> tuple[str, Encoded]:
        return queue, await self._scheduler.encode(
            self._queues[queue],
            [encoding.input_ids for part in parts for encoding in part.encodings],
            flow=caller.flow,
            deadline_s=caller.deadline_s,
            is_partial=all(part.wanted.is_partial for part in parts),
        )

    def _check_deadline(self, parts: Sequence[Part], caller: Caller) -> None:
        """Refuses what comes too late before its texts are split: that takes most of the time."""
        if caller.deadline_s <= time.monotonic():  # waiting for room may have taken long
            raise DeadlineExpired("the deadline passed before the work began; not run")
        for name, some in by_queue(parts).items():
            queue = self._queues[name]
            if queue.batcher.waiting_items:
                self._scheduler.check_estimate(
                    queue,
                    likely_lengths(some),
                    flow=caller.flow,
                    deadline_s=caller.deadline_s,
                )

    async def _pool(self, vectors: Floats, part: Part) -> Floats:
        pool = functools.partial(
            pool_windows,
            vectors,
            part.indices,
            part.tokens,
            normalize=part.wanted.options.normalize,
        )
        return await run_off_loop(self.executor, pool)

    async def _shape(self, vectors: Floats, options: EncodeOptions) -> Floats:
        shape = functools.partial(
            shape_embeddings,
            vectors,
            normalize=options.normalize,
            dimensions=options.dimensions,
        )
        return await run_off_loop(self.executor, shape)

    def _note(self, model: Model, embedded: Embedded, started_ns: int, caller: Caller) -> None:
        """Counts a list of texts, for the metrics and for the caller."""
        work = Work(
            model.name,
            len(embedded.tokens) - len(embedded.failures),
            sum(embedded.tokens),
            started_ns,
            *(embedded.tokenize_ns, embedded.queue_ns, embedded.infer_ns),
        )
        self.tallies[model.name].add(work, truncated=len(embedded.truncated))
        if caller.note:
            caller.note(work)

    async def tokenize(
        self,
        model: Model,
        texts: Sequence[str],
        *,
        prompt_name: str | None,
        side: Truncation | None,
    ) -> list[TokenizedText]:
        """Splits texts without cutting them.

        Raises:
            RequestError: See `errors`; nothing else.
        """
        prompt = find_prompt(model, prompt_name)
        self._check_tokenize_size(check_texts(texts, field="texts", limits=self._limits))
        tokenizer = prompt.model.tokenizer
        tokenize = functools.partial(tokenizer.tokenize, prompt=prompt.text, side=side)
        return await in_chunks(self.executor, tokenize, texts)

    async def decode(
        self, model: Model, rows: Sequence[Sequence[int]], *, skip_special_tokens: bool = True
    ) -> list[str]:
        """Joins token ids to texts.

        Raises:
            RequestError: See `errors`; nothing else.
        """
        size = model.tokenizer.vocabulary_size
        check_ids(rows, field="ids", limits=self._limits, vocabulary_size=size)
        decode = functools.partial(model.tokenizer.decode, skip_special_tokens=skip_special_tokens)
        return await in_chunks(self.executor, decode, rows)

    def _check_tokenize_size(self, sizes_bytes: Sequence[int]) -> None:
        """The reply must fit a message, and each byte may become a token."""
        bound = self._limits.max_message_bytes // _TOKENIZED_BYTES
        if sum(sizes_bytes) > bound:
            raise InvalidRequest(
                f"texts have {sum(sizes_bytes)} bytes; the reply of Tokenize fits "
                f"max_message_bytes ({self._limits.max_message_bytes}) for {bound} bytes of text; "
                "split the request",
                reason="TEXT_TOO_LARGE",
                field="texts",
            )

    def prompt(self, model: Model, name: str | None) -> str:
        """Returns the prompt of this name; None for that which the model uses by default.

        Raises:
            InvalidRequest: The model has no such prompt.
        """
        return find_prompt(model, name).text
