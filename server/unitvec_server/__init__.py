"""The unitvec gRPC server: text to unit vectors through ONNX Runtime."""
