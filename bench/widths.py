"""Processor time a token by the width of a run: `python -m bench.widths ARTIFACT`.

Each graph of the fused operator runs texts of 16 and of 64 tokens, in runs of 64 to 1,024 tokens,
on one thread, round after round. Printed is the median of the rounds.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np

from bench.graphs import Rows, open_encoder
from unitvec_server.model.artifact import load_artifact
from unitvec_server.model.encoder import Encoder
from unitvec_server.model.manifest import FUSED

_WIDTHS = (64, 128, 256, 512, 1024)
_LENGTHS = (16, 64)
_ROUNDS = 7


def main() -> None:
    """Measures and prints microseconds a token."""
    artifact = load_artifact(Path(sys.argv[1]))
    print(f"{'tokens a run':24}" + "".join(f"{width:7}" for width in _WIDTHS))
    for name in sorted(FUSED & artifact.manifest.graphs.keys()):
        encoder = open_encoder(artifact, name)
        for length in _LENGTHS:
            print(f"{name:10} {length:3} a text  ", end="")
            print("".join(f"{us:7.1f}" for us in measure(encoder, length)))


def measure(encoder: Encoder, length: int) -> list[float]:
    """Microseconds a token at each width, the median of the rounds."""
    rng = np.random.default_rng(0)
    runs = [[rng.integers(1000, 30_000, length)] * (width // length) for width in _WIDTHS]
    rounds = [[_us_per_token(encoder, rows) for rows in runs] for _ in range(_ROUNDS + 1)]
    return [statistics.median(column) for column in zip(*rounds[1:], strict=True)]


def _us_per_token(encoder: Encoder, rows: Rows) -> float:
    """As many runs as the widest has tokens for, so that every width does the same work."""
    tokens = sum(map(len, rows))
    count = _WIDTHS[-1] // tokens
    started_s = time.thread_time()
    for _ in range(count):
        encoder.encode(rows)
    return (time.thread_time() - started_s) / (count * tokens) * 1e6


if __name__ == "__main__":
    main()
