"""The weights of a BERT-like encoder by the part they play, whatever its library calls them.

BERT, RoBERTa, XLM-RoBERTa, DistilBERT and MPNet compute the same thing:

    x = LayerNorm(words[id] + positions[place])
    per layer:  x = LayerNorm(x + out(attention(qkv(x))));  x = LayerNorm(x + down(GELU(up(x))))

What differs is the names, where positions begin, and that MPNet adds a bias by distance to the
scores of attention. Some constants move into weights on the way, which changes nothing but
rounding: scores come in units of log 2 and need no scale, the bias of keys is dropped (softmax
does not see it), and that of values becomes part of the output product's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Tensors = Mapping[str, npt.NDArray[Any]]
GeluKind = Literal["erf", "tanh"]

MAX_DISTANCE = 512
"""Biases by distance are kept for -512 to 543: a block of 32 keys may begin at the last token."""
_DISTANCES = np.arange(-MAX_DISTANCE, MAX_DISTANCE + 32)
_GELUS: Mapping[str, GeluKind] = {
    "gelu": "erf",
    "gelu_python": "erf",
    "gelu_new": "tanh",
    "gelu_fast": "tanh",
    "gelu_pytorch_tanh": "tanh",
}


class UnsupportedEncoder(Exception):
    """The fused operator cannot run this model; says why in a few words."""


@dataclasses.dataclass(frozen=True)
class Dense:
    """X (T, K) @ weights (K, N) + bias (N,)."""

    weights: Floats
    bias: Floats


@dataclasses.dataclass(frozen=True)
class Norm:
    """Gain and bias of a LayerNorm, each (hidden,)."""

    gain: Floats
    bias: Floats


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        qkv: Queries, keys and values; its columns are sorted by head, then by these three.
        out: Output of attention.
        up: Into the feed-forward.
        down: Out of it.
        attention_norm: After attention.
        output_norm: After the feed-forward.
    """

    qkv: Dense
    out: Dense
    up: Dense
    down: Dense
    attention_norm: Norm
    output_norm: Norm

    @property
    def products(self) -> tuple[Dense, ...]:
        """Its products, in the order they are computed in."""
        return self.qkv, self.out, self.up, self.down


@dataclasses.dataclass(frozen=True)
class Encoder:
    """All weights of an encoder.

    Attributes:
        words: (vocabulary, hidden).
        positions: (positions, hidden), with the row of token type 0 added.
        norm: Of the embeddings.
        relative: (heads, 1056) biases by distance of key and query, or None.
        layers: From the first to the last.
        heads: Heads of attention.
        epsilon: Of every LayerNorm.
        gelu: Which GELU.
        pad_position: -1 where positions count from 0; else the padding id of RoBERTa's kind,
            after which they count.
    """

    words: Floats
    positions: Floats
    norm: Norm
    relative: Floats | None
    layers: tuple[Layer, ...]
    heads: int
    epsilon: float
    gelu: GeluKind
    pad_position: int


@dataclasses.dataclass(frozen=True)
class _Names:
    """What a library calls the parts of a layer, and where it keeps them."""

    layer: str
    query: str
    key: str
    value: str
    out: str
    attention_norm: str
    up: str
    down: str
    output_norm: str


_BERT = _Names(
    layer="encoder.layer",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    out="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    up="intermediate.dense",
    down="output.dense",
    output_norm="output.LayerNorm",
)
_MPNET = dataclasses.replace(
    _BERT,
    query="attention.attn.q",
    key="attention.attn.k",
    value="attention.attn.v",
    out="attention.attn.o",
    attention_norm="attention.LayerNorm",
)
_DISTILBERT = _Names(
    layer="transformer.layer",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    out="attention.out_lin",
    attention_norm="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    output_norm="output_layer_norm",
)
_FAMILIES: Mapping[str, _Names] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "mpnet": _MPNET,
    "distilbert": _DISTILBERT,
}
_COUNTED_FROM_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")


def read_encoder(config: Mapping[str, Any], tensors: Tensors) -> Encoder:
    """Sorts the weights of a model.

    Args:
        config: As in the model's `config.json`.
        tensors: Its weights by the names of transformers, of the body alone.

    Raises:
        UnsupportedEncoder: The fused operator has no code for a model like this.
    """
    names = _FAMILIES.get(str(config.get("model_type")))
    if names is None:
        raise UnsupportedEncoder(f"it is of kind {config.get('model_type')}")
    gelu = _GELUS.get(str(config.get("hidden_act", config.get("activation"))))
    if gelu is None:
        raise UnsupportedEncoder("its activation is no GELU")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise UnsupportedEncoder("its positions are not absolute")
    reader = _Reader(
        tensors, names, heads=int(config.get("num_attention_heads") or config["n_heads"])
    )
    try:
        return reader.read(config, gelu)
    except KeyError as exc:
        raise UnsupportedEncoder(f"it has no weights {exc}") from None


