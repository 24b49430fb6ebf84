"""Messages that never end: what they hold is bounded, and they do not hold it for ever."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from tests.e2e.raw_calls import RawCalls
from tests.serving import Server, resident_bytes
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_protos.v1 import embedding_pb2_grpc as pb_grpc
from unitvec_server.doors.rules import HouseRules
from unitvec_server.rpc.health import Health
from unitvec_server.rpc.interceptor import Edge, Patience
from unitvec_server.rpc.reflection import add_reflection

Start = Callable[..., Server]
Code = grpc.StatusCode

MIB = 2**20
PLACES = 64
"""For checks of health, and for calls as the test asks."""
EMBED = "/unitvec.v1.EmbeddingService/Embed"
LIST_MODELS = "/unitvec.v1.EmbeddingService/ListModels"
CHECK = "/grpc.health.v1.Health/Check"
LONG_METADATA = (("grpc.max_metadata_size", MIB), ("grpc.absolute_max_metadata_size", MIB))


def outcome(server: Server) -> Code:
    """How a call ends."""
    try:
        server.stub.Embed(pb.EmbedRequest(texts=["a cat"]))
    except grpc.RpcError as exc:
        code: Code = exc.code()
        return code
    return Code.OK


def endings(hostile: RawCalls) -> set[Code]:
    """How its calls ended."""
    numbers = {int(status) for status, _ in hostile.outcomes.values()}
    return {code for code in Code if code.value[0] in numbers}


def crowd(server: Server, path: str, count: int) -> RawCalls:
    """So many calls whose messages lack a byte, on a connection of their own."""
    unfinished = b"\0" + MIB.to_bytes(4) + bytes(MIB - 1)
    hostile = RawCalls(server)
    for _ in range(count):
        hostile.send(hostile.begin(path), unfinished)
    hostile.push_until(lambda: len(hostile.outcomes) >= count - PLACES)
    hostile.push_until(hostile.is_all_sent)
    return hostile


def test_calls_beyond_their_places_are_refused_unread(start: Start, artifact: Path) -> None:
    server = start(
        "--model", str(artifact), "--max-calls", str(PLACES), "--max-message-bytes", str(MIB)
    )
    before = resident_bytes(server)
    with contextlib.closing(crowd(server, EMBED, PLACES + 8)) as hostile:
        assert len(hostile.outcomes) == 8
        assert {status for status, _ in hostile.outcomes.values()} == {
            str(Code.RESOURCE_EXHAUSTED.value[0])
        }
        assert resident_bytes(server) - before < 1.5 * PLACES * MIB
    while outcome(server) is not Code.OK:
        pass  # until the server hears that the caller is gone


def test_unfinished_checks_of_health_give_way(start: Start, artifact: Path) -> None:
    """Strangers may send them. The oldest are given up, and probes are answered."""
    server = start(
        "--model", str(artifact), "--max-calls", str(PLACES), "--max-message-bytes", str(MIB)
    )
    before = resident_bytes(server)
    with contextlib.closing(crowd(server, CHECK, PLACES + 8)) as hostile:
        # gRPC hands over calls nearly in the order in which they come, not wholly.
        assert len(set(list(hostile.outcomes)[:8]) & set(range(1, 16, 2))) >= 6
        assert {status for status, _ in hostile.outcomes.values()} == {
            str(Code.DEADLINE_EXCEEDED.value[0])
        }
        stub = health_pb2_grpc.HealthStub(server.channel)
        reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=30)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        assert resident_bytes(server) - before < 1.5 * PLACES * MIB


def test_a_long_message_of_health_is_refused(start: Start, artifact: Path) -> None:
    """A watch would keep it for as long as it lasts."""
    server = start("--model", str(artifact))
    stub = health_pb2_grpc.HealthStub(server.channel)
    request = health_pb2.HealthCheckRequest(service="x" * 2000)
    for call in (lambda: stub.Check(request), lambda: next(stub.Watch(request))):
        with pytest.raises(grpc.RpcError, match="at most 1024 bytes") as caught:
            call()
        assert caught.value.code() is Code.INVALID_ARGUMENT


def house_rules() -> HouseRules:
    """Rules that let one call in at a time."""
    return HouseRules(lambda _: None, max_calls=1, max_unary_bytes=MIB)


@pytest.fixture
async def edge() -> AsyncIterator[tuple[Edge, grpc.aio.Channel]]:
    """An edge that waits for messages for a moment only, and a channel to it."""
    made = Edge(house_rules(), patience=Patience(arrival_s=1))
    server = grpc.aio.server(interceptors=[made])
    pb_grpc.add_EmbeddingServiceServicer_to_server(Models(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield made, channel
    await server.stop(None)


async def test_a_message_that_takes_too_long_frees_its_place(edge: Any) -> None:
    """The caller is told, and the next one gets in."""
    _, channel = edge
    unfinished = channel.stream_unary(LIST_MODELS)()
    with pytest.raises(grpc.aio.AioRpcError, match="took too long to arrive") as caught:
        await unfinished
    assert caught.value.code() is Code.DEADLINE_EXCEEDED
    stub = pb_grpc.EmbeddingServiceStub(channel)
    assert await stub.ListModels(pb.ListModelsRequest()) == pb.ListModelsResponse()


async def test_a_call_that_is_cancelled_while_its_message_arrives(edge: Any) -> None:
    """It is counted as what it is, not as a call without a message."""
    made, channel = edge
    tally = made.tallies[LIST_MODELS]
    unfinished = channel.stream_unary(LIST_MODELS)()
    async with asyncio.timeout(30):
        while not tally.started:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0)
        unfinished.cancel()
        while not tally.handled.total():  # noqa: ASYNC110 - no event
            await asyncio.sleep(0)
    assert tally.handled["CANCELLED"] == 1


def test_a_call_without_a_message_is_refused(start: Start, artifact: Path) -> None:
    server = start("--model", str(artifact))
    call = server.channel.stream_unary(EMBED)
    with pytest.raises(grpc.RpcError, match="the call has no message") as caught:
        call(iter(()))
    assert caught.value.code() is Code.INVALID_ARGUMENT


class Models(pb_grpc.EmbeddingServiceServicer):
    """Serves no models."""

    async def ListModels(self, request: Any, context: Any) -> pb.ListModelsResponse:
        return pb.ListModelsResponse()


@pytest.mark.parametrize(
    "filler",
    [(("filler", "x" * 20_000),), (("filler", "x" * 1000),) * 20],
    ids=["long", "repeated"],
)
async def test_metadata_that_grpc_lets_in_is_refused_before_all_else(
    filler: tuple[tuple[str, str], ...],
) -> None:
    """As it lets in that of a client which has not acknowledged our limit."""
    edge = Edge(house_rules())
    server = grpc.aio.server(interceptors=[edge], options=list(LONG_METADATA))
    pb_grpc.add_EmbeddingServiceServicer_to_server(Models(), server)
    health_pb2_grpc.add_HealthServicer_to_server(Health(), server)
    add_reflection(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        check = health_pb2.HealthCheckRequest()
        for call in (
            channel.stream_unary(LIST_MODELS)(metadata=filler),
            health.Check(check, metadata=filler),
            anext(aiter(health.Watch(check, metadata=filler))),
            anext(aiter(reflect(metadata=filler))),
        ):
            with pytest.raises(grpc.aio.AioRpcError, match="at most 16384 bytes") as caught:
                await call
            assert caught.value.code() is Code.INVALID_ARGUMENT
    await server.stop(None)
