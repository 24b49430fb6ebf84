"""Too much: of load, of connections, of replies that nobody reads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable
from dataclasses import dataclass

import grpc
import numpy as np

from tests.chaos.expected import Known, probe
from tests.chaos.faults import settle
from tests.chaos.load import Callers
from tests.chaos.replica import Replica, replicas
from tests.chaos.stage import Outcome, Stage
from unitvec_client import AsyncClient
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_protos.v1 import embedding_pb2_grpc as pb_grpc

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""What a client of HTTP/2 says first, with an empty SETTINGS frame."""
_AT_A_TIME = 200

_SILENT_STREAMS = 500
"""Streams that say nothing: each takes one of the `--max-calls` that others need."""


async def slow_reader(stage: Stage) -> Outcome:
    """A client that sends and does not read, beside others; then it reads, and all is right."""
    outcome = Outcome("a client that sends and does not read")
    async with replicas(stage.launch) as (server,), open_stub(server.target) as stub:
        await probe(server.target, stage.known)
        before = server.weigh()
        call, flood = stub.StreamEmbed(), _Flood()
        sender = asyncio.create_task(flood.send(call, stage))
        async with AsyncClient(server.target) as client, _callers(stage, client, outcome):
            await outcome.tally.more(2 * stage.scale.answers)
            outcome.figures["sent_unread"] = flood.sent
            outcome.figures["held_mib"] = (server.weigh().rss_bytes - before.rss_bytes) / 2**20
        right = await _read_all(call, stage.known)
        await sender
        outcome.check(
            kept=right == stage.scale.flood_requests,
            promise=f"{right} of {stage.scale.flood_requests} replies read late were right",
        )
    return outcome


@dataclass
class _Flood:
    """Requests that are sent whether or not replies are read.

    Attributes:
        sent: How many flow control has let through.
    """

    sent: int = 0

    async def send(
        self,
        call: grpc.aio.StreamStreamCall[pb.StreamEmbedRequest, pb.StreamEmbedResponse],
        stage: Stage,
    ) -> None:
        """Sends all of them, in the end."""
        known = stage.known
        while self.sent < stage.scale.flood_requests:
            text = known.texts[self.sent % len(known.texts)]
            request = pb.EmbedRequest(texts=[text])
            await call.write(pb.StreamEmbedRequest(id=str(self.sent), request=request))
            self.sent += 1
        await call.done_writing()


async def _read_all(call: AsyncIterable[pb.StreamEmbedResponse], known: Known) -> int:
    right = 0
    async for reply in call:
        vectors = np.frombuffer(reply.response.embeddings.data, "<f4")
        index = int(reply.id) % len(known.texts)
        right += known.are_vectors(vectors.reshape(1, -1), [index])
    return right


async def half_open(stage: Stage) -> Outcome:
    """Connections that say nothing, that only greet, and calls without a message."""
    outcome = Outcome("connections and streams left half open")
    count = stage.scale.connections // 4
    async with replicas(stage.launch) as (server,), contextlib.AsyncExitStack() as stack:
        await probe(server.target, stage.known)
        before = server.weigh()
        for greeting in (b"", PREFACE[:10], PREFACE):
            await _connect(server, greeting, count=count, stack=stack)
        stub = await stack.enter_async_context(open_stub(server.target))
        silent = [stub.StreamEmbed() for _ in range(min(count, _SILENT_STREAMS))]
        async with AsyncClient(server.target) as client, _callers(stage, client, outcome):
            await outcome.tally.more(stage.scale.answers)
        outcome.figures["half_open"] = 3 * count + len(silent)
        for call in silent:
            call.cancel()
        await stack.aclose()
        await settle(server, descriptors=before.descriptors)
        outcome.weigh(before, server.weigh())
    return outcome


async def connections(stage: Stage) -> Outcome:
    """Many connections that stay, each with a call now and then."""
    outcome = Outcome(f"{stage.scale.connections:,} connections")
    async with replicas(stage.launch) as (server,):
        await probe(server.target, stage.known)
        before = server.weigh()
        await _crowd(server, stage, outcome)
        await settle(server, descriptors=before.descriptors)
        outcome.weigh(before, server.weigh())
        right = await probe(server.target, stage.known)
        outcome.check(kept=right, promise="wrong after the crowd")
    return outcome


async def _crowd(server: Replica, stage: Stage, outcome: Outcome) -> None:
    before = server.weigh()
    async with contextlib.AsyncExitStack() as stack:
        stubs = [
            await stack.enter_async_context(open_stub(server.target))
            for _ in range(stage.scale.connections)
        ]
        for _ in range(2):
            await _each([outcome.tally.judge(_ask(stub, stage.known)) for stub in stubs])
        held = server.weigh()
        outcome.check(
            kept=held.descriptors >= stage.scale.connections,
            promise="the connections did not stay open",
        )
        per_connection = (held.rss_bytes - before.rss_bytes) / stage.scale.connections
        outcome.figures["connection_kib"] = per_connection / 2**10


async def _ask(stub: pb_grpc.EmbeddingServiceAsyncStub, known: Known) -> bool:
    reply = await stub.Embed(pb.EmbedRequest(texts=[known.texts[1]]), wait_for_ready=True)
    vectors = np.frombuffer(reply.embeddings.data, "<f4").reshape(1, -1)
    return known.are_vectors(vectors, [1])


async def _each(calls: list[Awaitable[None]]) -> None:
    """Makes all calls, a bounded number at a time."""
    for at in range(0, len(calls), _AT_A_TIME):
        await asyncio.gather(*calls[at : at + _AT_A_TIME])


async def _connect(
    server: Replica, greeting: bytes, *, count: int, stack: contextlib.AsyncExitStack
) -> None:
    for _ in range(count):
        _, writer = await asyncio.open_connection(server.host, server.port)
        stack.callback(writer.close)
        writer.write(greeting)


@contextlib.asynccontextmanager
async def open_stub(target: str) -> AsyncIterator[pb_grpc.EmbeddingServiceAsyncStub]:
    """A stub over a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        yield pb_grpc.EmbeddingServiceStub(channel)


def _callers(stage: Stage, client: AsyncClient, outcome: Outcome) -> Callers:
    return Callers(client, stage.known, outcome.tally, stage.scale.callers, seed=stage.seed)
