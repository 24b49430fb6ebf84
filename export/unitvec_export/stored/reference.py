"""A model read from its files, with vectors that sentence-transformers once made of its texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unitvec_export.errors import InputError
from unitvec_export.prove.facts import Facts
from unitvec_export.prove.verification import Group
from unitvec_export.stored.checkpoint import Checkpoint


class StoredReference:
    """What `Reference` is, without torch: it knows the vectors of stored texts only.

    Args:
        checkpoint: The model.
        groups: The texts.
        vectors: Their vectors (n, D) float32, of all groups one after the other.

    Raises:
        InputError: There are not as many vectors as texts, or they have another dimension.
    """

    def __init__(
        self, checkpoint: Checkpoint, groups: Sequence[Group], vectors: npt.NDArray[np.float32]
    ) -> None:
        self._checkpoint = checkpoint
        keys = [(group.prompt_name, text) for group in groups for text in group.texts]
        shape = (len(keys), checkpoint.facts.dim)
        if vectors.shape != shape:
            raise InputError(f"the stored vectors have shape {vectors.shape}, not {shape}")
        self._vectors = dict(zip(keys, vectors, strict=True))

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
        """The stored vectors (n, D) of stored texts."""
        return np.stack([self._vectors[prompt_name, text] for text in texts])


def hash_texts(groups: Sequence[Group]) -> str:
    """Hex sha256 of all texts with their prompts."""
    content = [[group.prompt_name, group.prompt, list(group.texts)] for group in groups]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def hash_token_ids(ids: Sequence[Sequence[int]]) -> str:
    """Hex sha256 of the token ids of all texts."""
    return hashlib.sha256(json.dumps([list(row) for row in ids]).encode()).hexdigest()
