"""Generated messages and stubs of the unitvec gRPC contract (``unitvec.v1``)."""

__version__ = "0.1.0"
