"""Weights of graphs, also of those that are larger than an ONNX file can be.

A protobuf message, and so an ONNX file with its weights inside, ends at 2 GiB. A graph within that
bound holds its weights. Those of a larger one lie in the files of one folder from the moment it is
traced to the moment it is written: the graph refers to them, and whoever needs their values reads
them through a memory map. So copies of such a graph are small, libraries that write a graph into
memory can take it, and no step of an export needs memory for all weights at once.

The reference is ONNX's own external data. While a graph is worked on it also names the folder
(`basepath`, which onnx knows and onnxruntime refuses); a written file does not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import ExternalDataInfo

MAX_GRAPH_BYTES = 2**31 - 2**24
"""Most bytes of weights in one file: of what protobuf allows, 16 MiB are left to all else."""

_MIN_BYTES = 1024
"""Smaller tensors stay in the graph: shapes are inferred by their values."""
_ALIGNMENT_BYTES = 4096
"""Of each tensor in a file, so that it can be mapped: a page."""


@dataclasses.dataclass(frozen=True)
class WeightStore:
    """Where the weights of a large graph are kept while it is worked on.

    Attributes:
        folder: A folder that outlives all graphs that refer to it.
        max_graph_bytes: Graphs with more bytes of weights do not hold them.
    """

    folder: Path
    max_graph_bytes: int = MAX_GRAPH_BYTES

    def take(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """A graph whose weights are inside or in this store, as their size asks for.

        Args:
            model: Its weights are inside, or in files of `folder`; changed in place.
        """
        is_large = size_bytes(model) > self.max_graph_bytes
        for tensor in model.graph.initializer:
            if _is_outside(tensor):
                _locate(tensor, self.folder)
            if is_large and _is_weight(tensor):
                if not _is_outside(tensor):
                    _move_out(tensor, self.folder)
            elif _is_outside(tensor):
                tensor.CopyFrom(numpy_helper.from_array(read_values(tensor), tensor.name))
        return copy_graph(model)  # what was moved out still has its memory in the old one

    def write(self, model: onnx.ModelProto, path: Path, weights: Path) -> Sequence[Path]:
        """Writes a graph.

        Args:
            model: The graph; not changed.
            path: Its file.
            weights: The file in the same folder for weights that are too many for that.

        Returns:
            The files, that of the graph first.
        """
        written = copy_graph(model)
        if size_bytes(model) <= self.max_graph_bytes:
            for tensor in filter(_is_outside, written.graph.initializer):
                tensor.CopyFrom(numpy_helper.from_array(read_values(tensor), tensor.name))
            onnx.save(written, str(path))
            return [path]
        with weights.open("wb") as stream:
            for tensor in filter(_is_weight, written.graph.initializer):
                values = read_values(tensor)
                offset = -(-stream.tell() // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
                stream.seek(offset)
                stream.write(np.ascontiguousarray(values).data)
                _refer(tensor, weights.name, offset=offset, length=values.nbytes)
        path.write_bytes(written.SerializeToString())
        return [path, weights]


def copy_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy, which refers to the same weights outside."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def size_bytes(model: onnx.ModelProto) -> int:
    """Bytes of all weights, inside and outside."""
    return sum(map(_tensor_bytes, model.graph.initializer))


def store_of(model: onnx.ModelProto) -> Path | None:
    """The folder of the weights that a graph refers to; None if it holds all."""
    outside = next(filter(_is_outside, model.graph.initializer), None)
    return None if outside is None else Path(ExternalDataInfo(outside).basepath)


def read_values(tensor: TensorProto) -> npt.NDArray[Any]:
    """The values of a tensor: a read-only memory map where they are outside."""
    if not _is_outside(tensor):
        inside: npt.NDArray[Any] = numpy_helper.to_array(tensor)
        return inside
    info = ExternalDataInfo(tensor)
    values = np.memmap(
        Path(info.basepath) / info.location,
        helper.tensor_dtype_to_np_dtype(tensor.data_type),
        mode="r",
        offset=info.offset or 0,
        shape=tuple(tensor.dims) or (1,),
    )
    return np.asarray(values).reshape(tuple(tensor.dims))


def make_tensor(name: str, value: npt.NDArray[Any], folder: Path | None) -> TensorProto:
    """An initializer, which holds its values, or refers to them in a new file of `folder`."""
    array = np.asarray(value, order="C")
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    if folder is None or not _fits_outside(kind, array.nbytes):
        return numpy_helper.from_array(array, name)
    tensor = TensorProto(name=name, data_type=kind, dims=array.shape)
    _put_outside(tensor, array, folder)
    return tensor


def make_tensors(
    values: Mapping[str, npt.NDArray[Any]], store: WeightStore | None
) -> list[TensorProto]:
    """All initializers of a new graph, in the store where they are too many to be inside."""
    size = sum(value.nbytes for value in values.values())
    folder = store.folder if store is not None and size > store.max_graph_bytes else None
    return [make_tensor(name, value, folder) for name, value in values.items()]


@contextlib.contextmanager
def openable(model: onnx.ModelProto) -> Iterator[bytes | str]:
    """What onnx's checker and onnxruntime open: the graph itself, or a file if it is large."""
    folder = store_of(model)
    if folder is None:
        yield model.SerializeToString()
        return
    plain = copy_graph(model)
    for tensor in filter(_is_outside, plain.graph.initializer):
        info = ExternalDataInfo(tensor)
        _refer(tensor, info.location, offset=info.offset or 0, length=_tensor_bytes(tensor))
    path = folder / f"{uuid.uuid4().hex}.onnx"
    path.write_bytes(plain.SerializeToString())
    try:
        yield str(path)
    finally:
        path.unlink()


def _is_outside(tensor: TensorProto) -> bool:
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def _tensor_bytes(tensor: TensorProto) -> int:
    item_bytes: int = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return int(math.prod(tensor.dims) * item_bytes)


def _is_weight(tensor: TensorProto) -> bool:
    return _fits_outside(tensor.data_type, _tensor_bytes(tensor))


def _fits_outside(kind: int, size: int) -> bool:
    """Whole numbers of 64 bits are sizes and positions, which shapes are inferred by."""
    return size >= _MIN_BYTES and kind != TensorProto.INT64


def _move_out(tensor: TensorProto, folder: Path) -> None:
    values = numpy_helper.to_array(tensor)
    for field in ("raw_data", "float_data", "int32_data", "double_data"):
        tensor.ClearField(field)
    _put_outside(tensor, values, folder)


def _put_outside(tensor: TensorProto, values: npt.NDArray[Any], folder: Path) -> None:
    path = folder / f"{uuid.uuid4().hex}.weights"
    path.write_bytes(np.ascontiguousarray(values).data)
    _refer(tensor, path.name, offset=0, length=values.nbytes)
    _locate(tensor, folder)


def _refer(tensor: TensorProto, location: str, *, offset: int, length: int) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


def _locate(tensor: TensorProto, folder: Path) -> None:
    """Names the folder that a location is relative to."""
    if not ExternalDataInfo(tensor).basepath:
        tensor.external_data.add(key="basepath", value=str(folder))
