"""The encoder without anything around it: what a job is held against."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from unitvec_server.config import ModelSpec, ServerConfig
from unitvec_server.engine.loading import load_model


class BareEncoder:
    """The encoder on texts that are split already, packed as the engine packs them.

    Args:
        artifact: Folder of the model.
        texts: What it embeds in each round.
    """

    def __init__(self, artifact: Path, texts: Sequence[str]) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        config = ServerConfig(model=(ModelSpec("bench", artifact),), workers=1, provider="cpu")
        loaded = load_model(config.model[0], config)
        self._encoder, self._rows = loaded.encoder, len(texts)
        encodings = loaded.model.tokenizer.encode(texts)
        ids = (encoding.input_ids for encoding in encodings)
        self._runs = list(_packed(ids, loaded.model.max_batch_tokens))

    def rows_per_s(self, threads: int) -> float:
        """Rows a second on so many threads."""
        started_s = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(self._encoder.encode, self._runs):
                pass
        return self._rows / (time.perf_counter() - started_s)


def _packed(rows: Iterable[Any], most_tokens: int) -> Iterator[list[Any]]:
    held: list[Any] = []
    tokens = 0
    for row in rows:
        if held and tokens + len(row) > most_tokens:
            yield held
            held, tokens = [], 0
        held.append(row)
        tokens += len(row)
    yield held
