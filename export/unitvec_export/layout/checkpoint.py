"""Names and shapes of a checkpoint's tensors, compared with those of the model made from it.

A library that meets names it does not know leaves layers at random values and says so at most
in its log. The comparison here reads the files itself: the header of a safetensors file, or the
state dict of a torch file without its numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unitvec_export.errors import InputError, first_line

# In the order in which transformers looks for them.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

# Names that BERT's oldest checkpoints have for the weight and the bias of a LayerNorm.
_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of each tensor by its name."""


def find_weights(root: Path) -> Path | None:
    """The file of `WEIGHTS` that is loaded from a folder, or None if it has none."""
    return next((root / name for name in WEIGHTS if (root / name).is_file()), None)


def check_complete(transformer: Any, root: Path) -> None:
    """Makes sure that each tensor of a loaded model comes from its checkpoint.

    A pooler may be missing: sentence-transformers does not use it.

    Args:
        transformer: The `transformers` model.
        root: Folder with the weights.

    Raises:
        InputError: A tensor is missing, or has another shape.
    """
    path = find_weights(root)
    if path is None:
        raise InputError(f"{root} has no weights: none of {', '.join(WEIGHTS)}")
    prefix = transformer.base_model_prefix
    stored = {bare_name(name, prefix): shape for name, shape in read_shapes(path).items()}
    tensors = {
        name: tensor for name, tensor in transformer.state_dict().items() if "pooler" not in name
    }
    # A tensor that the model has under two names is stored under one of them.
    found = {tensor.data_ptr() for name, tensor in tensors.items() if name in stored}
    unknown = [name for name, tensor in tensors.items() if tensor.data_ptr() not in found]
    missing = [
        name
        for name in _original_names(transformer, unknown)
        if bare_name(name, prefix) not in stored
    ]
    if missing:
        raise InputError(
            f"{path.parent} has incomplete weights: {len(missing)} of {len(tensors)} tensors are "
            f"missing, such as {missing[0]}{_instead(stored, tensors)}"
        )
    for name, tensor in tensors.items():
        if stored.get(name, tuple(tensor.shape)) != tuple(tensor.shape):
            raise InputError(
                f"{path}: {name} has shape {stored[name]}, "
                f"but config.json asks for {tuple(tensor.shape)}"
            )


def read_shapes(path: Path) -> Shapes:
    """Shapes of all tensors of a checkpoint.

    Args:
        path: One of the files named in `WEIGHTS`.

    Raises:
        InputError: It cannot be read.
    """
    try:
        if path.suffix == ".json":
            index = json.loads(path.read_text(encoding="utf-8"))
            parts = {path.with_name(name) for name in index["weight_map"].values()}
            return {name: shape for part in parts for name, shape in read_shapes(part).items()}
        return _safetensors_shapes(path) if path.suffix == ".safetensors" else _torch_shapes(path)
    except InputError:
        raise
    except Exception as exc:  # every library raises its own for a damaged file
        raise InputError(f"{path} cannot be read: {first_line(exc)}") from exc


def _safetensors_shapes(path: Path) -> Shapes:
    import safetensors

    with safetensors.safe_open(path, framework="np") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def _torch_shapes(path: Path) -> Shapes:
    import torch

    state = torch.load(path, map_location="meta", weights_only=True)
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _original_names(transformer: Any, names: Iterable[str]) -> list[str]:
    """The names in the checkpoint of what transformers 5 has renamed, joined or split."""
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:  # transformers 4 does no such thing
        return list(names)
    state = transformer.state_dict()
    shapes = {name: state[name].to("meta") for name in names}
    return list(revert_weight_conversion(transformer, shapes))


def bare_name(name: str, prefix: str) -> str:
    """The name that the bare model has for a tensor of its checkpoint.

    Args:
        name: As stored.
        prefix: What the whole model calls the bare one, such as `bert`; may be empty.
    """
    bare = name.removeprefix(f"{prefix}.") if prefix else name
    for old, new in _OLD_NAMES.items():
        bare = bare.replace(old, new)
    return bare


def _instead(stored: Shapes, tensors: Mapping[str, Any]) -> str:
    unknown = [name for name in stored if name not in tensors and "pooler" not in name]
    return f"; the file has {unknown[0]}, which the model does not" if unknown else ""