class _Reader:
    """Finds weights by name and puts them together."""

    def __init__(self, tensors: Tensors, names: _Names, *, heads: int) -> None:
        self._tensors = tensors
        self._names = names
        self._heads = heads

    def read(self, config: Mapping[str, Any], gelu: GeluKind) -> Encoder:
        counts_from_padding = config["model_type"] in _COUNTED_FROM_PADDING
        positions = self._floats("embeddings.position_embeddings.weight")
        if "embeddings.token_type_embeddings.weight" in self._tensors:
            positions = positions + self._floats("embeddings.token_type_embeddings.weight")[0]
        return Encoder(
            words=self._floats("embeddings.word_embeddings.weight"),
            positions=positions,
            norm=self._norm("embeddings.LayerNorm"),
            relative=self._relative(),
            layers=tuple(self._layer(f"{self._names.layer}.{n}") for n in range(self._count())),
            heads=self._heads,
            epsilon=float(config.get("layer_norm_eps", 1e-12)),
            gelu=gelu,
            pad_position=int(config["pad_token_id"]) if counts_from_padding else -1,
        )

    def _count(self) -> int:
        count = 0
        while f"{self._names.layer}.{count}.{self._names.output_norm}.weight" in self._tensors:
            count += 1
        return count

    def _floats(self, name: str) -> Floats:
        return np.asarray(self._tensors[name], np.float32)

    def _norm(self, name: str) -> Norm:
        return Norm(self._floats(f"{name}.weight"), self._floats(f"{name}.bias"))

    def _dense(self, name: str) -> Dense:
        # torch keeps (N, K).
        return Dense(self._floats(f"{name}.weight").T, self._floats(f"{name}.bias"))

    def _layer(self, at: str) -> Layer:
        names = self._names
        value = self._dense(f"{at}.{names.value}")
        out = self._dense(f"{at}.{names.out}")
        return Layer(
            qkv=self._qkv(
                self._dense(f"{at}.{names.query}"), self._dense(f"{at}.{names.key}"), value
            ),
            # Probabilities add up to 1, so the bias of values arrives whole.
            out=Dense(out.weights, out.bias + value.bias @ out.weights),
            up=self._dense(f"{at}.{names.up}"),
            down=self._dense(f"{at}.{names.down}"),
            attention_norm=self._norm(f"{at}.{names.attention_norm}"),
            output_norm=self._norm(f"{at}.{names.output_norm}"),
        )

    def _qkv(self, query: Dense, key: Dense, value: Dense) -> Dense:
        hidden = len(query.weights)
        scale = np.float32(math.log2(math.e) / math.sqrt(hidden // self._heads))
        none = np.zeros_like(query.bias)
        parts = (Dense(query.weights * scale, query.bias * scale), key, value)
        weights = np.stack([part.weights for part in parts], axis=1)  # (K, 3, hidden)
        biases = np.stack([parts[0].bias, none, none])  # (3, hidden)
        by_head = weights.reshape(hidden, 3, self._heads, -1).swapaxes(1, 2)
        bias_by_head = biases.reshape(3, self._heads, -1).swapaxes(0, 1)
        return Dense(by_head.reshape(hidden, -1), bias_by_head.reshape(-1))

    def _relative(self) -> Floats | None:
        name = "encoder.relative_attention_bias.weight"
        if name not in self._tensors:
            return None
        biases = self._floats(name)[_buckets(_DISTANCES)]  # (distances, heads)
        return np.ascontiguousarray(biases.T) * np.float32(math.log2(math.e))


def _buckets(distances: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """MPNet's bucket of each distance key - query, as `MPNetEncoder.relative_position_bucket`.

    16 buckets for keys before the query and 16 for those after: 8 of one distance each, then 8 of
    ever wider ranges, the last from 128 on.
    """
    far = np.abs(distances).astype(np.float32)
    wide = np.log(np.maximum(far, 1) / np.float32(8)) / np.float32(math.log(128 / 8)) * 8
    bucket = np.where(far < 8, far, np.minimum(8 + np.trunc(wide), 15)).astype(np.int64)
    return bucket + np.where(distances > 0, 16, 0)
