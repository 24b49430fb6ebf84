"""The stream's policy against a model server: any order, any refusal, any break."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitvec_client import InputTypeError, ProtocolError, RetryPolicy
from unitvec_client.core.calls import CallContext
from unitvec_client.core.splitting import Budget
from unitvec_client.core.steps import Emit, Poll, Pull, Send
from unitvec_client.methods.streaming import stream_script
from unitvec_client.methods.window import StreamWindow
from unitvec_client.options import StreamOptions
from unitvec_protos.v1 import embedding_pb2 as pb


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def make_window(chunk_texts: int = 3, max_chunks: int = 2, attempts: int = 5) -> StreamWindow:
    policy = RetryPolicy(attempts, initial_backoff_s=0, max_backoff_s=0)
    context = CallContext("id", (), policy, None, Clock())
    budget = Budget(chunk_texts, 10_000, 100, 10_000, 100)
    return StreamWindow(context, StreamOptions(), budget, max_chunks)


def answer(request: pb.StreamEmbedRequest) -> pb.StreamEmbedResponse:
    """One number a text: the text itself. The first bad text of a request refuses it."""
    texts = list(request.request.texts)
    for i, text in enumerate(texts):
        if text.startswith("bad"):
            name = f"texts[{i}]"
            error = pb.Error(code=3, field=name, message=f"{name} is bad")
            return pb.StreamEmbedResponse(id=request.id, error=error)
    data = b"".join(int(text).to_bytes(4, "little") for text in texts)
    matrix = pb.Matrix(rows=len(texts), dim=4, dtype=pb.DTYPE_INT8, data=data)
    matrix.scales.extend([1.0] * len(texts))
    return pb.StreamEmbedResponse(
        id=request.id,
        response=pb.EmbedResponse(embeddings=matrix, usage=pb.Usage(tokens=[1] * len(texts))),
    )


@given(
    st.lists(st.booleans(), max_size=40),
    st.integers(1, 5),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_every_text_gets_its_own_answer_in_order(
    good: list[bool], chunk_texts: int, max_chunks: int, chance: random.Random
) -> None:
    window = make_window(chunk_texts, max_chunks)
    window.options = StreamOptions(dtype="int8")
    source = iter([str(i % 100) if ok else f"bad{i}" for i, ok in enumerate(good)])
    sent: list[pb.StreamEmbedRequest] = []
    items: list[Any] = []
    while not window.done:
        while (item := window.take_item()) is not None:
            items.append(item)
        while window.wants_text:
            text = next(source, None)
            window.end() if text is None else window.feed(text)
        assert window._pulled - window._emitted <= chunk_texts * max_chunks
        while (request := window.take_request()) is not None:
            assert 1 <= len(request.request.texts) <= chunk_texts
            sent.append(request)
        assert len(sent) <= max_chunks
        if sent and chance.random() < 0.2:
            window.resend_unanswered()
            sent.clear()
        elif sent:
            window.on_reply(answer(sent.pop(chance.randrange(len(sent)))))
    assert [item.index for item in items] == list(range(len(good)))
    for item, ok in zip(items, good, strict=True):
        if ok:
            assert item.error is None
            assert item.vector[0] == item.index % 100
        else:
            assert item.vector is None
            assert item.error.field == f"texts[{item.index}]"
            assert item.error.message == f"texts[{item.index}] is bad"


def test_error_without_a_text_goes_to_all_texts_of_its_request() -> None:
    window = make_window()
    for text in "123":
        window.feed(text)
    window.end()
    request = window.take_request()
    assert request is not None
    error = pb.Error(code=3, field="options.dimensions", message="too many")
    window.on_reply(pb.StreamEmbedResponse(id=request.id, error=error))
    fields = [item.error.field for item in iter(window.take_item, None) if item.error]
    assert fields == ["options.dimensions"] * 3
    assert window.done


def test_shed_request_is_sent_again_then_given_up() -> None:
    window = make_window(attempts=3)
    window.feed("1")
    window.end()
    shed = pb.Error(code=8, retry_delay_ms=1, message="full")
    for _ in range(3):
        window.context.clock.now_s += 1  # type: ignore[attr-defined]
        request = window.take_request()
        assert request is not None
        window.on_reply(pb.StreamEmbedResponse(id=request.id, error=shed))
    item = window.take_item()
    assert item is not None
    assert item.error is not None
    assert item.error.retry_delay_s == 0.001


def test_delayed_request_waits_for_its_time() -> None:
    window = make_window()
    window.feed("1")
    window.end()
    request = window.take_request()
    assert request is not None
    shed = pb.Error(code=8, retry_delay_ms=500)
    window.on_reply(pb.StreamEmbedResponse(id=request.id, error=shed))
    assert window.take_request() is None
    assert window.wait_s() == pytest.approx(0.5)
    window.context.clock.now_s += 0.5  # type: ignore[attr-defined]
    assert window.take_request() is not None


def test_unknown_id_and_empty_outcome_are_protocol_errors() -> None:
    window = make_window()
    with pytest.raises(ProtocolError):
        window.on_reply(pb.StreamEmbedResponse(id="7", error=pb.Error(code=3)))
    window.feed("1")
    window.end()
    request = window.take_request()
    assert request is not None
    with pytest.raises(ProtocolError):
        window.on_reply(pb.StreamEmbedResponse(id=request.id))


def test_text_that_is_no_str_raises_and_a_lone_surrogate_is_an_item() -> None:
    window = make_window()
    with pytest.raises(InputTypeError):
        window.feed(b"bytes")
    window.feed("\ud800")
    item = window.take_item()
    assert item is not None
    assert item.error is not None
    assert item.error.field == "texts[0]"


def test_script_sends_and_emits_while_it_pulls() -> None:
    """A server that answers at once, a source that never ends: items come after one chunk."""
    window = make_window(chunk_texts=3, max_chunks=8)
    window.options = StreamOptions(dtype="int8")
    script = stream_script(window)
    replies: deque[pb.StreamEmbedResponse] = deque()
    pulls = 0
    step = next(script)
    while not isinstance(step, Emit):
        result: Any = None
        if isinstance(step, Pull):
            pulls += 1
            result = "1"
        elif isinstance(step, Send):
            replies.append(answer(step.message))
        elif isinstance(step, Poll):
            result = replies.popleft() if replies else None
        step = script.send(result)
    assert pulls == 4
    script.close()
