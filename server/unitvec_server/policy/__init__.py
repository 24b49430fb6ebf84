"""Pure policy: no clock, thread, socket or gRPC."""
