"""Loaded modules of sentence-transformers -> steps of a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from unitvec_export.errors import InputError
from unitvec_export.pipeline.dense import ACTIVATIONS, Dense
from unitvec_export.pipeline.norms import LayerNorm, Normalize
from unitvec_export.pipeline.pooling import MODES, Pooling
from unitvec_export.pipeline.tail import Step

_TOKENS, _SENTENCE = "token_embeddings", "sentence_embedding"


def read_steps(modules: Sequence[Any]) -> tuple[Step, ...]:
    """The steps of the modules that follow a Transformer or a StaticEmbedding.

    Args:
        modules: Loaded modules of kinds and in an order that `layout.files` accepts.

    Raises:
        InputError: One is set to do what no graph of ours can.
    """
    return tuple(step for module in modules for step in _read(module))


def _read(module: Any) -> Iterator[Step]:
    """The step of a module; none for a Dropout, which does nothing outside of training."""
    name = type(module).__name__
    if name in _READERS:
        yield _READERS[name](module)
    elif name != "Dropout":
        raise InputError(f"module {name} is not supported here")


def _read_pooling(module: Any) -> Pooling:
    mode = module.pooling_mode
    modes = (mode,) if isinstance(mode, str) else tuple(mode)
    unknown = [each for each in modes if each not in MODES]
    if unknown:
        raise InputError(f"pooling {unknown[0]} is not supported: only {', '.join(MODES)}")
    return Pooling(modes, bool(module.include_prompt))


def _read_dense(module: Any) -> Dense:
    source, target = module.module_input_name, module.module_output_name
    if source != target or source not in (_TOKENS, _SENTENCE):
        raise InputError(
            f"a Dense from {source} to {target} is not supported: only from and to {_TOKENS}, "
            f"or {_SENTENCE}"
        )
    activation = type(module.activation_function)
    name = activation.__name__
    if name not in ACTIVATIONS or not activation.__module__.startswith("torch.nn."):
        raise InputError(
            f"activation {activation.__module__}.{name} of a Dense is not supported: only "
            f"{', '.join(ACTIVATIONS)} of torch.nn"
        )
    bias = module.linear.bias
    return Dense(
        # torch keeps (N, K).
        weights=module.linear.weight.detach().float().numpy().T,
        bias=None if bias is None else bias.detach().float().numpy(),
        activation=name,
        on_tokens=source == _TOKENS,
    )


def _read_layer_norm(module: Any) -> LayerNorm:
    norm = module.norm
    gain, bias = norm.weight.detach().float().numpy(), norm.bias.detach().float().numpy()
    return LayerNorm(gain, bias, float(norm.eps))


_READERS: Mapping[str, Callable[[Any], Step]] = {
    "Pooling": _read_pooling,
    "Dense": _read_dense,
    "LayerNorm": _read_layer_norm,
    "Normalize": lambda _: Normalize(),
}
