"""What the graph and the server must know of a loaded model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from unitvec_export.errors import InputError
from unitvec_server.model.artifact import Pooling, SimilarityFunction, TruncationSide

_POOLINGS: Mapping[str, Pooling] = {"mean": "mean", "cls": "cls"}
_SIDES: Mapping[str, TruncationSide] = {"left": "left", "right": "right"}
_FUNCTIONS: Mapping[str, SimilarityFunction] = {
    "cosine": "cosine",
    "dot": "dot",
    "euclidean": "euclidean",
    "manhattan": "manhattan",
}


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the graph and the server must know of a model.

    Attributes:
        dim: Dimension D of the embeddings, as measured.
        max_seq_length: Longest text in tokens, special tokens included.
        pooling: How token vectors become one.
        normalized: Whether the modules end in L2 normalization, which comes before the cut.
        pad_token_id: Token id that fills up shorter rows.
        prompts: Prompt texts by name; none where all are empty.
        default_prompt_name: Prompt applied when none is named, or None.
        similarity_fn_name: How its vectors are compared.
        truncation_side: Side of a too long text that is cut off.
        is_cut: Whether the model gives only the first D of the dimensions that it computes.
    """

    dim: int
    max_seq_length: int
    pooling: Pooling
    normalized: bool
    pad_token_id: int
    prompts: Mapping[str, str]
    default_prompt_name: str | None
    similarity_fn_name: SimilarityFunction = "cosine"
    truncation_side: TruncationSide = "right"
    is_cut: bool = False

    @property
    def default_prompt(self) -> str:
        """Text put before each text when no prompt is named; may be empty."""
        return self.prompts.get(self.default_prompt_name or "", "")


def read_facts(model: Any, *, dim: int, full_dim: int) -> Facts:
    """Reads the facts of a model.

    Args:
        model: A `SentenceTransformer` that passed `check_model` and `fix_max_seq_length`.
        dim: Dimension of the vectors that it gives.
        full_dim: Dimension before `truncate_dim`.

    Raises:
        InputError: The pooling is not supported.
    """
    prompts = dict(model.prompts) if any(model.prompts.values()) else {}
    default = model.default_prompt_name
    return Facts(
        dim=dim,
        is_cut=dim < full_dim,
        max_seq_length=model.max_seq_length,
        pooling=_read_pooling(model[1]),
        normalized=len(model) > 2,
        pad_token_id=int(model.tokenizer.pad_token_id),
        prompts=prompts,
        default_prompt_name=default if prompts.get(default) else None,
        similarity_fn_name=_FUNCTIONS[model.similarity_fn_name],
        truncation_side=_SIDES[model.tokenizer.truncation_side],
    )


def check_model(model: Any) -> None:
    """Refuses what sentence-transformers loads, but the model or an artifact cannot do.

    Raises:
        InputError: The reason, in one line.
    """
    tokenizer = model.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(f"{type(tokenizer).__name__} has no fast version: not supported")
    if tokenizer.pad_token_id is None:
        raise InputError(
            "its tokenizer has no pad token, without which the model itself encodes nothing: "
            "name one as pad_token in tokenizer_config.json"
        )
    if model.truncate_dim is not None and model.truncate_dim < 1:
        raise InputError(f"truncate_dim is {model.truncate_dim}: at least 1 is needed")
    _read_pooling(model[1])
    _check_vocabulary(model)


def _check_vocabulary(model: Any) -> None:
    rows = model[0].auto_model.get_input_embeddings().num_embeddings
    entries = max(model.tokenizer.get_vocab().values()) + 1
    if entries > rows:
        raise InputError(
            f"its tokenizer has {entries} entries, but its embedding table only {rows}: "
            "the model itself fails on texts with the others"
        )


def _read_pooling(module: Any) -> Pooling:
    mode = module.pooling_mode
    pooling = _POOLINGS.get(mode) if isinstance(mode, str) else None
    if pooling is None:
        name = mode if isinstance(mode, str) else " + ".join(mode)
        raise InputError(f"pooling {name} is not supported: only mean and cls")
    return pooling


def fix_max_seq_length(model: Any) -> None:
    """Lowers the model's limit to its position table where the files promise more.

    RoBERTa's kind counts positions from `padding_idx` + 1: with 514 rows it takes 512 tokens
    and crashes on more, yet nothing in its files says so.

    Raises:
        InputError: There is none, or it leaves no room for a text.
    """
    declared = model.max_seq_length
    usable = _usable_positions(model[0].auto_model)
    limits = [limit for limit in (declared, usable) if limit is not None and limit < 2**31]
    if not limits:
        raise InputError("the model names no longest text: set max_seq_length in its folder")
    longest, special = int(min(limits)), model.tokenizer.num_special_tokens_to_add()
    if longest <= special:
        raise InputError(
            f"max_seq_length {longest} leaves no room for a text beside {special} special tokens: "
            "correct it in sentence_bert_config.json or tokenizer_config.json"
        )
    model.max_seq_length = longest


def _usable_positions(transformer: Any) -> int | None:
    """Rows of the learned position table that a text can use, or None without such a table."""
    import torch

    for module in transformer.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, torch.nn.Embedding):
            offset = getattr(module, "padding_idx", None)
            return table.num_embeddings - (offset + 1 if isinstance(offset, int) else 0)
    return None
