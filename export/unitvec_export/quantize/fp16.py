"""fp32 body -> half-precision body. Pooling and normalization come later, in float32."""

from __future__ import annotations

import onnx

from unitvec_export.errors import ExportError, first_line
from unitvec_export.noise import muted


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
            half = float16.convert_float_to_float16(_copy(body), keep_io_types=True)
            OnnxModel.graph_topological_sort(half.graph)  # casts were appended at the end
        except Exception as exc:  # the converter raises bare classes of all kinds
            raise ExportError(f"fp16 conversion failed: {first_line(exc)}") from exc
    return _without_shapes(half)


def _copy(body: onnx.ModelProto) -> onnx.ModelProto:
    """A copy for the libraries to change, with the shapes they read types from."""
    copy = onnx.ModelProto()
    copy.CopyFrom(body)
    return onnx.shape_inference.infer_shapes(copy)


def _without_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    del model.graph.value_info[:]
    return model
