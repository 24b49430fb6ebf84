"""Texts embedded by a running fleet over gRPC, with the back-pressure of its streams."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from unitvec_bulk.embedding.outcome import ModelFacts, Outcome, Span
from unitvec_bulk.options import EmbedOptions
from unitvec_bulk.reading.rows import Problem
from unitvec_client import Client
from unitvec_client.connection import ConnectionOptions
from unitvec_client.errors import RefusedError, UnitvecError
from unitvec_client.options import PooledWindows, Windows
from unitvec_client.results import StreamItem


@dataclasses.dataclass(frozen=True)
class Fleet:
    """Where a fleet is.

    Attributes:
        target: Address of its servers, as the client takes it.
        model: Name of the model; empty for the default.
        connection: Token, TLS and the like.
    """

    target: str
    model: str = ""
    connection: ConnectionOptions = dataclasses.field(default_factory=ConnectionOptions)


class RemoteEmbedder:
    """A client. For one thread.

    Args:
        fleet: Where the servers are.
        options: How texts become vectors; precision and provider are the servers' own.

    Raises:
        UnitvecError: No server can be reached, or it refuses the options.
    """

    def __init__(self, fleet: Fleet, options: EmbedOptions) -> None:
        self._client = Client(fleet.target, connection=fleet.connection)
        self._keywords = {
            "model": fleet.model,
            "normalize": options.normalize,
            "dimensions": options.dimensions or None,
            "truncate": options.truncate,
            "prompt_name": options.prompt_name,
            "windows": _windows(options),
        }
        self._has_windows = options.has_window_rows
        self.facts = self._describe(fleet, options)
        self._client.embed(["a"], **self._keywords)  # type: ignore[call-overload]

    def embed(self, texts: Sequence[str]) -> Outcome:
        """Embeds texts: those that the fleet refuses fail alone.

        Raises:
            UnitvecError: The fleet is gone, or out of order.
        """
        vectors, rows, tokens, truncated = [], [], [], []
        spans: list[Span] = []
        problems: dict[int, Problem] = {}
        for item in self._client.embed_stream(texts, **self._keywords):  # type: ignore[arg-type]
            if item.error is not None:
                problems[item.index] = _problem(item.error)
                continue
            found, windows = _rows(item)
            vectors.append(found)
            rows += [item.index] * len(found)
            tokens += [window.tokens for window in windows] or [item.tokens]
            truncated += [item.truncated] * len(found)
            spans += windows
        empty = np.empty((0, self.facts.dim), np.float32)
        return Outcome(np.concatenate([empty, *vectors]), rows, tokens, truncated, spans, problems)

    def close(self) -> None:
        """Closes the channel."""
        self._client.close()

    def _describe(self, fleet: Fleet, options: EmbedOptions) -> ModelFacts:
        models = self._client.models().models
        model = next((model for model in models if model.name == fleet.model), models[0])
        dim = options.dimensions or model.dim
        return ModelFacts(
            model.model_id,
            model.revision,
            model.precision,
            dim,
            getattr(model, "space", ""),
            getattr(model, "bits", ""),
        )


def _rows(item: StreamItem) -> tuple[np.ndarray, list[Span]]:
    if item.vectors is None:
        assert item.vector is not None
        return item.vector[np.newaxis], []
    return item.vectors, [Span(w.start, w.end, w.tokens) for w in item.windows]


def _problem(error: UnitvecError) -> Problem:
    """A refusal as the problem of one text; anything else is not the text's fault.

    Raises:
        UnitvecError: The error itself.
    """
    if not isinstance(error, RefusedError) and error.reason != "INFERENCE_FAILED":
        raise error
    return Problem(error.reason or type(error).__name__, error.message)


def _windows(options: EmbedOptions) -> Windows | PooledWindows | None:
    if options.window_tokens is None:
        return None
    kind = PooledWindows if options.pooled else Windows
    return kind(options.window_tokens or None, options.overlap_tokens)
