"""Versions of ONNX's operator set that graphs are written in."""

DEFAULT_OPSET = 18
# 17 is the first with LayerNormalization as one node, 20 the last that torch's tracer writes.
OPSETS = range(17, 21)
