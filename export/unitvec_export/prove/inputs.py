"""The first module of a model, which turns texts into tokens: Transformer or StaticEmbedding."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from unitvec_export.errors import InputError
from unitvec_server.model.manifest import TruncationSide

STATIC_TOKENS = 8192
"""Longest text of a StaticEmbedding whose files name none. sentence-transformers has no bound, but
a server holds the vectors of all tokens of a text at once: 32 MiB of 1,024 dimensions."""

_SIDES: Mapping[str, TruncationSide] = {"left": "left", "right": "right"}


@dataclasses.dataclass(frozen=True)
class Input:
    """What is known of a first module.

    Attributes:
        module: The module itself, which cuts texts at `max_seq_length` from now on.
        tokenizer_json: Its tokenizer as text, without padding and truncation.
        special_tokens: Tokens that are treated as one where a text holds them.
        max_seq_length: Longest text in tokens, special tokens included.
        pad_token_id: Token id that fills up shorter rows.
        truncation_side: Side of a too long text that is cut off.
        split_special_tokens: Whether the name of a special token inside a text is plain text.
    """

    module: Any
    tokenizer_json: str
    special_tokens: list[str]
    max_seq_length: int
    pad_token_id: int = 0
    truncation_side: TruncationSide = "right"
    split_special_tokens: bool = False


def read_input(module: Any) -> Input:
    """Reads the first module and lets it cut texts where a server will.

    Raises:
        InputError: sentence-transformers loads it, but nothing can serve it.
    """
    is_static = type(module).__name__ == "StaticEmbedding"
    return _read_static(module) if is_static else _read_transformer(module)


def _read_transformer(module: Any) -> Input:
    tokenizer = module.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(f"{type(tokenizer).__name__} has no fast version: not supported")
    if tokenizer.pad_token_id is None:
        raise InputError(
            "its tokenizer has no pad token, without which the model itself encodes nothing: "
            "name one as pad_token in tokenizer_config.json"
        )
    table = module.auto_model.get_input_embeddings()
    _check_vocabulary(tokenizer.get_vocab(), table.num_embeddings)
    module.max_seq_length = _longest(module)
    return Input(
        module=module,
        tokenizer_json=_bare(tokenizer.backend_tokenizer.to_str()),
        special_tokens=list(tokenizer.all_special_tokens),
        max_seq_length=module.max_seq_length,
        pad_token_id=int(tokenizer.pad_token_id),
        truncation_side=_SIDES[tokenizer.truncation_side],
        split_special_tokens=bool(tokenizer.split_special_tokens),
    )


def _longest(module: Any) -> int:
    """A Transformer's limit, lowered to its position table where the files promise more.

    RoBERTa's kind counts positions from `padding_idx` + 1: with 514 rows it takes 512 tokens
    and crashes on more, yet nothing in its files says so.
    """
    declared = module.max_seq_length
    usable = _usable_positions(module.auto_model)
    limits = [limit for limit in (declared, usable) if limit is not None and limit < 2**31]
    if not limits:
        raise InputError("the model names no longest text: set max_seq_length in its folder")
    longest, special = int(min(limits)), module.tokenizer.num_special_tokens_to_add()
    if longest <= special:
        raise InputError(
            f"max_seq_length {longest} leaves no room for a text beside {special} special tokens: "
            "correct it in sentence_bert_config.json or tokenizer_config.json"
        )
    return longest


def _usable_positions(transformer: Any) -> int | None:
    """Rows of the learned position table that a text can use, or None without such a table."""
    import torch

    for module in transformer.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, torch.nn.Embedding):
            offset = getattr(module, "padding_idx", None)
            return table.num_embeddings - (offset + 1 if isinstance(offset, int) else 0)
    return None


def _read_static(module: Any) -> Input:
    """A bare tokenizer, whose special tokens sentence-transformers does not add to texts."""
    tokenizer = module.tokenizer
    _check_vocabulary(tokenizer.get_vocab(with_added_tokens=True), module.num_embeddings)
    # sentence-transformers turns off the file's padding, but leaves its truncation.
    truncation = tokenizer.truncation or {}
    longest = int(truncation.get("max_length", STATIC_TOKENS))
    side = _SIDES[truncation.get("direction", "right")]
    content = {**json.loads(tokenizer.to_str()), "post_processor": None}
    tokenizer.enable_truncation(longest, direction=side)
    return Input(
        module=module,
        tokenizer_json=_bare(json.dumps(content)),
        special_tokens=[
            token.content
            for token in tokenizer.get_added_tokens_decoder().values()
            if token.special
        ],
        max_seq_length=longest,
        truncation_side=side,
    )


def _bare(text: str) -> str:
    """A tokenizer without padding and truncation."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_str(text)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return str(tokenizer.to_str(pretty=True))


def _check_vocabulary(vocabulary: Mapping[str, int], rows: int) -> None:
    entries = max(vocabulary.values()) + 1
    if entries > rows:
        raise InputError(
            f"its tokenizer has {entries} entries, but its embedding table only {rows}: "
            "the model itself fails on texts with the others"
        )
