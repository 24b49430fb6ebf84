"""Tiny models of every supported pipeline of modules: `PIPELINES`, by name.

Each builder writes a model into a folder, as `SentenceTransformer.save` does, and returns it.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.models import FUSED_BERT, TinyModel, build_parts, edit_json

Builder = Callable[[Path], Path]
Tail = Callable[[Any, int], Sequence[Any]]
"""From sentence_transformers' `models` and the hidden size to the modules after the Transformer."""

_BASE = FUSED_BERT
_RELATIVE = TinyModel(architecture="t5")
"""One whose positions are relative, so that padding on the left shifts nothing."""


def _build(spec: TinyModel, tail: Tail, *, left: bool = False) -> Builder:
    """Builds a Transformer and the modules after it.

    Args:
        spec: The Transformer.
        tail: The modules.
        left: Whether its tokenizer pads on the left.
    """

    def build(folder: Path) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch
            from sentence_transformers import SentenceTransformer, models

            parts = build_parts(folder.with_name(f"{folder.name}-parts"), spec)
            if left:
                edit_json(parts / "tokenizer_config.json", {"padding_side": "left"})
            transformer = models.Transformer(str(parts), max_seq_length=spec.max_seq_length)
            torch.manual_seed(1)
            modules = [transformer, *tail(models, spec.dim)]
            model = SentenceTransformer(modules=modules, device="cpu", prompts=dict(spec.prompts))
            _scatter(model)
            model.save(str(folder), create_model_card=False)
        return folder

    return build


def _scatter(model: Any) -> None:
    """Gives each LayerNorm after pooling a gain and a bias of its own: 1 and 0 show nothing."""
    import torch

    for module in list(model)[1:]:
        if type(module).__name__ == "LayerNorm":
            with torch.no_grad():
                module.norm.weight.uniform_(0.5, 1.5)
                module.norm.bias.uniform_(-0.5, 0.5)


def _pooled(mode: str | tuple[str, ...], *, normalize: bool = True, **options: Any) -> Tail:
    def tail(models: Any, dim: int) -> Sequence[Any]:
        pooling = models.Pooling(dim, pooling_mode=mode, **options)
        return [pooling, *([models.Normalize()] if normalize else [])]

    return tail


def _dense(activation: str, *, bias: bool = True, normalize: str = "after") -> Tail:
    """A Dense that halves the dimension, with a Normalize before, after or nowhere."""

    def tail(models: Any, dim: int) -> Sequence[Any]:
        from torch import nn

        function = getattr(nn, activation)()
        dense = models.Dense(dim, dim // 2, bias=bias, activation_function=function)
        before = [models.Normalize()] if normalize == "before" else []
        after = [models.Normalize()] if normalize == "after" else []
        return [models.Pooling(dim, pooling_mode="mean"), *before, dense, *after]

    return tail


def _dense_of_tokens(models: Any, dim: int) -> Sequence[Any]:
    dense = models.Dense(dim, 24, module_input_name="token_embeddings")
    return [dense, models.Pooling(24, pooling_mode="mean"), models.Normalize()]


def _layer_norm(models: Any, dim: int) -> Sequence[Any]:
    dense = models.Dense(dim, dim)
    pooling = models.Pooling(dim, pooling_mode="cls")
    return [pooling, models.Dropout(), dense, models.LayerNorm(dim), models.Normalize()]


def _build_static(*, normalize: bool) -> Builder:
    def build(folder: Path) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torch
            from sentence_transformers import SentenceTransformer, models
            from tokenizers import Tokenizer

            parts = build_parts(folder.with_name(f"{folder.name}-parts"), _BASE)
            torch.manual_seed(1)
            tokenizer = Tokenizer.from_file(str(parts / "tokenizer.json"))
            modules = [models.StaticEmbedding(tokenizer, embedding_dim=32)]
            modules += [models.Normalize()] if normalize else []
            model = SentenceTransformer(modules=modules, device="cpu")
            model.save(str(folder), create_model_card=False)
        return folder

    return build


def _build_plain(folder: Path) -> Path:
    """A folder of transformers, without modules.json."""
    return build_parts(folder, _BASE)


def _with_settings(builder: Builder, file: str, **keys: Any) -> Builder:
    def build(folder: Path) -> Path:
        builder(folder)
        edit_json(folder / file, keys)
        return folder

    return build


_MEAN = _build(_BASE, _pooled("mean"))
_NO_SPECIALS = dataclasses.replace(_BASE, special_tokens=False)

PIPELINES: Mapping[str, Builder] = {
    "mean, Normalize": _MEAN,
    "mean alone": _build(_BASE, _pooled("mean", normalize=False)),
    "cls": _build(_BASE, _pooled("cls")),
    "max": _build(_BASE, _pooled("max")),
    "mean_sqrt_len_tokens": _build(_BASE, _pooled("mean_sqrt_len_tokens", normalize=False)),
    "weightedmean": _build(_BASE, _pooled("weightedmean")),
    "lasttoken, padded right": _build(_BASE, _pooled("lasttoken")),
    "lasttoken, padded left": _build(_RELATIVE, _pooled("lasttoken"), left=True),
    "cls + max + mean": _build(_BASE, _pooled(("cls", "max", "mean"))),
    "Dense tanh, Normalize": _build(_BASE, _dense("Tanh")),
    "Normalize, Dense without bias": _build(
        _BASE, _dense("Identity", bias=False, normalize="before")
    ),
    "Dense gelu": _build(_BASE, _dense("GELU", normalize="nowhere")),
    "Dense of tokens": _build(_BASE, _dense_of_tokens),
    "Dropout, Dense, LayerNorm, Normalize": _build(_BASE, _layer_norm),
    "StaticEmbedding": _build_static(normalize=False),
    "StaticEmbedding, Normalize": _build_static(normalize=True),
    "truncate_dim": _with_settings(
        _build(_BASE, _dense("Tanh")), "config_sentence_transformers.json", truncate_dim=16
    ),
    "split_special_tokens": _with_settings(
        _MEAN, "tokenizer_config.json", split_special_tokens=True
    ),
    "no special tokens": _build(_NO_SPECIALS, _pooled("mean")),
    "no modules.json": _build_plain,
}
"""A builder of each, by the name of its row in docs/models.md."""
