"""The gRPC service: calls and their messages, translated to the engine and back."""
