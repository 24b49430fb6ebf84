"""onnxruntime as a careful user writes it: batches of 32 in order, padded to the longest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import tokenizers

from bench.adapters.sbert import session_options
from bench.harness.adapter import SequentialAdapter, Setup, Vectors
from unitvec_server.model.artifact import load_artifact

_BATCH_SIZE = 32


class PlainOnnxruntime(SequentialAdapter):
    """One session over all threads, on unitvec's pooled and normalized fp32 graph."""

    packages = ("onnxruntime", "tokenizers")

    def __init__(self, setup: Setup) -> None:
        artifact = load_artifact(Path(setup.artifact))
        self.token_limit = artifact.manifest.max_seq_length
        self._tokenizer = tokenizers.Tokenizer.from_file(str(artifact.tokenizer_path))
        self._tokenizer.enable_truncation(self.token_limit)
        self._tokenizer.enable_padding(pad_id=artifact.manifest.pad_token_id)
        self._session = ort.InferenceSession(
            str(artifact.graph_path(setup.precision)),
            session_options(setup.threads),
            providers=["CPUExecutionProvider"],
        )

    def embed(self, texts: list[str]) -> Vectors:
        """Tokenizes and runs each batch in turn."""
        starts = range(0, len(texts), _BATCH_SIZE)
        return np.concatenate([self._run(texts[start : start + _BATCH_SIZE]) for start in starts])

    def _run(self, batch: list[str]) -> Vectors:
        encodings = self._tokenizer.encode_batch(batch)
        feed = {
            "input_ids": np.array([encoding.ids for encoding in encodings], np.int64),
            "attention_mask": np.array([encoding.attention_mask for encoding in encodings]),
        }
        vectors: Vectors = self._session.run(None, feed)[0]
        return vectors
