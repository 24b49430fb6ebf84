"""Tiny models of every supported pipeline of modules: `PIPELINES`, by name.

Each builder writes a model into a folder, as `SentenceTransformer.save` does, and returns it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.models import FUSED_BERT, TinyModel, build_parts, edit_json
from unitvec_export.noise import muted
from unitvec_server.model.manifest import Manifest

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
        with muted():
            import torch
            from sentence_transformers import SentenceTransformer, models

            parts = build_parts(folder.with_name(f"{folder.name}-parts"), spec)
            if left:
                edit_json(parts / "tokenizer_config.json", {"padding_side": "left"})
            transformer = models.Transformer(str(parts), max_seq_length=spec.max_seq_length)
            torch.manual_seed(1)
            modules = [transformer, *tail(models, spec.dim)]
            model = SentenceTransformer(
                modules=modules,
                device="cpu",
                prompts=dict(spec.prompts),
                default_prompt_name=spec.default_prompt_name,
            )
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
        with muted():
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


def _static_queries(models: Any, transformer: Any, dim: int) -> Sequence[Any]:
    """A Router whose queries have static embeddings, before a Normalize for all."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(transformer.tokenizer.backend_tokenizer.to_str())
    router = models.Router.for_query_document(
        query_modules=[models.StaticEmbedding(tokenizer, embedding_dim=dim)],
        document_modules=[transformer, models.Pooling(dim, pooling_mode="mean")],
    )
    return [router, models.Normalize()]


def _routed_dense(models: Any, transformer: Any, dim: int) -> Sequence[Any]:
    """A Router of Dense modules behind one Transformer, with prompts for both routes."""
    routes = {name: [models.Dense(dim, 24)] for name in ("query", "document")}
    pooling = models.Pooling(dim, pooling_mode="cls")
    return [transformer, pooling, models.Router(routes, default_route="query"), models.Normalize()]


def _no_default_route(models: Any, transformer: Any, dim: int) -> Sequence[Any]:
    """A Router whose tasks have names of their own, one of which must be given."""
    routes = {name: [models.Dense(dim, 24)] for name in ("one", "two")}
    mappings = {("query", "text"): "one", ("document", None): "two"}
    router = models.Router(routes, allow_empty_key=False, route_mappings=mappings)
    return [transformer, models.Pooling(dim, pooling_mode="mean"), router]


def _build_routed(modules: Callable[[Any, Any, int], Sequence[Any]], **options: Any) -> Builder:
    def build(folder: Path) -> Path:
        with muted():
            import torch
            from sentence_transformers import SentenceTransformer, models

            parts = build_parts(folder.with_name(f"{folder.name}-parts"), _BASE)
            transformer = models.Transformer(str(parts), max_seq_length=_BASE.max_seq_length)
            torch.manual_seed(1)
            model = SentenceTransformer(
                modules=list(modules(models, transformer, _BASE.dim)), device="cpu", **options
            )
            model.save(str(folder), create_model_card=False)
        return folder

    return build


def _build_asym(folder: Path) -> Path:
    """The Router of `_routed_dense`, in the files of sentence-transformers before 5.0."""
    _build_routed(_routed_dense)(folder)
    (folder / "2_Router" / "router_config.json").rename(folder / "2_Router" / "config.json")
    path = folder / "modules.json"
    modules = json.loads(path.read_text(encoding="utf-8"))
    modules[2]["type"] = "sentence_transformers.models.Asym"
    path.write_text(json.dumps(modules), encoding="utf-8")
    return folder


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
_PROMPTS = {"query": "Find this text: ", "passage": "Passage: "}
_PROMPTED = dataclasses.replace(_BASE, prompts=tuple(_PROMPTS.items()))
_DEFAULTED = dataclasses.replace(_PROMPTED, default_prompt_name="query")
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
    "prompts": _build(_DEFAULTED, _pooled("mean")),
    "mean without prompts": _build(_PROMPTED, _pooled("mean", include_prompt=False)),
    "all poolings without prompts": _build(
        _DEFAULTED,
        _pooled(
            ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"),
            include_prompt=False,
        ),
    ),
    "Router, static queries": _build_routed(_static_queries),
    "Router of Dense, prompts": _build_routed(
        _routed_dense, prompts=_PROMPTS, default_prompt_name="passage"
    ),
    "Router without a default": _build_routed(_no_default_route),
    "Asym": _build_asym,
}
"""A builder of each, by the name of its row in docs/models.md."""


def prompt_names(manifest: Manifest) -> list[str | None]:
    """Everything that a request may name as its prompt: None for nothing."""
    has_default = not manifest.routes or "" in manifest.routes
    return [*([None] if has_default else []), *manifest.prompts]


def encode(
    folder: Path,
    texts: Sequence[str],
    prompt_name: str | None,
    *,
    batch_size: int = 32,
    max_seq_length: int | None = None,
) -> npt.NDArray[np.float32]:
    """What sentence-transformers itself makes of texts.

    Args:
        folder: A model.
        texts: n texts.
        prompt_name: A prompt, which is a task too where a Router knows it: `encode_query` and
            `encode_document` name both. A passage is a document to them.
        batch_size: Texts that are padded to one length.
        max_seq_length: Tokens at which texts are cut; None leaves it to the model's files.

    Returns:
        (n, D) float32.
    """
    from sentence_transformers import SentenceTransformer

    with muted():
        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    if max_seq_length is not None:
        model.max_seq_length = max_seq_length
    router = next((each for each in model if hasattr(each, "sub_modules")), None)
    options: dict[str, Any] = {}
    if router is not None and prompt_name is not None:
        tasks = [*router.sub_modules, *(task for task, _ in router.route_mappings)]
        options["task"] = prompt_name if prompt_name in tasks else "document"
    name = prompt_name if prompt_name in model.prompts else None
    vectors: npt.NDArray[np.float32] = model.encode(
        list(texts),
        prompt_name=name,
        batch_size=batch_size,
        show_progress_bar=False,
        **options,
    )
    return vectors
