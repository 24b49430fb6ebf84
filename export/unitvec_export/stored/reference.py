"""A model read from its files, with vectors that sentence-transformers once made of its texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unitvec_export.prove.facts import Facts
from unitvec_export.prove.model import Vectors
from unitvec_export.stored.checkpoint import Checkpoint


class StoredReference:
    """What `Reference` is, without torch: it knows the vectors of some texts only.

    Args:
        checkpoint: The model.
        vectors: What is known of it.
        architecture: Kind of transformer, and its settings that are not the defaults of its kind.
    """

    def __init__(
        self, checkpoint: Checkpoint, vectors: Vectors, *, architecture: Mapping[str, Any]
    ) -> None:
        self.architecture = architecture
        self._checkpoint = checkpoint
        self._vectors = vectors

    @property
    def facts(self) -> Facts:
        """What the graph and the server must know of the model."""
        return self._checkpoint.facts

    @property
    def config(self) -> Mapping[str, Any]:
        """Its `config.json`."""
        return self._checkpoint.config

    @property
    def tensors(self) -> Mapping[str, npt.NDArray[Any]]:
        """Weights of the transformer alone, by the names of transformers."""
        return self._checkpoint.tensors

    @property
    def special_tokens(self) -> list[str]:
        """The tokens that its tokenizer treats as one where a text holds them."""
        return self._checkpoint.special_tokens

    def tokenizer_json(self) -> str:
        """The tokenizer as text, without padding and truncation."""
        return self._checkpoint.tokenizer_json()

    def token_ids(self, texts: Sequence[str], *, prompt: str = "") -> list[list[int]]:
        """Ids of each text, cut at the model's longest length."""
        return self._checkpoint.token_ids(texts, prompt=prompt)

    def encode(
        self, texts: Sequence[str], *, prompt_name: str | None = None
    ) -> npt.NDArray[np.float32]:
        """The vectors (n, D) of texts that are known."""
        return self._vectors.encode(texts, prompt_name=prompt_name)


def hash_token_ids(ids: Sequence[Sequence[int]]) -> str:
    """Hex sha256 of the token ids of all texts."""
    return hashlib.sha256(json.dumps([list(row) for row in ids]).encode()).hexdigest()
