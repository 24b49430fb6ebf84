"""Connections to the server under test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from unitvec_client.connection import ConnectionOptions, open_aio_channel
from unitvec_loadtest.settings import Settings
from unitvec_protos.v1.embedding_pb2_grpc import EmbeddingServiceStub

if TYPE_CHECKING:
    from unitvec_protos.v1.embedding_pb2_grpc import EmbeddingServiceAsyncStub

CONNECT_TIMEOUT_S = 10.0
"""How long to wait for a connection at most; a shorter --timeout-s wins."""

# Each channel is a connection of its own, and no failure is hidden by a retry inside gRPC.
_CHANNEL_ARGUMENTS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))


class ServerUnreachableError(ConnectionError):
    """No connection to the server came about."""


def connection_options(settings: Settings) -> ConnectionOptions:
    """Translates the flags that concern the connection.

    Raises:
        InputError: They contradict each other, or the token cannot be sent.
    """
    return ConnectionOptions(
        tls=settings.tls,
        root_certificates=settings.root_certificates,
        client_key=settings.client_key,
        client_chain=settings.client_chain,
        token=settings.token,
        extra_options=_CHANNEL_ARGUMENTS,
    )


@contextlib.asynccontextmanager
async def open_stubs(settings: Settings) -> "AsyncIterator[list[EmbeddingServiceAsyncStub]]":
    """Connects all channels, so that no request pays for a handshake.

    Raises:
        ServerUnreachableError: No connection came about in time.
        InputError: A certificate cannot be read.
    """
    options = connection_options(settings)
    async with contextlib.AsyncExitStack() as channels:
        opened = [
            await channels.enter_async_context(open_aio_channel(settings.target, options))
            for _ in range(settings.channels)
        ]
        timeout_s = min(CONNECT_TIMEOUT_S, settings.timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*(channel.channel_ready() for channel in opened))
        except TimeoutError as exc:
            message = f"no connection to {settings.target} within {timeout_s:g} s"
            raise ServerUnreachableError(message) from exc
        yield [EmbeddingServiceStub(channel) for channel in opened]
