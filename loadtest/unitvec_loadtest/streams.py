"""Sends requests as messages of long-lived StreamEmbed calls."""

import asyncio
import itertools
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import grpc

from unitvec_loadtest.answers import failed_call, judge_embed, outcome_of
from unitvec_loadtest.results import Answer, Outcome
from unitvec_loadtest.senders import RequestForm
from unitvec_protos.v1 import embedding_pb2 as pb

if TYPE_CHECKING:
    from unitvec_protos.v1.embedding_pb2_grpc import EmbeddingServiceAsyncStub

_STATUS_LOST = "Internal error from Core"
"""What grpc.aio calls a write on a call that has ended (1.81 to 1.85)."""
CLOSE_TIMEOUT_S = 1.0
"""How long a server is given to end a stream whose sending side has ended."""

_OpenCall = Callable[[AsyncIterator[pb.StreamEmbedRequest]], AsyncIterable[pb.StreamEmbedResponse]]
Reply = pb.StreamEmbedResponse | Answer
"""What a message is answered with, or what its stream came to."""


class StreamSender:
    """StreamEmbed over one stream on each stub, in turn."""

    def __init__(self, stubs: "Sequence[EmbeddingServiceAsyncStub]", *, form: RequestForm) -> None:
        self._lanes = [_Lane(stub, metadata=form.metadata) for stub in stubs]
        self._turns = itertools.cycle(self._lanes)
        self._form = form

    async def send(self, texts: Sequence[str]) -> Answer:
        """Embeds some texts by one message.

        The deadline is the load tester's own: a stream has none for a single message.
        """
        request = self._form.embed_request(texts)
        try:
            async with asyncio.timeout(self._form.timeout_s):
                reply = await next(self._turns).ask(request)
        except TimeoutError:
            return Answer(Outcome.DEADLINE_EXCEEDED, message="no reply on the stream in time")
        if isinstance(reply, Answer):
            return reply
        if reply.WhichOneof("outcome") == "error":
            return Answer(outcome_of(reply.error.code), message=reply.error.message)
        return judge_embed(texts, reply.response, references=self._form.references)

    async def close(self) -> None:
        """Ends all streams."""
        await asyncio.gather(*(lane.close() for lane in self._lanes))


class _Lane:
    """One stream at a time: the next message after a stream has ended opens a new one."""

    def __init__(
        self, stub: "EmbeddingServiceAsyncStub", *, metadata: tuple[tuple[str, str], ...]
    ) -> None:
        self._open = partial(stub.StreamEmbed, metadata=metadata)
        self._stream: _Stream | None = None
        self._ids = itertools.count()

    async def ask(self, request: pb.EmbedRequest) -> Reply:
        if self._stream is None or self._stream.ended:
            self._stream = _Stream(self._open)
        message = pb.StreamEmbedRequest(id=str(next(self._ids)), request=request)
        return await self._stream.ask(message)

    async def close(self) -> None:
        if self._stream is not None:
            await self._stream.close()


class _Stream:
    """One StreamEmbed call, from its opening to its end."""

    def __init__(self, open_call: _OpenCall) -> None:
        self._waiting: dict[str, asyncio.Future[Reply]] = {}
        self._outbox: asyncio.Queue[pb.StreamEmbedRequest | None] = asyncio.Queue()
        self._reader = asyncio.create_task(self._read(open_call(self._messages())))

    @property
    def ended(self) -> bool:
        """No further message can be sent."""
        return self._reader.done()

    async def ask(self, message: pb.StreamEmbedRequest) -> Reply:
        """Sends a message and waits for its reply, or for the end of the stream."""
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[message.id] = reply
        self._outbox.put_nowait(message)
        try:
            return await reply
        finally:
            del self._waiting[message.id]

    async def close(self) -> None:
        """Ends the sending side and waits a little for the server to end its own."""
        self._outbox.put_nowait(None)
        _, late = await asyncio.wait({self._reader}, timeout=CLOSE_TIMEOUT_S)
        for reader in late:
            reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _messages(self) -> AsyncIterator[pb.StreamEmbedRequest]:
        """What gRPC sends; it takes the next message when the server has room for it."""
        while (message := await self._outbox.get()) is not None:
            # One whose caller has given up meanwhile is not worth sending.
            if message.id in self._waiting:
                yield message

    async def _read(self, call: AsyncIterable[pb.StreamEmbedResponse]) -> None:
        """Hands out replies; at the end of the stream all who still wait are told of it."""
        try:
            async for reply in call:
                self._hand_out(reply.id, reply)
            end = Answer(Outcome.UNAVAILABLE, message="the server ended the stream")
        except grpc.aio.AioRpcError as exc:
            end = _describe_end(exc)
        finally:
            self._outbox.put_nowait(None)
        for message_id in self._waiting:
            self._hand_out(message_id, end)

    def _hand_out(self, message_id: str, reply: Reply) -> None:
        waiting = self._waiting.get(message_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)


def _describe_end(error: grpc.aio.AioRpcError) -> Answer:
    """Describes what ended a stream.

    A message that is being written when the server ends the stream makes grpc.aio overwrite the
    server's status with one of its own. The server has not said INTERNAL: its status is lost.
    """
    if error.code() is grpc.StatusCode.INTERNAL and error.details() == _STATUS_LOST:
        message = "the stream ended while a message was being sent; its status is not known"
        return Answer(Outcome.UNAVAILABLE, message=message)
    return failed_call(error)
