"""gRPC reflection: tools learn the contract, comments included, from a running server."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable
from importlib.resources.abc import Traversable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection, reflection_pb2

from unitvec_server.rpc.interceptor import ADMIN, SERVICE
from unitvec_server.rpc.peer_api import PeerApi

_V1 = "grpc.reflection.v1.ServerReflection"


def add_reflection(
    server: grpc.aio.Server, peers: Iterable[PeerApi] = (), *, is_admin: bool = False
) -> None:
    """Serves v1alpha, and v1, whose messages are the same on the wire.

    Args:
        server: The server.
        peers: The APIs of other systems.
        is_admin: Whether operators are answered.
    """
    # v1 is answered but not listed: Python has no descriptors of it to show.
    others = [service for peer in peers for service in peer.services]
    others += [ADMIN.full_name] if is_admin else []
    names = (SERVICE, *others, health.SERVICE_NAME, reflection.SERVICE_NAME)
    servicer: Any = reflection.aio.ReflectionServicer(names, pool=_Pool())
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for service in (reflection.SERVICE_NAME, _V1):
        methods = grpc.method_handlers_generic_handler(service, {"ServerReflectionInfo": handler})
        server.add_generic_rpc_handlers((methods,))


class _Pool:
    """The descriptors of all messages and services, with what protobuf for Python lacks.

    Its own pool forgets the comments of files and does not find the file of a method.
    """

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()
        self._commented = _read_commented()

    def FindFileByName(self, name: str) -> FileDescriptor | _CommentedFile:
        file = self._pool.FindFileByName(name)
        return _CommentedFile(file, self._commented[name]) if name in self._commented else file

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor | _CommentedFile:
        try:
            file = self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            file = self._pool.FindMethodByName(symbol).containing_service.file
        return self.FindFileByName(file.name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)


class _CommentedFile:
    """The parts of a file that reflection asks for."""

    def __init__(self, file: FileDescriptor, proto: descriptor_pb2.FileDescriptorProto) -> None:
        self.name, self.dependencies = file.name, file.dependencies
        self._proto = proto

    def CopyToProto(self, proto: descriptor_pb2.FileDescriptorProto) -> None:
        proto.CopyFrom(self._proto)


def _read_commented() -> dict[str, descriptor_pb2.FileDescriptorProto]:
    """Our files by name, with their comments, as `make protos` has compiled them."""
    sets = _find_sets(importlib.resources.files("unitvec_protos"))
    found = [descriptor_pb2.FileDescriptorSet.FromString(each.read_bytes()) for each in sets]
    return {file.name: file for files in found for file in files.file}


def _find_sets(package: Traversable) -> Iterable[Traversable]:
    rooms = [room for room in package.iterdir() if room.is_dir()]
    return [file for room in rooms for file in room.iterdir() if file.name.endswith(".binpb")]
