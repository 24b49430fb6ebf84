"""`unitvec-serve` with models that misbehave on demand, for tests that start it as a process.

What a text does depends on its length in tokens, or on what it says, so that any client can ask for
it. Everything but the encoder and the tokenizer is the real server, and those are the real ones for
all other texts.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.e2e import limited_server
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_server.engine import loading
from unitvec_server.model import tokenizer
from unitvec_server.model.encoder import Encoder, EncoderOptions
from unitvec_server.model.tokenizer import Encoding, Tokenizer

HANG, DIE, FAIL, BREAK, HOLD = 21, 22, 23, 24, 25  # tokens, special tokens included
RELEASE = "FAULTY_RELEASE"  # variable: the file that lets go what is on hold, once it is there
HANG_TOKENIZER = "hang"  # the text
S_PER_TEXT = "FAULTY_S_PER_TEXT"  # variable: how slow the model is
NO_MEMORY = "FAULTY_NO_MEMORY"  # variable: the model does not fit
LOADS = "FAULTY_LOADS"  # variable: while this file is there, models load without end


def text(tokens: int) -> str:
    """A text of so many tokens: words that the tiny model knows whole, two special tokens."""
    return " ".join(["a"] * (tokens - 2))


def request(*tokens: int) -> pb.EmbedRequest:
    """A request of texts of these lengths."""
    return pb.EmbedRequest(texts=[text(count) for count in tokens])


class WorkerKilled(BaseException):
    """Nothing that a server could be prepared for."""


class FaultyEncoder(Encoder):
    """Hangs, waits for `RELEASE`, ends its worker, fails once or from then on; or is slow."""

    broken = False
    s_per_text = float(os.environ.get(S_PER_TEXT, "0"))

    def __init__(self, graph_path: Path, options: EncoderOptions) -> None:
        if os.environ.get(NO_MEMORY):
            raise MemoryError
        super().__init__(graph_path, options)
        while os.environ.get(LOADS) and Path(os.environ[LOADS]).exists():
            super().__init__(graph_path, options)

    def encode(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        lengths = {len(row) for row in rows}
        FaultyEncoder.broken |= BREAK in lengths
        if HANG in lengths:
            threading.Event().wait()
        if HOLD in lengths:
            logging.getLogger(__name__).warning("on hold")
            while not Path(os.environ[RELEASE]).exists():
                threading.Event().wait(0.01)
        if DIE in lengths:
            raise WorkerKilled
        if FAIL in lengths or self.broken:
            raise RuntimeError("injected")
        threading.Event().wait(self.s_per_text * len(rows))
        return super().encode(rows)


class FaultyTokenizer(Tokenizer):
    """Hangs."""

    def encode(self, texts: Sequence[str], **options: Any) -> list[Encoding]:
        if HANG_TOKENIZER in texts:
            threading.Event().wait()
        return super().encode(texts, **options)


if __name__ == "__main__":
    # The texts of the self-test have whatever lengths, those that hang among them.
    os.environ["UNITVEC_SELF_TEST"] = "false"
    vars(loading)["Encoder"] = FaultyEncoder
    vars(tokenizer)["Tokenizer"] = FaultyTokenizer
    limited_server.main()
