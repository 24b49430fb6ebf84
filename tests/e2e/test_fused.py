"""The fused operator behind a real server: what it says of itself, and the vectors it gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.artifacts import needs_kernels
from tests.serving import Server
from unitvec_protos.v1 import embedding_pb2 as pb

pytestmark = needs_kernels
# One for each kind of length and script; none is in the sample that export calibrates on.
TEXTS = [
    "a",
    "The quick brown fox jumps over the lazy dog.",
    "Le petit prince habite une planète à peine plus grande que lui.",
    "吾輩は猫である。名前はまだ無い。",
    "def add(a, b):\n    return a + b\n",
    "12 March 1984: -3.5 °C, wind 40 km/h, pressure 1,013 hPa",
    "long " * 300,
]
DTYPES = [pb.DTYPE_FLOAT32, pb.DTYPE_FLOAT16, pb.DTYPE_INT8, pb.DTYPE_BINARY]


def embed(server: Server, texts: list[str], dtype: pb.Dtype.ValueType = pb.DTYPE_FLOAT32) -> bytes:
    reply = server.stub.Embed(pb.EmbedRequest(texts=texts, dtype=dtype))
    return reply.embeddings.data


def said(server: Server, part: str) -> str:
    """What it logged with this in it."""
    messages = [str(entry["message"]) for entry in server.process.logs]
    return next(message for message in messages if part in message)


def floats(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<f4").reshape(len(TEXTS), -1).astype(float)


@pytest.mark.parametrize(
    ("precision", "least"), [("int16", 0.99999), ("bf16", 0.9999), ("int8", 0.98)]
)
def test_vectors_are_near_fp32_and_the_same_in_any_company(
    start: Callable[..., Server], fused_artifact: Path, precision: str, least: float
) -> None:
    server = start("--model", str(fused_artifact), "--precision", precision)
    plain = start("--model", str(fused_artifact), "--precision", "fp32")
    assert "fused operator on" in said(server, f"precision {precision}")
    together = floats(embed(server, TEXTS))
    cosines = (together * floats(embed(plain, TEXTS))).sum(axis=1)
    assert cosines.min() >= least
    for dtype in DTYPES:
        whole = embed(server, TEXTS, dtype)
        assert embed(server, TEXTS[::-1], dtype) != whole
        alone = b"".join(embed(server, [text], dtype) for text in TEXTS)
        assert alone == whole


def test_without_the_operator_the_plain_graph_serves(
    start: Callable[..., Server], fused_artifact: Path
) -> None:
    server = start("--model", str(fused_artifact), variables={"UNITVEC_ISA": "none"})
    assert "plain graph: UNITVEC_ISA is none; it can be" in said(server, "precision fp32")
    assert len(embed(server, ["a"])) > 0
