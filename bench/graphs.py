"""Processor time of an artifact's graphs side by side: `python -m bench.graphs ARTIFACT`.

Every graph runs the same batches on one thread, each in its turn, round after round. What is
measured is the processor time of that thread, so that others on the machine disturb little, and a
ratio is taken within a round. Batches are of like lengths, as plain graphs want them; `lone` is one
text of 16 tokens at a time.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unitvec_server.model.artifact import Artifact, load_artifact
from unitvec_server.model.encoder import Encoder, EncoderOptions
from unitvec_server.model.kernels import find_kernels
from unitvec_server.model.manifest import FUSED
from unitvec_server.model.tokenizer import Tokenizer

Rows = list[npt.NDArray[np.int64]]

_GRAPHS = ("fp32", "int16", "bf16", "int8", "int8-fused")
_DATA = Path(__file__).parent / "data"
_BATCH_TOKENS = 256
_BATCHES, _ROUNDS = 12, 7
_LONE_TOKENS, _LONE_TEXTS = 16, 20


def main() -> None:
    """Measures and prints microseconds a token, with ratios to fp32 and int8."""
    artifact = load_artifact(Path(sys.argv[1]))
    names = [name for name in _GRAPHS if name in artifact.manifest.graphs]
    encoders = {name: open_encoder(artifact, name) for name in names}
    for workload, batches in workloads(artifact).items():
        spent = measure(encoders, batches)
        print(f"{workload}, {count_tokens(batches)} tokens in {len(batches)} runs")
        for name in names:
            print(f"  {name:10} {statistics.median(spent[name]):6.1f} us/token", end="")
            for base in ("fp32", "int8"):
                print(f"  {ratio(spent.get(base, []), spent[name])} x {base}", end="")
            print()


def open_encoder(artifact: Artifact, name: str) -> Encoder:
    """As the server opens it."""
    operators = find_kernels().library if name in FUSED else None
    pad_token_id = artifact.manifest.pad_token_id
    options = EncoderOptions(pad_token_id=pad_token_id, operators=operators)
    return Encoder(artifact.graph_path(name), options)


def workloads(artifact: Artifact) -> dict[str, list[Rows]]:
    """Batches of glosses and of paragraphs, and lone texts."""
    limit = artifact.manifest.max_seq_length
    tokenizer = Tokenizer(artifact.tokenizer_path, max_seq_length=limit)
    made = {}
    for name in ("short", "long"):
        lines = (_DATA / f"texts_{name}.jsonl").read_text(encoding="utf-8").splitlines()
        encodings = tokenizer.encode([json.loads(line)["text"] for line in lines])
        batches = like_lengths([encoding.input_ids for encoding in encodings])
        step = max(1, len(batches) // _BATCHES)
        made[name] = batches[step // 2 :: step]
    rng = np.random.default_rng(0)
    made["lone"] = [[rng.integers(1000, 30_000, _LONE_TOKENS)] for _ in range(_LONE_TEXTS)]
    return made


def like_lengths(rows: Rows) -> list[Rows]:
    """Batches of neighbours in length, of so many tokens with padding."""
    batches: list[Rows] = [[]]
    for row in sorted(rows, key=len):
        if batches[-1] and (len(batches[-1]) + 1) * len(row) > _BATCH_TOKENS:
            batches.append([])
        batches[-1].append(row)
    return batches


def count_tokens(batches: list[Rows]) -> int:
    """Of all texts."""
    return sum(len(row) for batch in batches for row in batch)


def measure(encoders: dict[str, Encoder], batches: list[Rows]) -> dict[str, list[float]]:
    """Microseconds a token of each graph, a number for each round."""
    tokens = count_tokens(batches)
    spent: dict[str, list[float]] = {name: [] for name in encoders}
    for number in range(_ROUNDS + 1):
        for name, encoder in encoders.items():
            started_s = time.thread_time()
            for batch in batches:
                encoder.encode(batch)
            if number:  # the first round warms up
                spent[name].append((time.thread_time() - started_s) / tokens * 1e6)
    return spent


def ratio(base: Sequence[float], other: Sequence[float]) -> str:
    """How many times as fast the other is: median, lowest and highest of the rounds."""
    ratios: list[Any] = sorted(x / y for x, y in zip(base, other, strict=False))
    if not ratios:
        return ""
    return f"{statistics.median(ratios):5.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"


if __name__ == "__main__":
    main()
