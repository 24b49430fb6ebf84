"""The unitvec gRPC server: text to unit vectors through ONNX Runtime."""

import os

# onnxruntime prepares telemetry when it is imported, and its function to disable it comes too late:
# it has by then looked up its collector and written to the home directory. This package is always
# imported before it, and no variable of the user's makes unitvec send anything.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
