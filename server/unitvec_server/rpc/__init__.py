"""gRPC: messages to domain and back."""
