"""Servers in a process of their own, called over gRPC from this one, on the same CPUs."""

from __future__ import annotations

import abc
import asyncio
import sys
import time
from typing import Any

import grpc
import numpy as np

from bench.adapters.our_layers import PACKAGES, server_flags
from bench.harness.adapter import Call, ConcurrentAdapter, Outcome, Setup, Vectors
from bench.harness.server_process import ServerProcess
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_protos.v1.embedding_pb2_grpc import EmbeddingServiceStub

_MAX_MESSAGE_BYTES = 2**30


class _Served(ConcurrentAdapter, abc.ABC):
    """Starts a server, connects before each pass, sends unary calls or one stream."""

    packages = PACKAGES

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.token_limit = setup.max_seq_length
        self._server = ServerProcess(self.command(setup), log=sys.stderr)
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None

    @abc.abstractmethod
    def command(self, setup: Setup) -> list[str]:
        """How the server is started."""

    async def connect(self) -> None:
        """Opens a new channel: keepalive may have closed one that lay asleep."""
        await self._disconnect()
        options = [
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        self._channel = grpc.aio.insecure_channel(self._server.target, options=options)
        self._stub = EmbeddingServiceStub(self._channel)
        await self._channel.channel_ready()

    async def embed(self, texts: list[str]) -> Vectors:
        """One unary call."""
        return _vectors(await self._stub.Embed(pb.EmbedRequest(texts=texts)))

    async def run_requests(self, requests: list[list[str]], call: Call) -> Outcome:
        """Unary calls, or messages of one stream with as many in flight."""
        if call.streamed:
            return await _Stream(self._stub, requests, call.concurrency).run()
        return await super().run_requests(requests, call)

    def close(self) -> None:
        """Ends the server."""
        self.runner.run(self._disconnect())
        self.runner.close()
        self._server.stop()

    async def _disconnect(self) -> None:
        if self._channel is not None:
            await self._channel.close()


class OurServer(_Served):
    """`unitvec-serve` as it is."""

    def command(self, setup: Setup) -> list[str]:
        """Its module, for the console script may be of another environment."""
        flags = server_flags(setup)
        return ["-m", "unitvec_server", "--port", "0", "--log-format", "text", *flags]


class NaiveServer(_Served):
    """The server that people write by hand, see `naive_server`."""

    def command(self, setup: Setup) -> list[str]:
        """Its module with the same artifact and threads."""
        return [
            *("-m", "bench.adapters.naive_server", "--artifact", setup.artifact),
            *("--threads", str(setup.threads), "--style", setup.flavour),
        ]


class _Stream:
    """One StreamEmbed call with a bounded number of messages in flight."""

    def __init__(self, stub: Any, requests: list[list[str]], window: int) -> None:
        self._call = stub.StreamEmbed()
        self._requests = requests
        self._window = asyncio.Semaphore(window)
        self._sent_ns = [0] * len(requests)
        self._latencies_ns = [0] * len(requests)
        self._answers: dict[int, Vectors] = {}

    async def run(self) -> Outcome:
        # Both at once: a writer that no reader drains is stopped by flow control.
        await asyncio.gather(self._write(), self._read())
        vectors = [self._answers[index] for index in range(len(self._requests))]
        return Outcome(np.concatenate(vectors), self._latencies_ns)

    async def _write(self) -> None:
        for index, texts in enumerate(self._requests):
            await self._window.acquire()
            request = pb.EmbedRequest(texts=texts)
            self._sent_ns[index] = time.perf_counter_ns()
            await self._call.write(pb.StreamEmbedRequest(id=str(index), request=request))
        await self._call.done_writing()

    async def _read(self) -> None:
        async for reply in self._call:
            if reply.WhichOneof("outcome") != "response":
                raise RuntimeError(f"request {reply.id} failed: {reply.error.message}")
            index = int(reply.id)
            self._answers[index] = _vectors(reply.response)
            self._latencies_ns[index] = time.perf_counter_ns() - self._sent_ns[index]
            self._window.release()


def _vectors(response: Any) -> Vectors:
    matrix = response.embeddings
    return np.frombuffer(matrix.data, "<f4").reshape(matrix.rows, matrix.dim)
