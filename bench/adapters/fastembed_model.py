"""fastembed on the same plain ONNX graph, by local path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.adapters.plain_export import GRAPH, folder_of, with_limit
from bench.harness.adapter import SequentialAdapter, Setup, Vectors

_BATCH_SIZE = 32
_NAME = "bench/model"


class Fastembed(SequentialAdapter):
    """`TextEmbedding` over a custom model: its own tokenization, padding and pooling.

    It cuts texts where `tokenizer_config.json` says; flavour ``repaired`` makes that the
    model's own limit.
    """

    packages = ("fastembed", "onnxruntime", "tokenizers")

    def __init__(self, setup: Setup) -> None:
        from fastembed import TextEmbedding
        from fastembed.common.model_description import ModelSource, PoolingType

        cache = Path(setup.cache)
        repaired = setup.flavour == "repaired"
        folder = with_limit(cache, setup.max_seq_length) if repaired else folder_of(cache)
        TextEmbedding.add_custom_model(
            model=_NAME,
            pooling=PoolingType[setup.pooling.upper()],
            normalization=True,
            sources=ModelSource(hf=_NAME),
            dim=setup.dim,
            model_file=GRAPH,
        )
        self._model = TextEmbedding(
            _NAME, threads=setup.threads, specific_model_path=str(folder), cuda=False
        )
        inner: Any = self._model.model
        self.token_limit = inner.tokenizer.truncation["max_length"]

    def embed(self, texts: list[str]) -> Vectors:
        """`TextEmbedding.embed` with the reference's batch size; it does not sort by length."""
        return np.stack(list(self._model.embed(texts, batch_size=_BATCH_SIZE))).astype(np.float32)
