"""Exports sentence-transformers models to unitvec artifacts."""

import os

import unitvec_server  # noqa: F401 - turns onnxruntime's telemetry off, before others import it

# The hub is asked for the files of a model, and is told nothing of this machine.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
