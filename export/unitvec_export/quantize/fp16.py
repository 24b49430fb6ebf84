"""fp32 body -> half-precision body. Pooling and normalization come later, in float32."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from unitvec_export.errors import ExportError, first_line
from unitvec_export.graph.weights import make_tensor, read_values, store_of
from unitvec_export.noise import muted

Floats = npt.NDArray[np.float32]
Halves = npt.NDArray[np.float16]


def to_fp16(body: onnx.ModelProto, *, verbose: bool = False) -> onnx.ModelProto:
    """Half precision for CUDA; the token vectors leave in float32 for pooling.

    LayerNorm and softmax stay in half precision: CUDA kernels sum them in float32 anyway, and
    casts around them would cost more than they bring (all-MiniLM-L6-v2, lowest cosine to fp32:
    0.9999994 with them in float32, 0.9999988 without).

    Args:
        body: fp32 graph from ids and mask to token vectors; not changed.
        verbose: Show what the library logs.

    Raises:
        ExportError: onnxruntime cannot convert it.
    """
    with muted(verbose=verbose):
        from onnxruntime.transformers import float16
        from onnxruntime.transformers.onnx_model import OnnxModel

        try:
            hollow = _without_weights(onnx.shape_inference.infer_shapes(body))
            half = float16.convert_float_to_float16(
                hollow, keep_io_types=True, disable_shape_infer=True
            )
            _give_weights(half, body, float16.convert_np_to_float16)
            OnnxModel.graph_topological_sort(half.graph)  # casts were appended at the end
        except Exception as exc:  # the converter raises bare classes of all kinds
            raise ExportError(f"fp16 conversion failed: {first_line(exc)}") from exc
    return _without_shapes(half)


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Takes the values of weights outside from a graph: the library converts those inside only."""
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.ClearField("data_location")
            del tensor.external_data[:]
            tensor.dims[:] = [0]  # which it checks against the number of values
    return model


def _give_weights(
    half: onnx.ModelProto, body: onnx.ModelProto, convert: Callable[[Floats], Halves]
) -> None:
    """Converts the weights that the body has outside, as far as the library chose their type."""
    folder = store_of(body)
    outside = {
        tensor.name: tensor
        for tensor in body.graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
    }
    for tensor in half.graph.initializer:
        former = outside.get(tensor.name)
        if former is not None and tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(make_tensor(tensor.name, convert(read_values(former)), folder))
        elif former is not None:
            tensor.CopyFrom(former)


def _without_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    del model.graph.value_info[:]
    return model
