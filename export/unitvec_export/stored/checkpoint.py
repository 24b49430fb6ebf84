"""A sentence-transformers model as its files say, read without torch."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unitvec_export.errors import InputError, first_line
from unitvec_export.layout.checkpoint import bare_name
from unitvec_export.layout.files import check_files
from unitvec_export.layout.modules import read_json
from unitvec_export.layout.settings import check_settings
from unitvec_export.prove.facts import Facts
from unitvec_export.stored.facts import read_file_facts

_TOKENIZER = "tokenizer.json"
_PREFIXES = {"xlm-roberta": "roberta", "camembert": "roberta"}
"""What whole models call the bare one, where it is not their kind."""


class Checkpoint:
    """Facts, token ids and weights of a model.

    Args:
        folder: The model, with `modules.json` and `tokenizer.json`.
        weights: Whether its weights must be there.

    Raises:
        InputError: A file is missing, damaged, or asks for what is not supported.
    """

    def __init__(self, folder: Path, *, weights: bool = True) -> None:
        modules = check_files(folder, weights=weights)
        check_settings(folder, modules)
        self._root = folder / modules[0].path
        self.config: Mapping[str, Any] = read_json(self._root / "config.json")
        self._tokenizer = self._load_tokenizer()
        self.facts: Facts = read_file_facts(folder, modules, self.config, self._tokenizer)

    @property
    def weights_path(self) -> Path:
        """The file of its weights.

        Raises:
            InputError: It has none that is read without torch.
        """
        path = self._root / "model.safetensors"
        if not path.is_file():
            raise InputError(f"{self._root} has no {path.name}: only torch reads its weights")
        return path

    @functools.cached_property
    def tensors(self) -> Mapping[str, npt.NDArray[Any]]:
        """Weights of the transformer alone as float32, by the names of transformers."""
        from safetensors.numpy import load_file

        path = self.weights_path
        try:
            stored = load_file(path)
        except Exception as exc:  # SafetensorError and OSError share no useful base
            raise InputError(f"{path} cannot be read: {first_line(exc)}") from exc
        kind = str(self.config.get("model_type", ""))
        prefix = _PREFIXES.get(kind, kind)
        return {
            bare_name(name, prefix): array.astype(np.float32, copy=False)
            if np.issubdtype(array.dtype, np.floating)
            else array
            for name, array in stored.items()
        }

    @property
    def special_tokens(self) -> list[str]:
        """The tokens that its tokenizer treats as one where a text holds them."""
        added = self._tokenizer.get_added_tokens_decoder().values()
        return [token.content for token in added if token.special]

    def tokenizer_json(self) -> str:
        """The tokenizer as text, without padding and truncation."""
        return str(self._tokenizer.to_str(pretty=True))

    def token_ids(self, texts: Sequence[str], *, prompt: str = "") -> list[list[int]]:
        """Ids of each text, cut at the model's longest length.

        Raises:
            InputError: The tokenizer marks token types, which an artifact cannot carry.
        """
        import tokenizers

        cutting = tokenizers.Tokenizer.from_str(self._tokenizer.to_str())
        facts = self.facts
        cutting.enable_truncation(facts.max_seq_length, direction=facts.truncation_side)
        encodings = cutting.encode_batch([prompt + text for text in texts])
        if any(any(encoding.type_ids) for encoding in encodings):
            raise InputError("the tokenizer gives token_type_ids other than 0: not supported")
        return [encoding.ids for encoding in encodings]

    def _load_tokenizer(self) -> Any:
        import tokenizers

        path = self._root / _TOKENIZER
        if not path.is_file():
            raise InputError(
                f"{self._root} has no {_TOKENIZER}: only sentence-transformers reads it"
            )
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as exc:  # tokenizers raises a bare Exception
            raise InputError(f"{path} cannot be read: {first_line(exc)}") from exc
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer
