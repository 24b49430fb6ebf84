#!/usr/bin/env bash
# Versions: grpcio 1.85.1, grpcio-reflection 1.81.1, grpcio-health-checking 1.81.1, protobuf 6.33.6 (upb).
# Guess: a Python server with the stock reflection service describes a method by its full name, as the protocol
#   allows (`<package>.<service>[.<method>]`), and a client that asks for a file sees the comments of its `.proto`.
# Seen: methods are not found (error 5), so `grpcurl describe` of any method fails, though services and messages are
#   found; and descriptors come without source info, so no comment ever reaches a client.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  grpcio==1.85.1 grpcio-reflection==1.81.1 grpcio-health-checking==1.81.1 protobuf==6.33.6
"$folder/env/bin/python" - <<'PYTHON'
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

SERVICE = "grpc.health.v1.Health"

server = grpc.server(ThreadPoolExecutor(2))
health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()


def ask(symbol):
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        (reply,) = stub.ServerReflectionInfo(iter([request]))
    if reply.HasField("error_response"):
        return f"error {reply.error_response.error_code}"
    files = map(
        descriptor_pb2.FileDescriptorProto.FromString,
        reply.file_descriptor_response.file_descriptor_proto,
    )
    return f"found, {sum(len(file.source_code_info.location) for file in files)} locations"


seen = {name: ask(name) for name in (SERVICE, f"{SERVICE}.Check")}
server.stop(None)
for name, answer in seen.items():
    print(f"{name}: {answer}")
sys.exit(0 if list(seen.values()) == ["found, 0 locations", "error 5"] else 1)
PYTHON
