"""Transformer -> ONNX by torch's TorchScript exporter, at transformers 5."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_AXES = {0: "batch_size", 1: "sequence_length"}
_INPUTS = ("input_ids", "attention_mask")
_OUTPUT = "token_embeddings"
_TASK = "feature-extraction"
# Of the example that is traced: no size that a model could treat as a case of its own.
_BATCH_SIZE, _LENGTH = 2, 16


def trace(transformer: Any, path: Path, *, opset: int, max_tokens: int) -> None:
    """Writes a graph from input_ids and attention_mask (B, S) to token vectors (B, S, H).

    The exporter that torch.export feeds (`dynamo=True`) takes four times as long, wants another
    package, and makes no faster graph after simplification.

    Args:
        transformer: A `transformers` model in evaluation mode.
        path: The file to write.
        opset: Version of ONNX's operator set.
        max_tokens: Longest text of the model.
    """
    import torch

    with torch.no_grad(), _eager_attention(transformer), _broadcast_masks():
        torch.onnx.export(
            _token_vectors(transformer),
            _example(transformer.config, max_tokens),
            str(path),
            opset_version=opset,
            input_names=list(_INPUTS),
            output_names=[_OUTPUT],
            dynamic_axes=dict.fromkeys((*_INPUTS, _OUTPUT), _AXES),
            dynamo=False,
        )


@contextlib.contextmanager
def _eager_attention(transformer: Any) -> Iterator[None]:
    """Attention as plain products and a softmax: torch's fused one is traced with its checks."""
    former = transformer.config._attn_implementation  # noqa: SLF001 - it has no public reader
    transformer.set_attn_implementation("eager")
    try:
        yield
    finally:
        transformer.set_attn_implementation(former)


@contextlib.contextmanager
def _broadcast_masks() -> Iterator[None]:
    """Masks by broadcasting positions, where transformers maps a function that no trace follows."""
    from transformers import masking_utils as masks

    former = masks.sdpa_mask

    def broadcast(*args: Any, use_vmap: bool = False, **kwargs: Any) -> Any:
        del use_vmap
        return former(*args, **kwargs)

    masks.sdpa_mask = broadcast
    try:
        yield
    finally:
        masks.sdpa_mask = former


def _token_vectors(transformer: Any) -> Any:
    """A module of ids and mask alone."""
    import torch

    takes_types = "token_type_ids" in inspect.signature(transformer.forward).parameters

    class TokenVectors(torch.nn.Module):
        """One text has only tokens of type 0."""

        def __init__(self) -> None:
            super().__init__()
            self.transformer = transformer

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            types = {"token_type_ids": torch.zeros_like(input_ids)} if takes_types else {}
            output = self.transformer(input_ids=input_ids, attention_mask=attention_mask, **types)
            return output.last_hidden_state

    # Else the exporter, at its end, turns the dropout of the model inside on.
    return TokenVectors().eval()


def _example(config: Any, max_tokens: int) -> tuple[Any, Any]:
    """Ids and a mask (B, S), the last text padded where there is room.

    optimum knows what each kind of configuration calls its vocabulary, and draws ids of all of it.
    """
    import torch
    from optimum.utils import DummyTextInputGenerator, NormalizedTextConfig

    length = min(_LENGTH, max_tokens)
    sizes = {"batch_size": _BATCH_SIZE, "sequence_length": length}
    examples = DummyTextInputGenerator(_TASK, NormalizedTextConfig(config), **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ids = examples.generate("input_ids")
    # Its masks are of a random length, and want two tokens at least.
    mask = torch.ones_like(ids)
    mask[-1, -(-length // 2) :] = 0
    return ids, mask
