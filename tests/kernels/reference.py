"""Random encoders, and what they compute according to numpy in float64."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from unitvec_export.graph.architecture import Dense, Encoder, Layer, Norm
from unitvec_export.pipeline.norms import Normalize
from unitvec_export.pipeline.pooling import Pooling
from unitvec_export.prove.facts import Facts

VOCABULARY = 97
POSITIONS = 514  # of 512 tokens, where positions count from a padding id of 1


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a random encoder is like: the axes along which models differ."""

    hidden: int = 64
    head: int = 32
    ffn: int = 128
    layers: int = 2
    gelu: str = "erf"
    pooling: str = "mean"
    normalized: bool = True
    relative: bool = False
    pad_position: int = -1

    def facts(self) -> Facts:
        """As export knows the model."""
        return Facts(
            dim=self.hidden,
            max_seq_length=512,
            steps=(Pooling((self.pooling,)), *([Normalize()] if self.normalized else [])),
            pad_token_id=max(self.pad_position, 0),
            prompts={},
            default_prompt_name=None,
        )


def random_encoder(shape: Shape, *, seed: int = 0) -> Encoder:
    """Weights of the size that trained ones have."""
    rng = np.random.default_rng(seed)

    def normal(*sizes: int, scale: float = 1.0) -> Any:
        return (scale * rng.standard_normal(sizes)).astype(np.float32)

    def dense(rows: int, columns: int) -> Dense:
        return Dense(normal(rows, columns, scale=1 / math.sqrt(rows)), normal(columns, scale=0.3))

    def norm() -> Norm:
        return Norm(1 + normal(shape.hidden, scale=0.2), normal(shape.hidden, scale=0.2))

    hidden, ffn = shape.hidden, shape.ffn
    layers = [
        Layer(dense(hidden, 3 * hidden), dense(hidden, hidden), dense(hidden, ffn),
              dense(ffn, hidden), norm(), norm())
        for _ in range(shape.layers)
    ]  # fmt: skip
    heads = hidden // shape.head
    return Encoder(
        words=normal(VOCABULARY, hidden),
        positions=normal(POSITIONS, hidden, scale=0.5),
        norm=norm(),
        relative=normal(heads, 2 * 512 + 32) if shape.relative else None,
        layers=tuple(layers),
        heads=heads,
        epsilon=1e-5,
        gelu=shape.gelu,  # type: ignore[arg-type]
        pad_position=shape.pad_position,
    )


class Exact:
    """An encoder in float64, one text at a time; keeps the peaks of what products met."""

    def __init__(self, encoder: Encoder, shape: Shape) -> None:
        self._encoder = encoder
        self._shape = shape
        self._gelu = _GELUS[encoder.gelu]
        self.peaks = [np.zeros(len(p.weights)) for layer in encoder.layers for p in layer.products]

    def encode(self, ids: np.ndarray) -> np.ndarray:
        """(hidden,) float64."""
        encoder = self._encoder
        x = encoder.words[ids].astype(float) + encoder.positions[self._places(ids)]
        x = self._norm(x, encoder.norm)
        met = iter(self.peaks)
        for layer in encoder.layers:
            mixed = self._attend(self._multiply(x, layer.qkv, next(met)))
            x = self._norm(x + self._multiply(mixed, layer.out, next(met)), layer.attention_norm)
            wide = self._gelu(self._multiply(x, layer.up, next(met)))
            x = self._norm(x + self._multiply(wide, layer.down, next(met)), layer.output_norm)
        vector = x.mean(axis=0) if self._shape.pooling == "mean" else x[0]
        return vector / np.linalg.norm(vector) if self._shape.normalized else vector

    def _places(self, ids: np.ndarray) -> np.ndarray:
        pad = self._encoder.pad_position
        if pad < 0:
            return np.arange(len(ids))
        return np.where(ids == pad, pad, pad + np.cumsum(ids != pad))

    def _attend(self, qkv: np.ndarray) -> np.ndarray:
        n = len(qkv)
        by_head = qkv.reshape(n, self._encoder.heads, 3, -1)
        mixed = np.empty((n, self._encoder.heads, by_head.shape[-1]))
        distance = 512 + np.arange(n)[None, :] - np.arange(n)[:, None]
        for head in range(self._encoder.heads):
            query, key, value = (by_head[:, head, part] for part in range(3))
            scores = query @ key.T
            if self._encoder.relative is not None:
                scores = scores + self._encoder.relative[head][distance]
            powers = 2 ** (scores - scores.max(axis=1, keepdims=True))
            mixed[:, head] = powers / powers.sum(axis=1, keepdims=True) @ value
        return mixed.reshape(n, -1)

    def _multiply(self, x: np.ndarray, dense: Dense, peaks: np.ndarray) -> np.ndarray:
        np.maximum(peaks, np.abs(x).max(axis=0), out=peaks)
        return x @ dense.weights.astype(float) + dense.bias

    def _norm(self, x: np.ndarray, norm: Norm) -> np.ndarray:
        flat = x - x.mean(axis=1, keepdims=True)
        spread = np.sqrt(np.square(flat).mean(axis=1, keepdims=True) + self._encoder.epsilon)
        return flat / spread * norm.gain + norm.bias


_GELUS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "erf": lambda x: x * (0.5 + 0.5 * np.vectorize(math.erf)(x / math.sqrt(2))),
    "tanh": lambda x: x * (0.5 + 0.5 * np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
}


def random_texts(seed: int, lengths: Sequence[int]) -> list[np.ndarray]:
    """A text of each length, of any ids."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, VOCABULARY, length) for length in lengths]
