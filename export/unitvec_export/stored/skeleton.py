"""A graph without its weights, and the weights put back into it.

An initializer that is a tensor of the checkpoint, or the transpose of one, becomes an ONNX
reference to outside data: its name there, and whether it is transposed. What is put back is equal
to the last bit, since no number is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

from unitvec_export.errors import InputError

_INLINE_VALUES = 64
"""Constants of up to so many values stay in the graph: shapes, scales, axes."""
_LOCATION = "model.safetensors"
_NAME, _TRANSPOSED = "tensor", "transposed"

Tensors = Mapping[str, npt.NDArray[Any]]


def take_weights(model: onnx.ModelProto, tensors: Tensors) -> onnx.ModelProto:
    """A copy of a graph that names its weights instead of holding them.

    Args:
        model: Graph with the weights inside.
        tensors: The checkpoint that they come from.

    Raises:
        InputError: A weight is not in the checkpoint as it is or transposed.
    """
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(model)
    known = _index(tensors)
    for initializer in skeleton.graph.initializer:
        array = numpy_helper.to_array(initializer)
        if array.size <= _INLINE_VALUES:
            continue
        found = known.get(_content(array))
        if found is None:
            raise InputError(f"weight {initializer.name} of the graph is not in the checkpoint")
        _refer(initializer, *found)
    return skeleton


def give_weights(skeleton: onnx.ModelProto, tensors: Tensors) -> onnx.ModelProto:
    """A copy of a skeleton with the weights in it.

    Args:
        skeleton: What `take_weights` returned.
        tensors: The same checkpoint.

    Raises:
        InputError: A tensor is missing, or has another shape.
    """
    model = onnx.ModelProto()
    model.CopyFrom(skeleton)
    for initializer in model.graph.initializer:
        if initializer.data_location != TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in initializer.external_data}
        array = tensors.get(entries[_NAME])
        if array is not None and entries[_TRANSPOSED] == "1":
            array = array.T
        if array is None or array.shape != tuple(initializer.dims):
            raise InputError(f"the checkpoint has no {entries[_NAME]} of the stored graph's shape")
        name = initializer.name
        initializer.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), name))
    return model


_Content = tuple[tuple[int, ...], str, bytes]


def _index(tensors: Tensors) -> dict[_Content, tuple[str, bool]]:
    """Name of each tensor, and whether it is transposed, by what it holds."""
    known: dict[_Content, tuple[str, bool]] = {}
    for name, array in tensors.items():
        if array.ndim == 2:
            known.setdefault(_content(array.T), (name, True))
        known[_content(array)] = (name, False)
    return known


def _content(array: npt.NDArray[Any]) -> _Content:
    return array.shape, array.dtype.str, array.tobytes()


def _refer(initializer: TensorProto, name: str, transposed: bool) -> None:
    for field in ("raw_data", "float_data"):
        initializer.ClearField(field)
    initializer.data_location = TensorProto.EXTERNAL
    values = {"location": _LOCATION, _NAME: name, _TRANSPOSED: str(int(transposed))}
    for key, value in values.items():
        entry = initializer.external_data.add()
        entry.key, entry.value = key, value
