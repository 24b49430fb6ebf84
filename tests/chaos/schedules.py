"""Orders of events on streams, chosen by Hypothesis, against a model of what must come of them."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import grpc
import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tests.chaos.expected import Known
from tests.chaos.strategies import HOSTILE_TEXTS
from unitvec_protos.v1 import embedding_pb2 as pb

TIMEOUT_S = 120.0
_UNDECODABLE = b"\xff" * 9
_END = object()
_BAD: tuple[pb.EmbedRequest, ...] = (
    pb.EmbedRequest(),
    pb.EmbedRequest(texts=["a"], model="no such model"),
    pb.EmbedRequest(texts=["a"], dtype=99),  # type: ignore[arg-type]  # that is the point
    pb.EmbedRequest(texts=["a"], options=pb.EncodeOptions(dimensions=2**32 - 1)),
    pb.EmbedRequest(texts=["a"], options=pb.EncodeOptions(prompt_name="none such")),
)
_INDICES = st.lists(st.integers(0, 19), min_size=1, max_size=4)


class _Stream:
    """A call whose messages are given one at a time, as bytes."""

    def __init__(self, channel: grpc.Channel, method: str, read: Callable[[bytes], Any]) -> None:
        self._outbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        call: Any = channel.stream_stream(
            f"/unitvec.v1.EmbeddingService/{method}", response_deserializer=read
        )
        self.call = call(self._messages(), timeout=TIMEOUT_S)

    def _messages(self) -> Iterator[bytes]:
        while isinstance(message := self._outbox.get(), bytes):
            yield message

    def send(self, message: bytes) -> None:
        self._outbox.put(message)

    def finish(self) -> None:
        self._outbox.put(_END)

    def cancel(self) -> None:
        self.finish()  # lets grpc's own thread go, which waits for a message
        self.call.cancel()


class _Schedule(RuleBasedStateMachine):
    """What both kinds of stream have in common. `bind` gives it a server."""

    channel: ClassVar[grpc.Channel]
    known: ClassVar[Known]
    on_end: ClassVar[Callable[[], None]]
    method: ClassVar[str]
    read_reply: ClassVar[Any]

    def __init__(self) -> None:
        super().__init__()
        self.stream: _Stream | None = None
        self.sent = 0

    def reset(self) -> None:
        """Forgets what was expected."""
        raise NotImplementedError

    def expect(self, reply: Any) -> None:
        """Holds a reply against the model."""
        raise NotImplementedError

    @property
    def owed(self) -> int:
        """Replies that must come."""
        raise NotImplementedError

    def opened(self) -> _Stream:
        """The stream, opened if there is none."""
        if self.stream is None:
            self.reset()
            self.stream = _Stream(self.channel, self.method, type(self).read_reply)
        return self.stream

    def next_id(self) -> str:
        """An id of its own for each request."""
        self.sent += 1
        return str(self.sent)

    @precondition(lambda self: self.stream is not None and self.owed)
    @rule()
    def read(self) -> None:
        """Takes one reply, which must come."""
        self.expect(next(self.opened().call))

    @rule()
    def finish(self) -> None:
        """Sends no more: everything that was sent is answered once, and the status is OK."""
        stream = self.opened()
        stream.finish()
        for reply in stream.call:
            self.expect(reply)
        assert self.owed == 0, f"{self.owed} requests were not answered"
        assert stream.call.code() is grpc.StatusCode.OK
        self.stream = None

    @rule()
    def send_undecodable(self) -> None:
        """Bytes that are no message end the stream, after what came before them is answered."""
        stream = self.opened()
        stream.send(_UNDECODABLE)
        try:
            for reply in stream.call:
                self.expect(reply)
        except grpc.RpcError:
            pass
        assert stream.call.code() is grpc.StatusCode.INVALID_ARGUMENT
        stream.cancel()
        assert self.owed == 0, f"{self.owed} requests were not answered"
        self.stream = None

    @rule()
    def cancel(self) -> None:
        """Goes away, whatever is in flight."""
        self.opened().cancel()
        self.stream = None

    def teardown(self) -> None:
        """Leaves nothing open, and tells that a schedule is over."""
        if self.stream is not None:
            self.stream.cancel()
        type(self).on_end()


class EmbedSchedule(_Schedule):
    """StreamEmbed: each request answered once, by its id, rightly, in any order."""

    method = "StreamEmbed"
    read_reply = pb.StreamEmbedResponse.FromString

    def reset(self) -> None:
        self.pending: dict[str, list[int] | None] = {}

    @property
    def owed(self) -> int:
        return len(self.pending)

    @rule(indices=_INDICES)
    def send_good(self, indices: list[int]) -> None:
        """Known texts."""
        self._send(pb.EmbedRequest(texts=self.known.pick(indices)), indices)

    @rule(request=st.sampled_from(_BAD))
    def send_bad(self, request: pb.EmbedRequest) -> None:
        """What must be refused, alone."""
        self._send(request, None)

    def _send(self, request: pb.EmbedRequest, indices: list[int] | None) -> None:
        stream, name = self.opened(), self.next_id()
        self.pending[name] = indices
        stream.send(pb.StreamEmbedRequest(id=name, request=request).SerializeToString())

    def expect(self, reply: pb.StreamEmbedResponse) -> None:
        indices = self.pending.pop(reply.id)
        assert (indices is None) == (reply.WhichOneof("outcome") == "error"), reply
        if indices is not None:
            data = np.frombuffer(reply.response.embeddings.data, "<f4")
            assert self.known.are_vectors(data.reshape(len(indices), -1), indices), reply.id


class SearchSchedule(_Schedule):
    """StreamSimilarity: replies in order; documents count on; a refused one adds nothing."""

    method = "StreamSimilarity"
    read_reply = pb.StreamSimilarityResponse.FromString

    def reset(self) -> None:
        self.documents: list[int] = []
        self.expected: list[tuple[str, str, Any]] = []

    @property
    def owed(self) -> int:
        return len(self.expected)

    @rule(indices=_INDICES)
    def add_documents(self, indices: list[int]) -> None:
        """Known texts, whose indices go on from the last ones'."""
        added = pb.DocumentsAdded(first_index=len(self._documents()), count=len(indices))
        self._send("documents", added, documents=self._texts(indices))
        self.documents += indices

    @rule(texts=st.lists(st.sampled_from(HOSTILE_TEXTS), min_size=1, max_size=2))
    def add_refused(self, texts: list[str]) -> None:
        """Documents with a prompt that is not there: none is added."""
        options = pb.EncodeOptions(prompt_name="none such")
        operand = pb.Operand(texts=pb.TextList(texts=texts), options=options)
        self._documents()
        self._send("error", None, documents=operand)

    @rule(indices=_INDICES)
    def query(self, indices: list[int]) -> None:
        """Scores with every document so far; without any, an error."""
        documents = list(self._documents())
        query = pb.SimilarityQuery(queries=self._texts(indices))
        self._send("result" if documents else "error", (indices, documents), query=query)

    def _documents(self) -> list[int]:
        self.opened()
        return self.documents

    def _texts(self, indices: list[int]) -> pb.Operand:
        return pb.Operand(texts=pb.TextList(texts=self.known.pick(indices)))

    def _send(self, outcome: str, value: Any, **action: Any) -> None:
        name = self.next_id()
        self.expected.append((name, outcome, value))
        request = pb.StreamSimilarityRequest(id=name, **action)
        self.opened().send(request.SerializeToString())

    def expect(self, reply: pb.StreamSimilarityResponse) -> None:
        name, outcome, value = self.expected.pop(0)
        assert (reply.id, reply.WhichOneof("outcome")) == (name, outcome), reply
        if outcome == "documents":
            assert reply.documents == value
        elif outcome == "result":
            rows, columns = value
            scores = np.frombuffer(reply.result.scores.data, "<f4")
            assert self.known.are_scores(scores.reshape(len(rows), -1), rows, columns)


SCHEDULES: tuple[type[_Schedule], ...] = (EmbedSchedule, SearchSchedule)


def bind(
    machine: type[_Schedule], channel: grpc.Channel, known: Known, on_end: Callable[[], None]
) -> type[_Schedule]:
    """The same machine, playing against this server."""
    bound = {"channel": channel, "known": known, "on_end": staticmethod(on_end)}
    return type(machine.__name__, (machine,), bound)
