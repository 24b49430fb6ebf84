"""The model as sentence-transformers runs it: what an artifact must reproduce."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unitvec_export.errors import InputError, first_line
from unitvec_export.layout.checkpoint import check_complete
from unitvec_export.noise import muted
from unitvec_export.source import Source, read_modules
from unitvec_server.model.artifact import Pooling

_POOLINGS: Mapping[str, Pooling] = {"mean": "mean", "cls": "cls"}
_BATCH_SIZE = 16


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the graph and the server must know of a model.

    Attributes:
        dim: Dimension D of the embeddings.
        max_seq_length: Longest text in tokens, special tokens included.
        pooling: How token vectors become one.
        normalized: Whether the model ends in L2 normalization.
        pad_token_id: Token id that fills up shorter rows.
        prompts: Prompt texts by name, empty ones left out.
        default_prompt_name: Prompt applied when none is named, or None.
    """

    dim: int
    max_seq_length: int
    pooling: Pooling
    normalized: bool
    pad_token_id: int
    prompts: Mapping[str, str]
    default_prompt_name: str | None

    @property
    def default_prompt(self) -> str:
        """Text put before each text when no prompt is named; may be empty."""
        return self.prompts.get(self.default_prompt_name or "", "")


class Reference:
    """A loaded sentence-transformers model, fp32 on CPU.

    Args:
        model: A `SentenceTransformer` whose modules have been checked.
        facts: What is known of it.
    """

    def __init__(self, model: Any, facts: Facts) -> None:
        self.facts = facts
        self._model = model

    @property
    def transformer(self) -> Any:
        """The `transformers` model inside."""
        return self._model[0].auto_model

    def tokenizer_json(self) -> str:
        """The fast tokenizer as text, lower-casing included, without padding and truncation."""
        import tokenizers

        text = self._model.tokenizer.backend_tokenizer.to_str()
        tokenizer = tokenizers.Tokenizer.from_str(text)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return str(tokenizer.to_str(pretty=True))

    def encode(
        self, texts: Sequence[str], *, prompt_name: str | None = None
    ) -> npt.NDArray[np.float32]:
        """`SentenceTransformer.encode` with its default options.

        Args:
            texts: n texts.
            prompt_name: One of the model's prompts; None means the model's default.

        Returns:
            (n, D) float32.
        """
        embeddings: npt.NDArray[np.float32] = self._model.encode(
            list(texts),
            prompt_name=prompt_name,
            batch_size=_BATCH_SIZE,
            show_progress_bar=False,
        )
        return embeddings

    def token_ids(self, texts: Sequence[str], *, prompt: str = "") -> list[list[int]]:
        """Ids of each text as the model sees them, cut at its longest length.

        Raises:
            InputError: The tokenizer marks token types, which an artifact cannot carry.
        """
        rows: list[list[int]] = []
        for text in texts:
            features = self._model.preprocess([text], prompt=prompt or None)
            types = features.get("token_type_ids")
            if types is not None and bool(types.any()):
                raise InputError("the tokenizer gives token_type_ids other than 0: not supported")
            rows.append(features["input_ids"][0].tolist())
        return rows


def load_reference(source: Source, *, verbose: bool = False) -> Reference:
    """Loads a model the way sentence-transformers does, on CPU in fp32.

    Raises:
        InputError: A module, the pooling or the tokenizer is not supported, or files are damaged.
    """
    modules = read_modules(source.folder)
    check_module_types(module["type"] for module in modules)
    with muted(verbose=verbose):
        import torch
        from sentence_transformers import SentenceTransformer

        try:
            model = SentenceTransformer(
                str(source.folder),
                device="cpu",
                local_files_only=True,
                model_kwargs={"torch_dtype": torch.float32},
            )
        except Exception as exc:  # every library raises its own for a damaged file
            raise InputError(f"{source.folder} cannot be loaded: {_explain(exc)}") from exc
    check_complete(model[0].auto_model, source.folder / modules[0]["path"])
    model.eval()
    return Reference(model, _read_facts(model))


def _explain(exc: Exception) -> str:
    """The cause in the user's words, where the library's own do not name it."""
    if type(exc).__name__ == "SafetensorError":
        return f"its weights are damaged ({first_line(exc)})"
    if "processing class" in str(exc):
        return "its tokenizer files are missing or damaged"
    return first_line(exc)


def check_module_types(types: Iterable[str]) -> None:
    """Refuses pipelines other than Transformer, Pooling and an optional Normalize.

    Args:
        types: Class paths in the order of `modules.json`.

    Raises:
        InputError: A module is not supported, or the order is another.
    """
    names = []
    for path in types:
        name = path.rpartition(".")[2]
        if name not in ("Transformer", "Pooling", "Normalize"):
            raise InputError(f"module {name} ({path}) is not supported: only {_SUPPORTED}")
        if not path.startswith("sentence_transformers."):
            raise InputError(f"module {path} is custom code: not supported, only {_SUPPORTED}")
        names.append(name)
    if names not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise InputError(f"modules {' -> '.join(names)} are not supported: only {_SUPPORTED}")


_SUPPORTED = "Transformer -> Pooling (mean or cls) -> Normalize or nothing"


def _read_facts(model: Any) -> Facts:
    pooling = _read_pooling(model[1])
    prompts = {name: text for name, text in model.prompts.items() if text}
    if prompts and not model[1].include_prompt:
        raise InputError("pooling with include_prompt=False is not supported")
    tokenizer = model.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(f"{type(tokenizer).__name__} has no fast version: not supported")
    default = model.default_prompt_name
    return Facts(
        dim=model.get_embedding_dimension(),
        max_seq_length=_fix_max_seq_length(model),
        pooling=pooling,
        normalized=len(model) > 2,
        pad_token_id=_read_pad_token_id(model),
        prompts=prompts,
        default_prompt_name=default if default in prompts else None,
    )


def _read_pooling(module: Any) -> Pooling:
    mode = module.pooling_mode
    pooling = _POOLINGS.get(mode) if isinstance(mode, str) else None
    if pooling is None:
        name = mode if isinstance(mode, str) else " + ".join(mode)
        raise InputError(f"pooling {name} is not supported: only mean and cls")
    return pooling


def _read_pad_token_id(model: Any) -> int:
    candidates = (model.tokenizer.pad_token_id, model[0].auto_model.config.pad_token_id, 0)
    return int(next(value for value in candidates if value is not None))


def _fix_max_seq_length(model: Any) -> int:
    """The model's limit, lowered to its position table where the files promise more.

    RoBERTa's kind counts positions from `padding_idx` + 1: with 514 rows it takes 512 tokens
    and crashes on more, yet nothing in its files says so.
    """
    declared = model.max_seq_length
    usable = _usable_positions(model[0].auto_model)
    limits = [limit for limit in (declared, usable) if limit is not None and limit < 2**31]
    if not limits:
        raise InputError("the model names no longest text: set max_seq_length in its folder")
    model.max_seq_length = min(limits)
    return int(min(limits))


def _usable_positions(transformer: Any) -> int | None:
    """Rows of the learned position table that a text can use, or None without such a table."""
    import torch

    for module in transformer.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, torch.nn.Embedding):
            offset = getattr(module, "padding_idx", None)
            return table.num_embeddings - (offset + 1 if isinstance(offset, int) else 0)
    return None
