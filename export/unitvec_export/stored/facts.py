"""What the graph and the server must know of a model, from its files alone.

What only the libraries work out is refused here: such a model is exported with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unitvec_export.errors import InputError
from unitvec_export.layout.modules import Module
from unitvec_export.layout.settings import MODEL, TOKENIZER, TRANSFORMER
from unitvec_export.pipeline.norms import Cut, Normalize
from unitvec_export.pipeline.pooling import Pooling
from unitvec_export.prove.facts import Facts

_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
_COUNTED_FROM_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")
"""Kinds whose first position is the one after the padding id."""


def read_file_facts(
    folder: Path,
    modules: Sequence[Module],
    config: Mapping[str, Any],
    tokenizer: Any,
) -> Facts:
    """Reads the facts of a model.

    Args:
        folder: The model.
        modules: Its modules.
        config: The transformer's `config.json`.
        tokenizer: Its `tokenizers.Tokenizer`.

    Raises:
        InputError: It takes sentence-transformers to know one of them.
    """
    _check_modules(modules)
    root = folder / modules[0].path
    model, settings = _read(folder / MODEL), _read(root / TOKENIZER)
    transformer = _read_transformer(root)
    if transformer.get("do_lower_case") and not settings.get("do_lower_case"):
        raise _only_by_libraries("do_lower_case of sentence_bert_config.json")
    prompts = dict(model.get("prompts") or {})
    prompts = prompts if any(prompts.values()) else {}
    default = model.get("default_prompt_name")
    hidden = int(config.get("hidden_size") or config.get("dim") or 0)
    dim = min(hidden, model.get("truncate_dim") or hidden)
    return Facts(
        dim=dim,
        max_seq_length=_max_seq_length(transformer, settings, config),
        steps=(
            Pooling((_pooling(folder / modules[1].path),)),
            *([Normalize()] if len(modules) > 2 else []),
            *([Cut(dim)] if dim < hidden else []),
        ),
        pad_token_id=_pad_token_id(settings, tokenizer),
        prompts=prompts,
        default_prompt_name=default if prompts.get(default) else None,
        similarity_fn_name=model.get("similarity_fn_name") or "cosine",
        truncation_side=settings.get("truncation_side", "right"),
        split_special_tokens=bool(settings.get("split_special_tokens")),
    )


def _check_modules(modules: Sequence[Module]) -> None:
    names = [module.name for module in modules]
    if names not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise _only_by_libraries(f"a pipeline of {' -> '.join(names)}")


def _read(path: Path) -> Any:
    """A file that `check_settings` has read before; empty if it is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _read_transformer(root: Path) -> Any:
    return _read(next(iter(sorted(root.glob("sentence_*_config.json"))), root / TRANSFORMER))


def _pooling(folder: Path) -> Any:
    content = _read(folder / "config.json")
    modes = content.get("pooling_mode")
    if modes is None:
        modes = [key for key, on in content.items() if key.startswith("pooling_mode_") and on]
        modes = [_POOLINGS.get(mode, mode) for mode in modes]
    modes = [modes] if isinstance(modes, str) else modes
    if len(modes) != 1 or modes[0] not in _POOLINGS.values():
        raise _only_by_libraries(f"pooling {' + '.join(modes)}")
    if not content.get("include_prompt", True):
        raise _only_by_libraries("include_prompt")
    return modes[0]


def _max_seq_length(
    transformer: Mapping[str, Any], settings: Mapping[str, Any], config: Mapping[str, Any]
) -> int:
    """As sentence-transformers: the longest that is declared, down to what positions allow."""
    declared = transformer.get("max_seq_length") or settings.get("model_max_length")
    positions = config.get("max_position_embeddings")
    if positions is not None and config.get("model_type") in _COUNTED_FROM_PADDING:
        positions -= int(config["pad_token_id"]) + 1
    limits = [limit for limit in (declared, positions) if limit is not None and limit < 2**31]
    if not limits:
        raise InputError("the model names no longest text: set max_seq_length in its folder")
    return int(min(limits))


def _pad_token_id(settings: Mapping[str, Any], tokenizer: Any) -> int:
    token = settings.get("pad_token")
    name = token.get("content") if isinstance(token, Mapping) else token
    found = None if name is None else tokenizer.token_to_id(name)
    if found is None:
        raise _only_by_libraries("the padding token")
    return int(found)


def _only_by_libraries(what: str) -> InputError:
    return InputError(
        f"{what} is read by sentence-transformers alone: export without --without-torch"
    )
