"""A gRPC API of another system: the methods that are answered here, and those that are refused."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any

import grpc
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from unitvec_server.errors import NotServed, RequestError

_OPTIONS = "options."


class PeerApi(grpc.GenericRpcHandler):
    """Finds the handlers of an API's methods.

    Args:
        file: The API, as far as it is answered.
        answers: What answers each of its methods, by name: a coroutine, or for a stream an
            asynchronous generator.
        refused: The paths of the methods that the API has elsewhere and not here.
        advice: The line that those who call them are told.

    Attributes:
        services: The services that are answered, by full name.
        methods: Their methods.
    """

    def __init__(
        self,
        file: FileDescriptor,
        answers: Mapping[str, Callable[..., Any]],
        *,
        refused: Iterable[str],
        advice: str,
    ) -> None:
        services = file.services_by_name.values()
        self.services = [service.full_name for service in services]
        self.methods = [method for service in services for method in service.methods]
        self._handlers = {path_of(each): _answer(each, answers[each.name]) for each in self.methods}
        self._handlers |= {path: _refuse(path, advice) for path in refused}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Returns the handler of a call; None for a method of another API."""
        return self._handlers.get(handler_call_details.method)


def path_of(method: MethodDescriptor) -> str:
    """Returns the path by which a method is called."""
    return f"/{method.containing_service.full_name}/{method.name}"


@contextlib.contextmanager
def rename_options(name: str) -> Iterator[None]:
    """Names an option at fault as the messages of an API do, which have no `options`.

    Args:
        name: Its name, with ``{}`` in the place of ours.

    Raises:
        RequestError: The error that was raised within.
    """
    try:
        yield
    except RequestError as exc:
        if exc.field.startswith(_OPTIONS):
            exc.field = name.format(exc.field.removeprefix(_OPTIONS))
        raise


def _answer(method: MethodDescriptor, answer: Callable[..., Any]) -> Any:
    make = (
        grpc.stream_stream_rpc_method_handler
        if method.client_streaming
        else grpc.unary_unary_rpc_method_handler
    )
    request, reply = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    return make(answer, request.FromString, reply.SerializeToString)


def _refuse(path: str, advice: str) -> Any:
    """Makes a handler that needs no message, so that it serves methods of any kind."""

    async def refuse(_: AsyncIterator[bytes], __: object) -> AsyncIterator[bytes]:
        raise NotServed(f"{path[1:]} is not served here: {advice}")
        yield  # makes it a generator, as gRPC expects of a stream

    return grpc.stream_stream_rpc_method_handler(refuse)
