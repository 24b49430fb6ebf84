"""Texts embedded by the server's own engine in this process: no port, no message, the same vectors.

The engine checks, splits, batches and runs as it does in a server, so that whatever holds there
holds here, to the last bit where the operator promises bits. It runs on one core: one thread that
encodes, and this one, which splits texts while that one waits.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from unitvec_bulk.embedding.outcome import ModelFacts, Outcome, Span
from unitvec_bulk.options import EmbedOptions, TruncateName
from unitvec_bulk.reading.rows import Problem
from unitvec_server.config import ModelSpec, ServerConfig
from unitvec_server.engine.loading import load_engine
from unitvec_server.engine.requests import (
    Caller,
    Embedded,
    EncodeOptions,
    TextList,
    WindowOptions,
)
from unitvec_server.model.tokenizer import Truncation

_REQUEST_TEXTS = 256
_CPU_RUN_TOKENS = 256
"""Tokens in one run on a CPU. A server takes 128, so that a lone text waits less for the run in
progress; here none waits, and 256 are 2 to 3 % faster (`python -m bench.widths`)."""
_SIDES: dict[TruncateName, Truncation | None] = {
    "model": None,
    "end": Truncation.END,
    "start": Truncation.START,
    "error": None,
}


class LocalEmbedder:
    """An engine of its own. For one thread.

    Args:
        folder: Folder of the artifact. It is read once and may vanish afterwards.
        options: How texts become vectors.

    Raises:
        StartupError: The model cannot be loaded, or cannot run here.
        RequestError: The options do not fit the model.
    """

    def __init__(self, folder: Path, options: EmbedOptions) -> None:
        # Read by the tokenizers at their first use: a worker has one core.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        self._options = encode_options(options)
        self._threads = ThreadPoolExecutor(1, "split")
        config = ServerConfig(
            model=(ModelSpec("bulk", folder),),
            provider=options.provider,
            precision=options.precision,
            workers=1,
            max_batch_tokens=_CPU_RUN_TOKENS if options.provider == "cpu" else 0,
            max_texts_per_request=_REQUEST_TEXTS,
            max_text_bytes=options.max_text_bytes,
            # Only the vectors of windows are held against it, and these go to no message.
            max_message_bytes=2**31 - 1,
        )
        self._engine, self._scheduler, _ = load_engine(
            config, executor=self._threads, comparing=self._threads
        )
        self._model = self._engine.model("")
        # A Runner would write out the vectors of each call for a message that nobody sees: it asks
        # `signal.getsignal` for a handler that holds the task.
        self._loop = asyncio.new_event_loop()
        self.facts = self._describe(options)
        try:
            self.embed(["a"])  # Options that do not fit the model are refused now.
        except BaseException:
            self.close()
            raise

    def embed(self, texts: Sequence[str]) -> Outcome:
        """Embeds texts: those that fail do so alone.

        Raises:
            RequestError: The model fails on all.
        """
        if not texts:
            return Outcome(np.empty((0, self.facts.dim), np.float32), [], [], [])
        parts = self._loop.run_until_complete(self._embed(texts))
        return join([_outcome(part) for part in parts])

    def close(self) -> None:
        """Ends its threads."""
        self._scheduler.stop()
        self._threads.shutdown()
        self._loop.close()

    async def _embed(self, texts: Sequence[str]) -> list[Embedded]:
        caller = Caller(flow="bulk", waits=True)
        lists = [
            TextList(texts[start : start + _REQUEST_TEXTS], self._options, is_partial=True)
            for start in range(0, len(texts), _REQUEST_TEXTS)
        ]
        calls = [self._engine.embed(self._model, [part], caller=caller) for part in lists]
        return [embedded for answer in await asyncio.gather(*calls) for embedded in answer]

    def _describe(self, options: EmbedOptions) -> ModelFacts:
        manifest = self._model.manifest
        return ModelFacts(
            manifest.model_id,
            manifest.revision,
            self._model.precision,
            options.dimensions or manifest.dim,
            *self._model.identity,
            is_reproducible=self._model.is_reproducible,
        )


@functools.cache
def shared_embedder(folder: str, options: EmbedOptions) -> LocalEmbedder:
    """The embedder of this process, opened at its first use: for functions of other engines.

    Args:
        folder: Folder of the artifact.
        options: How texts become vectors.
    """
    return LocalEmbedder(Path(folder), options)


def encode_options(options: EmbedOptions) -> EncodeOptions:
    """The same options as the engine knows them."""
    windows = None
    if options.window_tokens is not None:
        windows = WindowOptions(options.window_tokens, options.overlap_tokens, options.pooled)
    return EncodeOptions(
        normalize=options.normalize,
        dimensions=options.dimensions,
        prompt_name=options.prompt_name,
        side=_SIDES[options.truncate],
        refuses_long=options.truncate == "error",
        windows=windows,
    )


def join(parts: Sequence[Outcome]) -> Outcome:
    """The outcomes of consecutive lists of texts as that of one list; each knows its length."""
    starts = _starts(parts)
    return Outcome(
        np.concatenate([part.vectors for part in parts]),
        [index + start for start, part in starts for index in part.texts],
        [tokens for part in parts for tokens in part.tokens],
        [cut for part in parts for cut in part.truncated],
        [span for part in parts for span in part.spans],
        {i + start: problem for start, part in starts for i, problem in part.problems.items()},
    )


def _starts(parts: Sequence[Outcome]) -> list[tuple[int, Outcome]]:
    return [(number * _REQUEST_TEXTS, part) for number, part in enumerate(parts)]


def _outcome(embedded: Embedded) -> Outcome:
    problems = {
        index: Problem(error.reason, _without_place(str(error), index))
        for index, error in embedded.failures.items()
    }
    if embedded.windows:
        rows = embedded.windows
        spans = [Span(row.char_start, row.char_end, row.tokens) for row in rows]
        texts, tokens = [row.text_index for row in rows], [row.tokens for row in rows]
        vectors = embedded.vectors
    else:
        spans = []
        texts = [index for index in range(len(embedded.tokens)) if index not in problems]
        tokens = [embedded.tokens[index] for index in texts]
        vectors = embedded.vectors[texts] if problems else embedded.vectors
    truncated = [index in embedded.truncated for index in texts]
    return Outcome(vectors, texts, tokens, truncated, spans, problems)


def _without_place(message: str, index: int) -> str:
    """The message of an error without the place in the request, which nobody sees."""
    return message.removeprefix(f"texts[{index}]").lstrip(": ")
