"""Infinity's engine in process, without its HTTP server: the most favourable way to call it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.adapters.plain_export import folder_of
from bench.harness.adapter import ConcurrentAdapter, Setup, Vectors

_BATCH_SIZE = 32  # its default


class Infinity(ConcurrentAdapter):
    """`AsyncEmbeddingEngine` on torch or, with mean pooling asked for, on onnxruntime."""

    packages = ("infinity-emb", "sentence-transformers", "torch", "optimum", "onnxruntime")

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        import torch
        from infinity_emb import AsyncEmbeddingEngine, EngineArgs

        torch.set_num_threads(setup.threads)
        on_torch = setup.flavour == "torch"
        folder = setup.model_folder if on_torch else str(folder_of(Path(setup.cache)))
        arguments = EngineArgs(
            model_name_or_path=folder,
            engine=setup.flavour,
            device="cpu",
            dtype="float32",
            batch_size=_BATCH_SIZE,
            pooling_method=setup.pooling,  # its onnx engine takes CLS unless told
            bettertransformer=True,
            trust_remote_code=False,
        )
        self._engine = AsyncEmbeddingEngine.from_args(arguments)
        # Its onnx engine cuts at the position table, not where the model says.
        self.token_limit = setup.max_seq_length if on_torch else 512
        self.runner.run(self._engine.astart())

    async def embed(self, texts: list[str]) -> Vectors:
        """One call, batched with what else is in flight."""
        vectors, _ = await self._engine.embed(sentences=texts)
        return np.stack(vectors).astype(np.float32)

    def close(self) -> None:
        """Ends its threads."""
        self.runner.run(self._engine.astop())
        self.runner.close()
