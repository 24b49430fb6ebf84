"""What an export needs to know of a model, however the model was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from unitvec_export.prove.facts import Facts


class Vectors(Protocol):
    """What knows the vectors of texts."""

    def encode(
        self, texts: Sequence[str], *, prompt_name: str | None = None
    ) -> npt.NDArray[np.float32]:
        """The vectors (n, D) float32 of sentence-transformers that the artifact must reproduce."""


class Model(Vectors, Protocol):
    """A model to export: loaded by sentence-transformers, or read from its files."""

    @property
    def facts(self) -> Facts:
        """What the graph and the server must know of it."""

    @property
    def config(self) -> Mapping[str, Any]:
        """Its `config.json`."""

    @property
    def architecture(self) -> Mapping[str, Any]:
        """Kind of transformer, and its settings that are not the defaults of its kind."""

    @property
    def tensors(self) -> Mapping[str, npt.NDArray[Any]]:
        """Weights of the transformer alone, by the names of transformers."""

    @property
    def special_tokens(self) -> list[str]:
        """The tokens that its tokenizer treats as one where a text holds them."""

    def tokenizer_json(self) -> str:
        """The tokenizer as text, without padding and truncation."""

    def token_ids(self, texts: Sequence[str], *, prompt: str = "") -> list[list[int]]:
        """Ids of each text as the model sees them, cut at its longest length."""
