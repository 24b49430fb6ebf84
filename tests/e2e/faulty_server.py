"""`unitvec-serve` with models that misbehave on demand, for tests that start it as a process.

What a text does depends on its length in tokens, or on what it says, so that any client can ask for
it. Everything but the encoder and the tokenizer is the real server, and those are the real ones for
all other texts.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.e2e import limited_server
from unitvec_server.engine import loading
from unitvec_server.model.encoder import Encoder, EncoderOptions
from unitvec_server.model.tokenizer import Encoding, Tokenizer

HANG, DIE, FAIL, BREAK = 21, 22, 23, 24  # tokens, special tokens included
HANG_TOKENIZER = "hang"  # the text
NO_MEMORY = "FAULTY_NO_MEMORY"  # variable: the model does not fit


class WorkerKilled(BaseException):
    """Nothing that a server could be prepared for."""


class FaultyEncoder(Encoder):
    """Hangs, ends its worker, fails once, or fails from then on."""

    broken = False

    def __init__(self, graph_path: Path, options: EncoderOptions) -> None:
        if os.environ.get(NO_MEMORY):
            raise MemoryError
        super().__init__(graph_path, options)

    def encode(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        lengths = {len(row) for row in rows}
        FaultyEncoder.broken |= BREAK in lengths
        if HANG in lengths:
            threading.Event().wait()
        if DIE in lengths:
            raise WorkerKilled
        if FAIL in lengths or self.broken:
            raise RuntimeError("injected")
        return super().encode(rows)


class FaultyTokenizer(Tokenizer):
    """Hangs."""

    def encode(self, texts: Sequence[str], **options: Any) -> list[Encoding]:
        if HANG_TOKENIZER in texts:
            threading.Event().wait()
        return super().encode(texts, **options)


if __name__ == "__main__":
    vars(loading)["Encoder"] = FaultyEncoder
    vars(loading)["Tokenizer"] = FaultyTokenizer
    sys.exit(limited_server.main())
