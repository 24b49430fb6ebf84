"""From a model to its ONNX graph: tracing, pooling, simplification."""
