"""The path of a request, without protobuf or gRPC."""
